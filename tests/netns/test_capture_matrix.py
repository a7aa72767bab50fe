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


@pytest.fixture(scope="module", autouse=True)
def lock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with own_xtables_lock(tmp_path_factory.mktemp("lock")):
        yield


@pytest.fixture(scope="module", params=["iptables", "nft", "restore"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def bare() -> Iterator[Pod]:
    """Everybody listening, no rules."""
    with populated() as made:
        yield made


@pytest.fixture(scope="module")
def captured(bare: Pod, engine: str) -> Iterator[Pod]:
    ran = bare.pod.init("apply", f"--backend={engine}", *RULES)
    assert (ran.code, ran.err) == (0, "")
    yield bare
    assert bare.pod.init("cleanup").code == 0


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


OUTWARDS = {
    "open port, as root": Case("far", 8080, "outbound", kept=True),
    "open port, as app": Case("far", 8080, "outbound", uid=APP, gid=APP, kept=True),
    "closed port": Case("far", 7777, "outbound", kept=True),
    "the next pod": Case("peer", 8080, "outbound", kept=True),
    "the proxy by uid": Case("far", 8080, "peer", uid=PROXY),
    "the proxy by a range of uids": Case("far", 8080, "peer", uid=1405),
    "beside the range of uids": Case("far", 8080, "outbound", uid=1411, kept=True),
    "the proxy by its second gid": Case("far", 8080, "peer", uid=APP, gid=1450),
    "excluded uid": Case("far", 8080, "peer", uid=2005),
    "excluded gid": Case("far", 8080, "peer", uid=APP, gid=2020),
    "excluded port": Case("far", 9100, "peer"),
    "excluded range": Case("far", 9205, "peer"),
    "excluded network": Case("excluded_far", 8080, "peer"),
    "excluded interface": Case("side_peer", 8080, "peer"),
    "localhost": Case("loopback", 8080, "app"),
    "own address": Case("pod", 8080, "app"),
    "the proxy to the app on localhost": Case("loopback", 8080, "app", uid=PROXY),
    "self-call": Case("pod", 8080, "inbound", uid=PROXY, kept=True),
    "delivery from ::6": Case("pod", 8081, "own", uid=PROXY, source="delivery"),
    "the outbound port itself": Case("loopback", 15001, "outbound", kept=True),
    "DNS by UDP": Case("far", 53, "dns", uid=APP, proto="udp"),
    "DNS by TCP": Case("far", 53, "dns", uid=APP),
    "DNS on loopback by UDP": Case("resolver", 53, "dns", uid=2, proto="udp"),
    "DNS on loopback by TCP": Case("resolver", 53, "dns", uid=2),
    "the proxy's DNS": Case("far", 53, "peer", uid=PROXY, proto="udp"),
    "the proxy's, local": Case("resolver", 53, "resolver", uid=PROXY, proto="udp"),
    "DNS of an excluded uid": Case("far", 53, "peer", uid=2005, proto="udp"),
}

INWARDS = {
    "open port": Case("pod", 8080, "inbound", kept=True),
    "closed port": Case("pod", 7777, "inbound", kept=True),
    "excluded port": Case("pod", 2200, "app"),
    "health port": Case("pod", 15021, "health"),
    "admin port": Case("pod", 15000, "ConnectionRefusedError"),
    "excluded source": Case("pod", 8080, "app", source="quiet_peer"),
    "excluded interface": Case("side_pod", 8080, "app"),
    "the outbound port from outside": Case("pod", 15001, "inbound", kept=True),
    "the inbound port itself": Case("pod", 15006, "inbound", kept=True),
}

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
@pytest.mark.parametrize("case", OUTWARDS.values(), ids=OUTWARDS)
def test_outwards(captured: Pod, addresses: Addresses, case: Case) -> None:
    played(case, addresses, captured.pod)


@pytest.mark.parametrize("addresses", FAMILIES)
@pytest.mark.parametrize("case", INWARDS.values(), ids=INWARDS)
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


def test_what_stands_is_what_was_planned(captured: Pod) -> None:
    # The proxy's ports are taken here, so verifying gets as far as its dials, and no further.
    ran = captured.pod.init("verify", *RULES[1:])
    assert ran.code == 6
    assert "port 15001 cannot be listened on" in ran.err


@pytest.fixture
def reapplied(bare: Pod) -> Iterator[Pod]:
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
    for name in (
        "excluded port",
        "health port",
        "admin port",
        "excluded source",
        "excluded interface",
    ):
        played(INWARDS[name], addresses, reapplied.peer)
    for name in ("open port, as app", "self-call", "delivery from ::6", "localhost", "own address"):
        played(OUTWARDS[name], addresses, reapplied.pod)


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
