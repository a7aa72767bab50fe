"""Who answers whom, on a real kernel, under every engine and in both families."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from fakes.capture_pod import (
    APP,
    PROXY,
    V4,
    V6,
    Addresses,
    Answer,
    Namespace,
    Pod,
    own_xtables_lock,
    populated,
)

pytestmark = [pytest.mark.netns, pytest.mark.slow]

RULES = (
    "--force",
    "--proxy-uid=1337,1400-1410",
    "--proxy-gid=1337,1450",
    "--exclude-uids=2000-2010",
    "--exclude-gids=2020",
    "--exclude-outbound-ports=9100,9200-9210",
    "--exclude-outbound-cidrs=203.0.113.0/28,2001:db8:c::/64",
    "--exclude-inbound-ports=2200",
    "--exclude-inbound-cidrs=198.51.100.3,2001:db8:a::3",
    "--exclude-interfaces=side+",
    "--dns",
)


@pytest.fixture(scope="module")
def lock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with own_xtables_lock(tmp_path_factory.mktemp("lock")):
        yield


@pytest.fixture(scope="module", params=["iptables", "nft", "restore"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def bare(lock: None, engine: str) -> Iterator[Pod]:
    """Everybody listening, no rules."""
    with populated() as made:
        yield made


@pytest.fixture(scope="module")
def captured(bare: Pod, engine: str) -> Pod:
    ran = bare.pod.init("apply", f"--backend={engine}", *RULES)
    assert (ran.code, ran.err) == (0, "")
    return bare


@dataclass(frozen=True, slots=True)
class Case:
    """One dial: from where, as whom, to whom; and who must answer."""

    to: str
    """A field of Addresses."""
    port: int
    who: str
    uid: int = 0
    gid: int = 0
    source: str | None = None
    proto: str = "tcp"
    kept: bool = False
    """The listener must be able to tell where the connection was going."""


OUTWARDS = [
    pytest.param(Case("far", 8080, "outbound", kept=True), id="open port, as root"),
    pytest.param(
        Case("far", 8080, "outbound", uid=APP, gid=APP, kept=True), id="open port, as app"
    ),
    pytest.param(Case("far", 7777, "outbound", kept=True), id="closed port"),
    pytest.param(Case("peer", 8080, "outbound", kept=True), id="the next pod"),
    pytest.param(Case("far", 8080, "peer", uid=PROXY), id="the proxy by uid"),
    pytest.param(Case("far", 8080, "peer", uid=1405), id="the proxy by a range of uids"),
    pytest.param(Case("far", 8080, "outbound", uid=1411, kept=True), id="beside the range of uids"),
    pytest.param(Case("far", 8080, "peer", uid=APP, gid=1450), id="the proxy by its second gid"),
    pytest.param(Case("far", 8080, "peer", uid=2005), id="excluded uid"),
    pytest.param(Case("far", 8080, "peer", uid=APP, gid=2020), id="excluded gid"),
    pytest.param(Case("far", 9100, "peer"), id="excluded port"),
    pytest.param(Case("far", 9205, "peer"), id="excluded range"),
    pytest.param(Case("excluded_far", 8080, "peer"), id="excluded network"),
    pytest.param(Case("side_peer", 8080, "peer"), id="excluded interface"),
    pytest.param(Case("loopback", 8080, "app"), id="localhost"),
    pytest.param(Case("pod", 8080, "app"), id="own address"),
    pytest.param(Case("loopback", 8080, "app", uid=PROXY), id="the proxy to the app on localhost"),
    pytest.param(Case("pod", 8080, "inbound", uid=PROXY, kept=True), id="self-call"),
    pytest.param(Case("pod", 8081, "own", uid=PROXY, source="delivery"), id="delivery from ::6"),
    pytest.param(Case("loopback", 15001, "outbound", kept=True), id="the outbound port itself"),
    pytest.param(Case("far", 53, "dns", uid=APP, proto="udp"), id="DNS by UDP"),
    pytest.param(Case("far", 53, "dns", uid=APP), id="DNS by TCP"),
    pytest.param(Case("resolver", 53, "dns", uid=2, proto="udp"), id="DNS on loopback by UDP"),
    pytest.param(Case("resolver", 53, "dns", uid=2), id="DNS on loopback by TCP"),
    pytest.param(Case("far", 53, "peer", uid=PROXY, proto="udp"), id="the proxy's DNS"),
    pytest.param(Case("resolver", 53, "resolver", uid=PROXY, proto="udp"), id="the proxy's, local"),
    pytest.param(Case("far", 53, "peer", uid=2005, proto="udp"), id="DNS of an excluded uid"),
]

INWARDS = [
    pytest.param(Case("pod", 8080, "inbound", kept=True), id="open port"),
    pytest.param(Case("pod", 7777, "inbound", kept=True), id="closed port"),
    pytest.param(Case("pod", 2200, "app"), id="excluded port"),
    pytest.param(Case("pod", 15021, "health"), id="health port"),
    pytest.param(Case("pod", 15000, "ConnectionRefusedError"), id="admin port"),
    pytest.param(Case("pod", 8080, "app", source="quiet_peer"), id="excluded source"),
    pytest.param(Case("side_pod", 8080, "app"), id="excluded interface"),
    pytest.param(Case("pod", 15001, "inbound", kept=True), id="the outbound port from outside"),
    pytest.param(Case("pod", 15006, "inbound", kept=True), id="the inbound port itself"),
]

FAMILIES = [pytest.param(V4, id="IPv4"), pytest.param(V6, id="IPv6")]


def played(case: Case, addresses: Addresses, where: Namespace) -> None:
    """Dial as the case says and compare."""
    to = getattr(addresses, case.to)
    source = None if case.source is None else (getattr(addresses, case.source), 0)
    met = where.dial(to, case.port, uid=case.uid, gid=case.gid, source=source, proto=case.proto)
    assert met.who == case.who
    if case.kept:
        assert met.original == (to, case.port)


@pytest.mark.parametrize("addresses", FAMILIES)
@pytest.mark.parametrize("case", OUTWARDS)
def test_outwards(captured: Pod, addresses: Addresses, case: Case) -> None:
    played(case, addresses, captured.pod)


@pytest.mark.parametrize("addresses", FAMILIES)
@pytest.mark.parametrize("case", INWARDS)
def test_inwards(captured: Pod, addresses: Addresses, case: Case) -> None:
    played(case, addresses, captured.peer)


def test_all_of_loopback_stays_local(captured: Pod) -> None:
    assert captured.pod.dial("127.0.0.2", 8080).who == "app"


@pytest.mark.parametrize("addresses", FAMILIES)
def test_dns_of_proxy_and_application_from_one_source_port_are_two_flows(
    captured: Pod, addresses: Addresses
) -> None:
    asked = {
        uid: captured.pod.dial(
            addresses.far, 53, uid=uid, source=(addresses.pod, 5353), proto="udp"
        ).who
        for uid in (APP, PROXY)
    }
    assert asked == {APP: "dns", PROXY: "peer"}


def test_what_stands_is_what_was_planned(captured: Pod, engine: str) -> None:
    # The proxy's ports are taken here, so verifying gets as far as its dials, and no further.
    ran = captured.pod.init("verify", *RULES[1:])
    assert ran.code == 6
    assert "port 15001 cannot be listened on" in ran.err


@pytest.fixture
def reapplied(bare: Pod, engine: str) -> Iterator[Pod]:
    """The pod, for tests that apply rules of their own."""
    yield bare
    assert bare.pod.init("cleanup").code == 0


@pytest.mark.parametrize("addresses", FAMILIES)
def test_tproxy_keeps_the_destination_as_the_socket_s_own_name(
    reapplied: Pod, engine: str, addresses: Addresses
) -> None:
    ran = reapplied.pod.init("apply", f"--backend={engine}", "--inbound-mode=tproxy", *RULES)
    assert (ran.code, ran.err) == (0, "")
    for port in (8080, 7777):
        met = reapplied.peer.dial(addresses.pod, port)
        assert (met.who, met.local) == ("inbound", (addresses.pod, port))
    for case in INWARDS[2:7]:
        played(case.values[0], addresses, reapplied.peer)
    for case in OUTWARDS[:20]:
        played(case.values[0], addresses, reapplied.pod)


INCLUSIONS = [
    pytest.param(
        ("--include-outbound-ports=8080",),
        {("far", 8080): "outbound", ("far", 9100): "peer"},
        id="ports",
    ),
    pytest.param(
        ("--include-outbound-cidrs=203.0.113.64/26,2001:db8:d::/48",),
        {("far", 8080): "outbound", ("peer", 8080): "peer"},
        id="networks",
    ),
    pytest.param(
        (
            "--include-outbound-ports=9100",
            "--exclude-outbound-cidrs=203.0.113.0/24,2001:db8:d::/48",
        ),
        {("far", 9100): "outbound", ("far", 8080): "peer"},
        id="a port in an excluded network",
    ),
    pytest.param(
        ("--include-interfaces=net+",),
        {("far", 8080): "outbound", ("side_peer", 8080): "peer"},
        id="interfaces",
    ),
    pytest.param(("--include-uids=1-99",), {("far", 8080): "peer"}, id="other uids"),
    pytest.param(("--include-gids=0",), {("far", 8080): "outbound"}, id="gids"),
]


@pytest.mark.parametrize(("flags", "expected"), INCLUSIONS)
def test_inclusions_outwards(
    reapplied: Pod, engine: str, flags: tuple[str, ...], expected: dict[tuple[str, int], str]
) -> None:
    assert reapplied.pod.init("apply", f"--backend={engine}", "--force", *flags).code == 0
    for addresses in (V4, V6):
        for (to, port), who in expected.items():
            assert reapplied.pod.dial(getattr(addresses, to), port).who == who


def test_inclusions_inwards(reapplied: Pod, engine: str) -> None:
    flags = ("--include-inbound-ports=2200", "--include-interfaces=net0")
    assert reapplied.pod.init("apply", f"--backend={engine}", "--force", *flags).code == 0
    for addresses in (V4, V6):
        assert reapplied.peer.dial(addresses.pod, 2200) == Answer(
            "inbound", (addresses.pod, 2200), (addresses.pod, 15006)
        )
        assert reapplied.peer.dial(addresses.pod, 8080).who == "app"
        assert reapplied.peer.dial(addresses.side_pod, 2200).who == "app"
