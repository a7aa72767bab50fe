"""What capture needs from the kernel besides rules: addresses, routes, conntrack; by pyroute2.

Everything here works in the network namespace of the process, can be repeated, and is undone
by its counterpart without complaint when there is nothing to undo.
"""

import errno
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from socket import AF_INET, AF_INET6
from typing import Any

from tproxy_init.engines import EngineError, legacy
from tproxy_init.engines.tool import missing, run
from tproxy_init.plan import DELIVERY
from tproxy_init.rules import Family
from tproxy_init.values import Address

Untyped = Any
"""Something of pyroute2's, which publishes no types; it stays in this file."""

RULE_PRIORITY = 1337
BLOCK_PRIORITY = 1
"""After the table of local addresses at 0, before everything that leads out."""

UNICAST, LOCAL, UNREACHABLE = 1, 2, 7
"""Route types and rule actions of linux/rtnetlink.h and linux/fib_rules.h."""

HOST_SCOPE = 254

BLOCK: Mapping[str, object] = {
    "family": AF_INET6,
    "priority": BLOCK_PRIORITY,
    "action": UNREACHABLE,
}

DOMAIN = {Family.V4: AF_INET, Family.V6: AF_INET6}

NO_ROUTE_TO_COME = 0x08 | 0x20 | 0x40
"""IFA_F_DADFAILED, IFA_F_DEPRECATED, IFA_F_TENTATIVE: not an address to be reached at."""

HOST_LINKS = frozenset(
    {"cni0", "cbr0", "docker0", "podman0", "kube-bridge", "kube-ipvs0", "flannel.1", "cilium_host"}
)
"""Links that stand in a node's own namespace and never in a pod's."""

HOST_CHAINS = "KUBE-"


@contextmanager
def _netlink() -> Iterator[Untyped]:
    """A conversation with the kernel; what goes wrong in it is an EngineError."""
    from pyroute2 import IPRoute  # noqa: PLC0415  125 ms that `plan` need not pay
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415  likewise

    try:
        with IPRoute() as netlink:
            yield netlink
    except NetlinkError as error:
        raise EngineError(f"netlink: {error}") from error


@contextmanager
def _tolerating(*codes: int) -> Iterator[None]:
    """Let pass the netlink errors that say: it is so already."""
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415  likewise

    try:
        yield
    except NetlinkError as error:
        if error.code not in codes:
            raise


def pod_addresses() -> list[Address]:
    """The addresses this namespace can be reached at from outside."""
    with _netlink() as netlink:
        found = [_address(message) for message in netlink.get_addr()]
    return [address for address in found if address is not None]


def _address(message: Untyped) -> Address | None:
    flags = message.get_attr("IFA_FLAGS") or message["flags"]
    text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    address = ip_address(text)
    local = address.is_loopback or address.is_link_local or message["scope"] == HOST_SCOPE
    return None if local or flags & NO_ROUTE_TO_COME or _delivery(address) else address


def _delivery(address: Address) -> bool:
    return any(address in net for net in DELIVERY)


def has_global_ipv6(addresses: Iterable[Address]) -> bool:
    """IPv6 leads out of this pod, so it must be captured."""
    return any(Family(address.version) is Family.V6 for address in addresses)


def ipv6_present() -> bool:
    """This namespace has IPv6 at all, be it on loopback alone."""
    try:
        with open("/proc/self/net/if_inet6", encoding="ascii") as addresses:
            return bool(addresses.read().strip())
    except OSError:
        return False


def host_signs() -> list[str]:
    """What makes this namespace look like a node's own rather than a pod's."""
    with _netlink() as netlink:
        names = {message.get_attr("IFLA_IFNAME") for message in netlink.get_links()}
    signs = [f"a link called {name}" for name in sorted(names & HOST_LINKS)]
    if _mentions_host_chains():
        signs.append(f"chains called {HOST_CHAINS}*")
    return signs


def _mentions_host_chains() -> bool:
    if any(legacy.has_chain(family, HOST_CHAINS) for family in Family):
        return True
    if missing("nft"):
        return False
    try:
        return f"chain {HOST_CHAINS}" in run("nft", "list", "chains")
    except EngineError:
        return False


def add_delivery_address() -> None:
    """::6 on lo; 127.0.0.6 needs nothing, all of 127.0.0.0/8 is local."""
    # EACCES: IPv6 is off on lo, then nothing arrives over it either.
    with _netlink() as netlink, _tolerating(errno.EEXIST, errno.EACCES):
        netlink.addr("add", index=_loopback(netlink), address="::6", prefixlen=128, family=AF_INET6)


def remove_delivery_address() -> None:
    """::6 from lo."""
    with _netlink() as netlink, _tolerating(errno.EADDRNOTAVAIL, errno.EACCES, errno.EAFNOSUPPORT):
        netlink.addr("del", index=_loopback(netlink), address="::6", prefixlen=128, family=AF_INET6)


def _loopback(netlink: Untyped) -> int:
    index: int = netlink.link_lookup(ifname="lo")[0]
    return index


def add_tproxy_route(family: Family, *, mark: int, table: int) -> None:
    """Marked packets are for this host, whatever address they carry."""
    with _netlink() as netlink:
        with _tolerating(errno.EEXIST):
            netlink.rule("add", **_tproxy_rule(family, mark, table))
        with _tolerating(errno.EEXIST):
            netlink.route("add", **_tproxy_route(netlink, family, table))


def remove_tproxy_routes(*, besides: tuple[int, int] | None = None) -> None:
    """Our policy rules and routes of the tproxy mode, but not those of one mark and table."""
    with _netlink() as netlink:
        for family in Family:
            for rule in _tproxy_rules(netlink, family):
                mark, table = rule.get_attr("FRA_FWMARK"), rule.get_attr("FRA_TABLE")
                if (mark, table) != besides:
                    netlink.rule("del", **_tproxy_rule(family, mark, table))
                    with _tolerating(errno.ESRCH, errno.ENOENT):
                        netlink.route("del", **_tproxy_route(netlink, family, table))


def _tproxy_rules(netlink: Untyped, family: Family) -> list[Untyped]:
    return _rules_at(netlink, family, RULE_PRIORITY)


def _rules_at(netlink: Untyped, family: Family, priority: int) -> list[Untyped]:
    # A kernel without this family has no rules of it.
    with _tolerating(errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
        rules = netlink.get_rules(family=DOMAIN[family])
        return [rule for rule in rules if rule.get_attr("FRA_PRIORITY") == priority]
    return []


def _tproxy_rule(family: Family, mark: int, table: int) -> dict[str, object]:
    return {
        "family": DOMAIN[family],
        "fwmark": mark,
        "table": table,
        "priority": RULE_PRIORITY,
        "action": UNICAST,
    }


def _tproxy_route(netlink: Untyped, family: Family, table: int) -> dict[str, object]:
    return {
        "family": DOMAIN[family],
        "dst": "default",
        "type": "local",
        "scope": HOST_SCOPE if family is Family.V4 else 0,
        "oif": _loopback(netlink),
        "table": table,
    }


def block_ipv6() -> None:
    """Everything beyond our own addresses becomes unreachable, without any netfilter."""
    with _netlink() as netlink, _tolerating(errno.EEXIST, errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
        netlink.rule("add", **BLOCK)


def unblock_ipv6() -> None:
    """IPv6 as it was."""
    with _netlink() as netlink:
        for _ in _rules_at(netlink, Family.V6, BLOCK_PRIORITY):
            with _tolerating(errno.ENOENT):
                netlink.rule("del", **BLOCK)
