"""What is wrong with entries that name addresses is told with its place and what to do."""

import pytest

from fakes.destinations import MESHED, PLAIN, POD, SIDECAR, entry, files, secured, told
from tproxy.model.identity import Workload
from tproxy.policy.service_endpoints import network

STATIC = "resolution: STATIC"
NO_NAME = "is no name of a service: write a DNS name, or `*.suffix`"
NOBODY = "is nobody who could be there: write spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/NAME"


def endpoint(fields: str) -> str:
    """A service with one endpoint."""
    return f"hosts: [a.example], {STATIC}, ports: [{{number: 80, name: http}}], endpoints: [{{{fields}}}]"


@pytest.mark.parametrize(
    ("spec", "finding"),
    [
        pytest.param("hosts: []", "TPX0106 error $.spec.hosts: an empty list would mean anything at all: name what is meant, or leave the field out", id="no hosts"),
        pytest.param('hosts: ["*"]', f"TPX0108 error $.spec.hosts[0]: '*' {NO_NAME}", id="everything"),
        pytest.param("hosts: [a_b.example, a/b]", f"TPX0108 error $.spec.hosts[1]: 'a/b' {NO_NAME}", id="no host"),
        pytest.param("hosts: [a.example], addresses: [a.example]", "TPX0108 error $.spec.addresses[0]: 'a.example' is no address and no network: write 192.0.2.1 or 192.0.2.0/24", id="no address"),
        pytest.param('hosts: [a.example], addresses: ["::ffff:192.0.2.1"]', "TPX0108 error $.spec.addresses[0]: '::ffff:192.0.2.1' is no address and no network: write 192.0.2.1 or 192.0.2.0/24", id="IPv4 in IPv6"),
        pytest.param('hosts: [a.example], addresses: ["fe80::1%eth0"]', "TPX0108 error $.spec.addresses[0]: 'fe80::1%eth0' is no address and no network: write 192.0.2.1 or 192.0.2.0/24", id="a zone"),
        pytest.param("hosts: [a.example], ports: [{number: 80, name: a}, {number: 80, name: b}]", "TPX0109 error $.spec.ports[1].number: is that of $.spec.ports[0] already: a port stands once", id="a number twice"),
        pytest.param("hosts: [a.example], ports: [{number: 80, name: a}, {number: 81, name: a}]", "TPX0109 error $.spec.ports[1].name: is that of $.spec.ports[0] already: a port stands once", id="a name twice"),
        pytest.param("hosts: [a.example], ports: [{number: 65536, name: a}]", "TPX0106 error $.spec.ports[0].number: expected `int` <= 65535", id="no port"),
        pytest.param("hosts: [a.example], resolution: DNS", "TPX0109 error $.spec.resolution: DNS needs the ports at which names are dialled: write spec.ports", id="names without ports"),
        pytest.param('hosts: ["*.example"], resolution: DNS, ports: [{number: 80, name: http}]', "TPX0109 error $.spec.hosts[0]: '*.example' cannot be looked up: write endpoints, or set spec.resolution to NONE", id="a pattern that is looked up"),
        pytest.param("hosts: [a.example], resolution: DNS_ROUND_ROBIN, ports: [{number: 80, name: http}], endpoints: [{address: b.example}, {address: c.example}]", "TPX0109 error $.spec.endpoints: DNS_ROUND_ROBIN has one endpoint at most: set spec.resolution to DNS", id="several names in turn"),
        pytest.param("hosts: [a.example], resolution: DYNAMIC_DNS", "TPX0106 error $.spec.resolution: invalid enum value 'DYNAMIC_DNS': not supported by this version, no name that a request brings along is looked up: write NONE, or DNS with the names", id="names of requests"),
        pytest.param("hosts: [a.example], resolution: DNS, ports: [{number: 80, name: http}], endpoints: [{address: unix:///run/a}]", "TPX0108 error $.spec.endpoints[0].address: 'unix:///run/a' is neither an IP address nor a name that can be looked up", id="a file"),
        pytest.param(f"hosts: [a.example], {STATIC}", "TPX0109 error $.spec.resolution: STATIC needs endpoints: write them, or NONE", id="static without endpoints"),
        pytest.param(f"hosts: [a.example], endpoints: [{{address: {POD}}}]", "TPX0109 error $.spec.endpoints: NONE has no endpoints: set spec.resolution to STATIC, or write addresses", id="endpoints without static"),
        pytest.param("hosts: [a.example], workloadSelector: {labels: {a: b}}", "TPX0103 error $.spec.workloadSelector: 'workloadSelector' is not supported by this version, name the endpoints", id="endpoints by labels"),
        pytest.param("hosts: [a.example], ports: [{number: 80, name: http, targetPort: 81}]", "TPX0222 warning $.spec.ports[0].targetPort: changes nothing, for connections go where they were going (resolution NONE)", id="another port where there are no endpoints"),
        pytest.param("hosts: [a.example], ports: [{number: 81, name: db, protocol: MONGO}]", "TPX0222 warning $.spec.ports[0].protocol: such connections ask for no name, so none is known to be for it: write spec.addresses", id="bytes without addresses"),
        pytest.param("hosts: [a.example], exportTo: [x]", "TPX0106 error $.spec.exportTo[0]: invalid enum value 'x', known are *, .", id="for some"),
        pytest.param('hosts: [a.example], exportTo: [".", "*"]', "TPX0109 error $.spec.exportTo: several words contradict each other: write one", id="for some and for all"),
        pytest.param('hosts: [a.example], exportTo: ["."]', "TPX0110 info $.spec.exportTo: is for workloads of db, this one is in web: not read", id="for others"),
        pytest.param(endpoint(f"address: {POD}, weight: -1"), "TPX0106 error $.spec.endpoints[0].weight: expected `int` >= 0", id="a negative weight"),
        pytest.param(endpoint(f"address: {POD}, weight: 0"), "TPX0222 warning $.spec.endpoints[0].weight: no request goes to an endpoint of weight 0: leave it out when it stays so", id="no weight"),
        pytest.param(endpoint("address: b.example"), "TPX0108 error $.spec.endpoints[0].address: 'b.example' is no IP address: write 192.0.2.1 or 2001:db8::1, or set spec.resolution to DNS", id="an endpoint by name"),
        pytest.param(endpoint("address: 192.0.2.0/24"), "TPX0108 error $.spec.endpoints[0].address: '192.0.2.0/24' is no IP address: write 192.0.2.1 or 2001:db8::1, or set spec.resolution to DNS", id="an endpoint as a network"),
        pytest.param(endpoint(f"address: {POD}, ports: {{web: 8080}}"), "TPX0108 error $.spec.endpoints[0].ports.web: 'web' is none of $.spec.ports: write the name of one of them", id="a port of no service"),
        pytest.param(endpoint(f'address: {POD}, labels: {{"security.istio.io/tlsMode": ISTIO}}'), "TPX0108 error $.spec.endpoints[0].labels.security.istio.io/tlsMode: 'ISTIO' is no mode: write istio where there is a sidecar, disabled or nothing elsewhere", id="no mode"),
        pytest.param(endpoint(f"address: {POD}, {SIDECAR}"), "TPX0222 warning $.spec.endpoints[0].labels.security.istio.io/tlsMode: changes nothing outside the mesh: set spec.location to MESH_INTERNAL", id="a sidecar outside the mesh"),
        pytest.param("hosts: [a.example], subjectAltNames: [a b]", f"TPX0108 error $.spec.subjectAltNames[0]: 'a b' {NOBODY}, or a DNS name", id="nobody"),
        pytest.param(f"subjectAltNames: [b.example], location: MESH_INTERNAL, {endpoint(f'address: {POD}, {SIDECAR}')}", f"TPX0108 error $.spec.subjectAltNames[0]: 'b.example' {NOBODY}", id="a DNS name where a sidecar answers"),
        pytest.param(f"hosts: [a.example], {STATIC}, endpoints: [{{address: {POD}}}, {{address: {POD}}}]", "TPX0109 error $.spec.endpoints[1].address: is named by p.yaml:1 already, and neither is older: name it once", id="an endpoint twice"),
        pytest.param("hosts: [a.example], addresses: [192.0.2.1/24, 192.0.2.0/24]", "TPX0109 error $.spec.addresses[1]: is named by p.yaml:1 already, and neither is older: name it once", id="a network twice"),
    ],
)  # fmt: skip
def test_what_an_entry_cannot_mean_is_told(spec: str, finding: str) -> None:
    found = [each.partition(" ")[2] for each in told(files(entry(spec)))]
    assert finding in found


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(f'addresses: [{POD}, "2001:db8::1", 198.51.100.0/24], hosts: [a.example, "*.b.example"], subjectAltNames: [c.example, spiffe://td/x]', id="addresses"),
        pytest.param(endpoint(f'address: {POD}, ports: {{http: 8080}}, labels: {{"security.istio.io/tlsMode": disabled, a: b}}'), id="an endpoint"),
        pytest.param(f"hosts: [a.example], {STATIC}, addresses: [{POD}], endpoints: [{{address: {POD}}}]", id="an endpoint at the service's address"),
    ],
)  # fmt: skip
def test_what_an_entry_can_mean_is_taken(spec: str) -> None:
    assert told(files(entry(spec))) == []


def test_two_entries_about_one_address_are_refused() -> None:
    found = told(files(MESHED, PLAIN.replace("name: e", "name: f")))
    message = "is named by p.yaml:1 already, and neither is older: name it once"
    place = "$.spec.endpoints[0].address"
    assert found == [f"p.yaml:9:82 TPX0109 error {place}: {message}"]


def test_two_entries_that_expect_others_under_one_name_are_refused() -> None:
    one = entry("hosts: [a.example], subjectAltNames: [b.example]")
    other = entry("hosts: [a.example], subjectAltNames: [c.example]", name="f")
    message = "p.yaml:1 names others for a.example, and neither is older: say it alike"
    (found,) = told(files(one, other))
    assert found == f"p.yaml:9:28 TPX0109 error $.spec.subjectAltNames: {message}"
    assert told(files(one, one.replace("name: e", "name: f"))) == []


def test_two_entries_that_find_one_service_in_other_ways_are_refused() -> None:
    one = entry("hosts: [a.example], ports: [{number: 80, name: http}]")
    other = entry("hosts: [a.example], resolution: DNS, ports: [{number: 80, name: http}]", name="f")  # fmt: skip
    message = "p.yaml:1 says NONE for a.example, and neither is older: say it alike"
    (found,) = told(files(one, other))
    assert found == f"p.yaml:9:28 TPX0109 error $.spec.resolution: {message}"


def test_an_entry_about_a_port_and_one_about_all_others_are_no_contradiction() -> None:
    port = entry(f"hosts: [b.example], addresses: [{POD}], ports: [{{number: 80, name: http}}]", name="f")  # fmt: skip
    assert told(files(MESHED, port)) == []


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param("hosts: [store]", id="a short name"),
        pytest.param(endpoint(f"address: {POD}, serviceAccount: till"), id="a service account"),
    ],
)
def test_the_namespace_of_an_entry_must_be_known(spec: str) -> None:
    (found,) = told(files(entry(spec).replace(", namespace: db", "")), workload=Workload())
    assert "nobody said in which namespace this entry is" in found


def test_nothing_but_entries_is_discovered() -> None:
    (found,) = told(files(secured("a.example", "mode: DISABLE"), discovered=True))
    assert found == (
        "d.yaml:2:1 TPX0107 error $.kind: endpoints are ServiceEntry objects only:"
        " put policies into the policies' directory"
    )
    (unknown,) = told(files("kind: Pod\napiVersion: v1\n", discovered=True))
    assert "unknown kind 'Pod'" in unknown


def test_an_entry_of_one_name_may_be_written_and_discovered() -> None:
    assert told(files(MESHED), files(MESHED, discovered=True)) == []


def test_bits_beside_a_networks_mask_do_not_matter() -> None:
    assert str(network("192.0.2.7/24")) == "192.0.2.0/24"
