"""What the kernel shall hold, as data: every rule with its reason, in the order it is tried.

Rules only ever RETURN, never ACCEPT: ACCEPT would end the hook for everybody else's rules too.

    from outside                                          from a process of this pod
         |                                                          |
    raw PREROUTING   TPX_RAW_IN   (DNS)             raw OUTPUT   TPX_RAW_OUT   (DNS)
         |                                                          |
    mangle PREROUTING  TPX_MARK_IN  (tproxy mode)   nat OUTPUT   TPX_OUT
         |               -> TPX_TPROXY -> :15006          |  excluded interface  -> on its way
    nat PREROUTING   TPX_IN       (redirect mode)         |  the proxy itself    -> TPX_PROXY
         |  excluded             -> the application       |  excluded owner      -> on its way
         |  else TPX_IN_REDIR    -> :15006                |  DNS                 -> :15053
                                                          |  loopback, excluded  -> on its way
                                                          |  else TPX_REDIR      -> :15001
                                                    TPX_PROXY
                                                          |  from 127.0.0.6      -> the application
                                                          |  to ourselves, by lo -> TPX_IN_REDIR
                                                          |  else                -> on its way
"""

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_network

from tproxy_init.capture import Capture, InboundMode
from tproxy_init.rules import (
    Family,
    Goto,
    Jump,
    Mark,
    Plan,
    Proto,
    Redirect,
    Return,
    Rule,
    Table,
    Tproxy,
    When,
    Zone,
)
from tproxy_init.values import Address, Network, Span

MULTIPORT_SLOTS = 15
"""XT_MULTI_PORTS: what one multiport rule can hold."""

PROXY_ZONE = 1
"""Conntrack zone of DNS between the proxy and its resolver."""
APP_ZONE = 2
"""Conntrack zone of DNS between applications and the proxy: both may use one source port."""

TCP = When(proto=Proto.TCP)
LOOPBACK: tuple[Network, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
DELIVERY: tuple[Network, ...] = (ip_network("127.0.0.6/32"), ip_network("::6/128"))
"""The proxy's inbound side binds these before it dials an application on the pod's address."""
DNS_PORTS = (Span(53, 53),)


def plan(capture: Capture, families: Sequence[Family]) -> Plan:
    """Every rule that `capture` asks for."""
    rules = [
        *(_dns_zones(capture) if capture.dns else ()),
        *_inbound(capture),
        *_redirections(capture),
        *_outbound(capture),
        *_proxy(),
    ]
    kept = [rule for rule in rules if any(rule.fits(family) for family in families)]
    return Plan(tuple(kept), tuple(families))


def _inbound(capture: Capture) -> Iterator[Rule]:
    if capture.inbound_mode is InboundMode.TPROXY:
        yield from _tproxy(capture)
        return
    yield Rule(Table.NAT, "PREROUTING", TCP, Jump("TPX_IN"), "connections from outside")
    yield from _inbound_choice(capture, table=Table.NAT, chain="TPX_IN", then="TPX_IN_REDIR")


def _tproxy(capture: Capture) -> Iterator[Rule]:
    table, chain = Table.MANGLE, "TPX_MARK_IN"
    yield Rule(table, "PREROUTING", TCP, Jump(chain), "connections from outside")
    yield Rule(table, chain, When(by_in="lo"), Return(), "loopback is no outside")
    for net in LOOPBACK:
        yield Rule(table, chain, When(destination=net), Return(), "loopback is no outside")
    yield from _inbound_choice(capture, table=table, chain=chain, then="TPX_TPROXY")
    yield Rule(
        table,
        "TPX_TPROXY",
        When(proto=Proto.TCP, transparent=True),
        Goto("TPX_DIVERT"),
        "more of a connection the proxy holds",
    )
    yield Rule(
        table,
        "TPX_TPROXY",
        When(proto=Proto.TCP, opening=True),
        Tproxy(capture.inbound_port, capture.tproxy_mark),
        "a connection from outside, to the proxy",
    )
    yield Rule(table, "TPX_DIVERT", When(), Mark(capture.tproxy_mark), "routed to this host")


def _inbound_choice(capture: Capture, *, table: Table, chain: str, then: str) -> Iterator[Rule]:
    """The inbound exclusions, and what is left of the inclusions sent to `then`."""
    for name in capture.exclude_interfaces:
        yield Rule(table, chain, When(by_in=name), Return(), "--exclude-interfaces")
    for net in capture.exclude_inbound_cidrs:
        yield Rule(table, chain, When(source=net), Return(), "--exclude-inbound-cidrs")
    for ports in multiports(capture.proxy_ports):
        yield Rule(table, chain, _to(ports), Return(), "the proxy's own: kubelet, metrics, admin")
    for ports in multiports(capture.exclude_inbound_ports):
        yield Rule(table, chain, _to(ports), Return(), "--exclude-inbound-ports")
    if capture.include_interfaces is not None:
        via = [When(by_in=name) for name in capture.include_interfaces]
        yield from _gate(table, chain, via, why="--include-interfaces")
        chain = _beyond(chain)
    if capture.include_inbound_ports is None:
        yield Rule(table, chain, TCP, Jump(then), "everything else goes to the proxy")
    for ports in multiports(capture.include_inbound_ports or ()):
        yield Rule(table, chain, _to(ports), Jump(then), "--include-inbound-ports")


def _redirections(capture: Capture) -> Iterator[Rule]:
    inbound, outbound = Redirect(capture.inbound_port), Redirect(capture.outbound_port)
    yield Rule(Table.NAT, "TPX_IN_REDIR", TCP, inbound, "the proxy's inbound listener")
    yield Rule(Table.NAT, "TPX_REDIR", TCP, outbound, "the proxy's outbound listener")


def _outbound(capture: Capture) -> Iterator[Rule]:
    table, chain = Table.NAT, "TPX_OUT"
    # Not for TCP alone: DNS over UDP is decided inside.
    yield Rule(table, "OUTPUT", When(), Jump(chain), "connections from this pod")
    for name in capture.exclude_interfaces:
        yield Rule(table, chain, When(by_out=name), Return(), "--exclude-interfaces")
    for owner in _proxy_owners(capture):
        # Goto, so that foreign rules of OUTPUT still see the proxy's packets.
        yield Rule(table, chain, owner, Goto("TPX_PROXY"), "the proxy's own connections")
    for owner, why in _excluded_owners(capture):
        yield Rule(table, chain, owner, Return(), why)
    if included := _included_owners(capture):
        yield from _gate(table, chain, included, why="--include-uids, --include-gids")
        chain = _beyond(chain)
    if capture.dns:
        yield from _dns(capture, chain)
    yield from _destinations(capture, chain)


def _dns(capture: Capture, chain: str) -> Iterator[Rule]:
    """Before the loopback rule: resolvers listen on 127.0.0.53 and the like."""
    target = Redirect(capture.dns_port)
    for server in _resolvers(capture):
        for proto in (Proto.UDP, Proto.TCP):
            when = When(destination=server, proto=proto, dports=DNS_PORTS)
            yield Rule(Table.NAT, chain, when, target, "DNS, to the proxy's resolver")


def _destinations(capture: Capture, chain: str) -> Iterator[Rule]:
    table = Table.NAT
    yield Rule(
        table, chain, When(by_out="lo"), Return(), "the pod to itself: localhost, own address"
    )
    for net in LOOPBACK:
        yield Rule(table, chain, When(destination=net), Return(), "loopback stays local")
    if capture.include_interfaces is not None:
        via = [When(by_out=name) for name in capture.include_interfaces]
        yield from _gate(table, chain, via, why="--include-interfaces")
        chain = _beyond(chain)
    for ports in multiports(capture.exclude_outbound_ports):
        yield Rule(table, chain, _to(ports), Return(), "--exclude-outbound-ports")
    redirected = Jump("TPX_REDIR")
    for ports in multiports(capture.include_outbound_ports):
        yield Rule(table, chain, _to(ports), redirected, "--include-outbound-ports")
    for net in capture.exclude_outbound_cidrs:
        yield Rule(table, chain, When(destination=net), Return(), "--exclude-outbound-cidrs")
    if capture.include_outbound_cidrs is None:
        yield Rule(table, chain, TCP, redirected, "everything else goes to the proxy")
    for net in capture.include_outbound_cidrs or ():
        when = When(destination=net, proto=Proto.TCP)
        yield Rule(table, chain, when, redirected, "--include-outbound-cidrs")


def _proxy() -> Iterator[Rule]:
    table, chain = Table.NAT, "TPX_PROXY"
    for net in DELIVERY:
        why = "the inbound listener delivers to the application"
        yield Rule(table, chain, When(source=net, by_out="lo"), Return(), why)
    for net in LOOPBACK:
        why = "a service that is this pod: inbound policy holds for self-calls too"
        when = When(beyond=net, by_out="lo", proto=Proto.TCP)
        yield Rule(table, chain, when, Jump("TPX_IN_REDIR"), why)


def _dns_zones(capture: Capture) -> Iterator[Rule]:
    """Two zones, so that a query and the proxy's own with the same ports are two flows."""
    yield Rule(Table.RAW, "OUTPUT", When(proto=Proto.UDP), Jump("TPX_RAW_OUT"), "DNS zones")
    yield Rule(Table.RAW, "PREROUTING", When(proto=Proto.UDP), Jump("TPX_RAW_IN"), "DNS zones")
    yield from _proxy_zones(capture)
    yield from _app_zone(capture)
    for server in _resolvers(capture):
        # By source, not destination: istio#46935.
        when = When(source=server, proto=Proto.UDP, sports=DNS_PORTS)
        yield Rule(Table.RAW, "TPX_RAW_IN", when, Zone(PROXY_ZONE), "a resolver answers")


def _proxy_zones(capture: Capture) -> Iterator[Rule]:
    table, chain, udp = Table.RAW, "TPX_RAW_OUT", Proto.UDP
    answers = (Span(capture.dns_port, capture.dns_port),)
    for owner in _proxy_owners(capture):
        asks = When(proto=udp, uid=owner.uid, gid=owner.gid, dports=DNS_PORTS)
        yield Rule(table, chain, asks, Zone(PROXY_ZONE), "the proxy asks its resolver")
        replies = When(proto=udp, uid=owner.uid, gid=owner.gid, sports=answers)
        yield Rule(table, chain, replies, Zone(APP_ZONE), "the proxy answers an application")
        yield Rule(table, chain, owner, Return(), "the proxy's own packets")
    for net in _local_resolvers(capture):
        when = When(source=net, proto=udp, sports=DNS_PORTS)
        yield Rule(table, chain, when, Zone(PROXY_ZONE), "a resolver of this pod answers")


def _app_zone(capture: Capture) -> Iterator[Rule]:
    table, chain = Table.RAW, "TPX_RAW_OUT"
    for owner, why in _excluded_owners(capture):
        yield Rule(table, chain, owner, Return(), why)
    if included := _included_owners(capture):
        yield from _gate(table, chain, included, why="--include-uids, --include-gids")
        chain = _beyond(chain)
    for server in _resolvers(capture):
        when = When(destination=server, proto=Proto.UDP, dports=DNS_PORTS)
        yield Rule(table, chain, when, Zone(APP_ZONE), "an application asks")


def _resolvers(capture: Capture) -> list[Network | None]:
    """The networks that queries go to; None is anywhere."""
    if capture.dns_servers is None:
        return [None]
    return [_host(server) for server in capture.dns_servers]


def _local_resolvers(capture: Capture) -> list[Network]:
    if capture.dns_servers is None:
        return list(LOOPBACK)
    return [_host(server) for server in capture.dns_servers if server.is_loopback]


def _host(address: Address) -> Network:
    return ip_network(address)


def _proxy_owners(capture: Capture) -> list[When]:
    return [
        *(When(uid=uid) for uid in capture.proxy_uid),
        *(When(gid=gid) for gid in capture.proxy_gid),
    ]


def _excluded_owners(capture: Capture) -> Iterator[tuple[When, str]]:
    for uid in capture.exclude_uids:
        yield When(uid=uid), "--exclude-uids"
    for gid in capture.exclude_gids:
        yield When(gid=gid), "--exclude-gids"


def _included_owners(capture: Capture) -> list[When]:
    uids, gids = capture.include_uids or (), capture.include_gids or ()
    return [*(When(uid=uid) for uid in uids), *(When(gid=gid) for gid in gids)]


def _gate(table: Table, chain: str, admitted: Iterable[When], *, why: str) -> Iterator[Rule]:
    """Only the admitted go on, in the chain `_beyond` this one; the rest leave here."""
    for when in admitted:
        yield Rule(table, chain, when, Goto(_beyond(chain)), why)
    yield Rule(table, chain, When(), Return(), f"not in {why}")


def _beyond(chain: str) -> str:
    return f"{chain}_MORE"


def _to(ports: tuple[Span, ...]) -> When:
    return When(proto=Proto.TCP, dports=ports)


def multiports(spans: Iterable[Span]) -> Iterator[tuple[Span, ...]]:
    """`spans` in groups that each fit one multiport rule."""
    group: list[Span] = []
    for span in spans:
        if sum(member.slots for member in group) + span.slots > MULTIPORT_SLOTS:
            yield tuple(group)
            group = []
        group.append(span)
    if group:
        yield tuple(group)
