"""How connections to destinations are secured: Istio's documented outcomes, row by row, on compiled files."""

import pytest

from fakes.destinations import (
    EXTERNAL,
    IN_MESH,
    MESHED,
    OTHER,
    PLAIN,
    POD,
    SIDECAR,
    STORE,
    TILL,
    UNNAMED,
    VIP,
    WORKLOAD,
    at_address,
    entry,
    files,
    meshed,
    rule,
    secured,
    simple,
    snapshot,
    taken,
    tls,
)
from tproxy.model.address import Address
from tproxy.model.flow import Direction, Flow, Protocol
from tproxy.model.identity import Workload
from tproxy.model.route import Route
from tproxy.model.upstream_tls import TlsMode, UpstreamTls
from tproxy.policy.snapshot import Snapshot

ISTIO = "mode: ISTIO_MUTUAL"


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        pytest.param([MESHED], meshed(), id="an endpoint with a sidecar is spoken to by mutual TLS, as its service account"),
        pytest.param([PLAIN], None, id="one without is not"),
        pytest.param([MESHED.replace("MESH_INTERNAL", "MESH_EXTERNAL")], None, id="nor is one outside the mesh"),
        pytest.param([MESHED.replace("serviceAccount: till, ", "")], UpstreamTls(mode=TlsMode.ISTIO_MUTUAL, server_name=STORE), id="without a service account anybody of the mesh may answer"),
        pytest.param([MESHED.replace("hosts:", "subjectAltNames: [spiffe://td/ns/a/sa/b], hosts:")], meshed(STORE, "spiffe://td/ns/a/sa/b"), id="the entry's names win over the service account"),
        pytest.param([MESHED.replace("hosts: [store]", 'hosts: ["*.example", b.example]')], meshed("b.example"), id="the first host that is no pattern is asked for"),
        pytest.param([MESHED.replace("hosts: [store]", 'hosts: ["*.example"]')], meshed(""), id="of patterns nobody is asked for"),
        pytest.param([MESHED, secured("store.db.svc.cluster.local", "mode: DISABLE")], None, id="DISABLE wins over automatic mutual TLS"),
        pytest.param([MESHED, rule(f"host: {STORE}")], meshed(), id="a rule that says nothing of TLS leaves it automatic"),
        pytest.param([PLAIN, secured(STORE, ISTIO)], meshed(), id="ISTIO_MUTUAL expects the endpoint's service account"),
        pytest.param([MESHED, secured(STORE, f"{ISTIO}, subjectAltNames: [spiffe://td/ns/a/sa/b], sni: c.example")], meshed("c.example", "spiffe://td/ns/a/sa/b"), id="unless it names somebody"),
        pytest.param([MESHED, secured(STORE, "mode: SIMPLE")], simple(STORE), id="SIMPLE expects the name"),
        pytest.param([PLAIN.replace("hosts:", "subjectAltNames: [x.example], hosts:"), secured(STORE, "mode: SIMPLE, caCertificates: /ca")], UpstreamTls(mode=TlsMode.SIMPLE, server_name=STORE, subject_alt_names=("x.example",), ca_certificates="/ca"), id="or whom the entry names"),
        pytest.param([PLAIN.replace("hosts:", "subjectAltNames: [x.example], hosts:"), secured(STORE, "mode: SIMPLE, subjectAltNames: [y.example]")], simple(STORE, "y.example"), id="or whom the rule names"),
        pytest.param([PLAIN.replace("hosts:", "subjectAltNames: [x.example], hosts:"), secured(STORE, "mode: SIMPLE, insecureSkipVerify: true")], UpstreamTls(mode=TlsMode.SIMPLE, server_name=STORE, insecure_skip_verify=True), id="or nobody if verification is skipped"),
        pytest.param([MESHED, secured(STORE, "mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /a, caCrl: /r")], UpstreamTls(mode=TlsMode.MUTUAL, server_name=STORE, client_certificate="/c", private_key="/k", ca_certificates="/a", ca_crl="/r"), id="MUTUAL shows a certificate from files"),
        pytest.param([MESHED, secured(STORE, "mode: SIMPLE, clientCertificate: /c, privateKey: /k")], simple(STORE), id="SIMPLE shows none"),
        pytest.param(["apiVersion: tproxy.io/v1alpha1\nkind: ProxyConfig\nspec: {trustDomain: td.example}\n", MESHED], meshed(STORE, "spiffe://td.example/ns/db/sa/till"), id="service accounts are of the trust domain"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "host", [pytest.param(None, id="bytes"), pytest.param("evil.example", id="a Host of others")]
)
def test_an_address_that_an_entry_names_is_secured_by_its_names(
    documents: list[str], expected: UpstreamTls | None, host: str | None
) -> None:
    assert tls(snapshot(*documents), host) == expected


@pytest.mark.parametrize(
    ("documents", "automatic"),
    [
        pytest.param([MESHED], True, id="a sidecar answers"),
        pytest.param([MESHED, secured(STORE, ISTIO)], False, id="a rule says so"),
    ],
)
def test_what_no_rule_asks_for_is_told_apart(documents: list[str], automatic: bool) -> None:
    here = Address(POD, 80)
    to = Flow(Direction.OUTBOUND, here, here, here)
    found = snapshot(*documents).route(to).tls
    assert found is not None
    assert found.automatic is automatic


def test_an_authority_that_can_name_nobody_is_not_looked_up() -> None:
    policies = snapshot(secured("*", ISTIO), secured("*.example", "mode: SIMPLE", name="s"))
    assert tls(policies, "." * 60_000) == tls(policies)
    named = tls(policies, f"{'a' * 63}.example:65535")
    assert named is not None
    assert named.mode is TlsMode.SIMPLE


def test_an_applications_own_tls_is_wrapped_as_anything_else() -> None:
    assert tls(snapshot(MESHED), protocol=Protocol.TLS) == meshed()


def picked(*rules: str, host: str | None, workload: Workload = WORKLOAD) -> str | None:
    """The name that the rule asks for which is about a request to an address that nobody named."""
    found = tls(snapshot(*rules, workload=workload), host, to=UNNAMED)
    return None if found is None else found.server_name


def named(host: str, name: str, *, namespace: str = "web", more: str = "") -> str:
    """A rule about a host that can be told by its SNI."""
    policy = f"trafficPolicy: {{tls: {{mode: ISTIO_MUTUAL, sni: {name}}}}}"
    return rule(f'host: "{host}", {policy}{more}', name=name, namespace=namespace)


@pytest.mark.parametrize(
    ("rules", "host", "name"),
    [
        pytest.param([named("a.example", "a")], "a.example", "a", id="the authority is the name"),
        pytest.param([named("a.example", "a")], "A.Example:8080", "a", id="without its port, in any case"),
        pytest.param([named("a.example", "a")], "a.example.", "a", id="without the root's dot"),
        pytest.param([named("a.example", "a")], "b.example", None, id="and no other"),
        pytest.param([named("A.Example", "a")], "a.example", "a", id="a rule's host is in any case too"),
        pytest.param([named("store", "a")], "store.web.svc.cluster.local", "a", id="a short host is of the rule's namespace"),
        pytest.param([named("store", "a")], "store", "a", id="a short authority is of the workload's"),
        pytest.param([named("store.db.svc.cluster.local", "a")], "store.db.svc", "a", id="a name may leave the cluster's domain out"),
        pytest.param([named("*.svc.cluster.local", "a")], "store.db", None, id="two parts may be of the Internet"),
        pytest.param([named("192.0.2.1", "a")], "192.0.2.1:80", "a", id="an address is a name"),
        pytest.param([named("*", "a")], "[2001:db8::1]:80", "a", id="and is met by everything"),
        pytest.param([named("*.example", "a")], "x.y.example", "a", id="a pattern is about all below it"),
        pytest.param([named("*.example", "a")], "example", None, id="and not about what it is below"),
        pytest.param([named("*.example", "a"), named("*.y.example", "b"), named("*", "c")], "x.y.example", "b", id="the longest pattern decides"),
        pytest.param([named("*.y.example", "b"), named("x.y.example", "a")], "x.y.example", "a", id="the whole name before any pattern"),
        pytest.param([named("*", "c"), named("a.example", "a")], "b.example", "c", id="everything is the last"),
        pytest.param([named("*", "c"), named("a.example", "a")], None, "c", id="a connection without a name meets everything"),
        pytest.param([named("a.example", "a"), named("*.example", "b")], None, None, id="and nothing else"),
        pytest.param([named("*", "c")], "", "c", id="nor does a request without authority"),
    ],
)  # fmt: skip
def test_a_rule_is_about_what_a_request_asks_for(
    rules: list[str], host: str | None, name: str | None
) -> None:
    assert picked(*rules, host=host) == name


LOCAL = ', exportTo: ["."]'


def selecting(app: str) -> str:
    """What has a rule be about some workloads of its namespace only."""
    return f", workloadSelector: {{matchLabels: {{app: {app}}}}}"


ROOTED = Workload("gate", "istio-system", "gate", labels={"app": "gate"})


@pytest.mark.parametrize(
    ("rules", "name"),
    [
        pytest.param([named(STORE, "root", namespace="istio-system"), named(STORE, "service", namespace="db"), named(STORE, "own")], "own", id="the workload's namespace first"),
        pytest.param([named(STORE, "root", namespace="istio-system"), named(STORE, "service", namespace="db")], "service", id="then the service's"),
        pytest.param([named(STORE, "root", namespace="istio-system"), named(STORE, "another", namespace="x")], "root", id="then the root, and no other"),
        pytest.param([named(STORE, "service", namespace="db"), named("*", "own")], "own", id="a pattern of one's own before a whole name of others"),
        pytest.param([named(STORE, "service", namespace="db", more=LOCAL)], None, id="others' rules for themselves are not read"),
        pytest.param([named(STORE, "own", more=LOCAL)], "own", id="one's own are"),
        pytest.param([named(STORE, "own", more=', exportTo: ["*"]')], "own", id="as are those for everybody"),
        pytest.param([named(STORE, "some", more=selecting("shop")), named(STORE, "own")], "some", id="a rule that selects the workload before one that selects all"),
        pytest.param([named(STORE, "some", more=selecting("other")), named(STORE, "own")], "own", id="one that selects others is not read"),
        pytest.param([named(STORE, "service", namespace="db", more=selecting("shop"))], None, id="selectors end at their namespace"),
    ],
)  # fmt: skip
def test_the_nearest_namespace_decides(rules: list[str], name: str | None) -> None:
    assert picked(*rules, host=STORE) == name


def test_in_the_root_namespace_what_is_for_all_of_the_mesh_comes_last() -> None:
    everybody = named("*", "root", namespace="istio-system")
    service = named(STORE, "service", namespace="db")
    assert picked(everybody, service, host=STORE, workload=ROOTED) == "service"
    own = named("*", "own", namespace="istio-system", more=LOCAL)
    own = own.replace('"*"', '"*.local"')
    assert picked(everybody, service, own, host=STORE, workload=ROOTED) == "own"
    assert picked(everybody, host=STORE, workload=ROOTED) == "root"


PORTS = rule(
    f"host: {STORE}, trafficPolicy: {{tls: {{mode: SIMPLE}}, portLevelSettings: ["
    "{port: {number: 81}, tls: {mode: DISABLE}}, {port: {number: 82}}]}"
)


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        pytest.param(80, simple(STORE), id="what holds for all"),
        pytest.param(81, None, id="what holds for one"),
        pytest.param(82, meshed(), id="a port inherits nothing"),
    ],
)
def test_what_holds_for_a_port_replaces_what_holds_for_all(
    port: int, expected: UpstreamTls | None
) -> None:
    assert tls(snapshot(MESHED, PORTS), port=port) == expected
    unnamed = tls(snapshot(PORTS), STORE, port=port, to=UNNAMED)
    assert unnamed == (expected if port == 80 else None)


SERVICE = entry(
    f"hosts: [store], {IN_MESH}, addresses: [{VIP}, 198.51.100.128/25],"
    " ports: [{number: 80, name: http, targetPort: 8080}, {number: 81, name: more}],"
    f" endpoints: [{{address: {POD}, serviceAccount: till, ports: {{more: 9090}}, {SIDECAR}}},"
    f" {{address: {OTHER}, serviceAccount: desk, {SIDECAR}}}]"
)
BOTH = meshed(STORE, TILL, "spiffe://cluster.local/ns/db/sa/desk")


@pytest.mark.parametrize(
    ("to", "port", "expected"),
    [
        pytest.param(POD, 8080, meshed(), id="an endpoint's port is the target port"),
        pytest.param(POD, 80, None, id="the service's is nobody's there"),
        pytest.param(POD, 9090, meshed(), id="an endpoint numbers its own ports"),
        pytest.param(OTHER, 81, meshed(STORE, "spiffe://cluster.local/ns/db/sa/desk"), id="the number is the same otherwise"),
        pytest.param(VIP, 80, BOTH, id="behind the service's address is any endpoint"),
        pytest.param(VIP, 8080, None, id="on the service's ports"),
        pytest.param("198.51.100.200", 81, BOTH, id="a network is an address of the service"),
        pytest.param("198.51.100.2", 80, None, id="and what is beside it is not"),
        pytest.param("2001:db8::1", 80, None, id="nor is another family"),
    ],
)  # fmt: skip
def test_ports_are_numbered_by_the_service_and_by_its_endpoints(
    to: str, port: int, expected: UpstreamTls | None
) -> None:
    assert at_address(snapshot(SERVICE), to=to, port=port) == expected


def test_port_settings_are_about_the_services_own_number() -> None:
    policies = snapshot(SERVICE, PORTS)
    assert tls(policies, to=POD, port=8080) == simple(STORE)
    assert tls(policies, to=POD, port=9090) is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param((f"serviceAccount: desk, {SIDECAR}", "serviceAccount: desk"), None, id="one without a sidecar speaks plaintext"),
        pytest.param(("serviceAccount: desk, ", ""), UpstreamTls(mode=TlsMode.ISTIO_MUTUAL, server_name=STORE), id="one without a service account may be anybody"),
        pytest.param(("hosts:", "subjectAltNames: [spiffe://td/ns/a/sa/b], hosts:"), meshed(STORE, "spiffe://td/ns/a/sa/b"), id="the entry names who it is"),
    ],
)  # fmt: skip
def test_at_a_services_address_holds_what_holds_at_every_endpoint(
    change: tuple[str, str], expected: UpstreamTls | None
) -> None:
    assert at_address(snapshot(SERVICE.replace(*change)), to=VIP) == expected


@pytest.mark.parametrize(
    ("host", "name"),
    [
        pytest.param("b.example", "b.example", id="one of its names"),
        pytest.param(
            "x.c.example:80", "x.c.example", id="a name that one of its patterns is about"
        ),
        pytest.param("evil.example", "a.example", id="another name"),
        pytest.param("*.c.example", "a.example", id="a pattern"),
        pytest.param("a/b.c.example", "a.example", id="no name"),
        pytest.param("", "a.example", id="nothing"),
        pytest.param(None, "a.example", id="a connection without a name"),
    ],
)
def test_of_an_entrys_names_a_request_may_choose_which_one_must_be_proven(
    host: str | None, name: str
) -> None:
    policies = snapshot(EXTERNAL, secured("*.example", "mode: SIMPLE"))
    assert tls(policies, host) == simple(name)


def test_a_rule_about_a_whole_name_of_an_entry_comes_before_patterns() -> None:
    policies = snapshot(EXTERNAL, named("*.example", "any"), named("b.example", "b"))
    found = tls(policies)
    assert found is not None
    assert found.server_name == "b"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        pytest.param("a.example", simple("a.example", "proof.example"), id="named"),
        pytest.param("192.0.2.200", simple(""), id="an address cannot be asked for"),
        pytest.param("d.example", simple("d.example"), id="not named"),
    ],
)
def test_an_entry_without_addresses_says_who_its_hosts_are(
    host: str, expected: UpstreamTls
) -> None:
    only = entry("hosts: [a.example], subjectAltNames: [proof.example]", namespace="partners")
    policies = snapshot(only, secured("*", "mode: SIMPLE"))
    assert tls(policies, host, to=UNNAMED) == expected
    theirs = snapshot(only, secured("a.example", "mode: SIMPLE", namespace="partners"))
    assert (tls(theirs, host, to=UNNAMED) == expected) is (host == "a.example")


def test_nobody_knows_the_namespace_of_a_name_when_nobody_said_the_workloads() -> None:
    policies = snapshot(secured("*.local", "mode: SIMPLE").replace(", namespace: web", ""), workload=Workload())  # fmt: skip
    assert tls(policies, "store", to=UNNAMED) is None


def test_policies_win_over_what_is_discovered() -> None:
    discovered = files(MESHED, entry(f"hosts: [other], {IN_MESH}, endpoints: [{{address: {OTHER}, {SIDECAR}}}]", name="o"), discovered=True)  # fmt: skip
    assert tls(taken(discovered)) == meshed()
    both = taken(files(PLAIN), discovered)
    assert tls(both) is None
    assert tls(both, to=OTHER) is not None


def test_what_comes_in_is_never_secured_by_these_rules() -> None:
    policies = snapshot(MESHED, secured("*", "mode: SIMPLE"))
    here = Address(POD, 80)
    assert policies.route(Flow(Direction.INBOUND, here, here, here)).tls is None


def test_the_way_of_a_secured_connection_is_otherwise_the_same() -> None:
    here = Address(POD, 80)
    flow = Flow(Direction.OUTBOUND, here, here, here)
    without, policies = Snapshot(1).route(flow), snapshot(MESHED, secured(STORE, ISTIO))
    assert policies.route(flow) == Route(without.name, without.cluster, None, meshed())
    assert policies.route(flow) is policies.route(flow)


def test_what_is_known_is_shown() -> None:
    book = snapshot(MESHED, secured(STORE, "mode: SIMPLE")).destinations
    assert book is not None
    assert book.describe() == {
        "rules": [{"host": STORE, "rule": "web/r", "place": "p.yaml:9"}],
        "entries": [{"entry": "db/e", "place": "p.yaml:1", "hosts": (STORE,)}],
    }
