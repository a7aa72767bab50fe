"""The wires between pods: a bridge in a namespace of its own, so that the host never sees a link.

Neither the host's forwarding policy nor its bridge filter applies there, and nothing of the host's
own rules, routes or links changes. Each pod has one end of a veth pair, made directly between the
bridge's namespace and the pod's. The bridge is every pod's default gateway and answers at once that
the rest of the world is unreachable: a route must exist for a connection to reach the capture rules.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from pyroute2 import IPRoute, NetlinkError, netns

from tproxy.lab.namespaces import CLONE_NEWNET, enter_network, in_thread, unshare
from tproxy.lab.records import GATEWAY, Addresses, Record
from tproxy.lab.spec import LabError

BRIDGE = "pods"
POD_LINK = "eth0"
IFA_F_NODAD = 0x02

FORWARDING = {"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"}
POD_SETTINGS = {
    "ipv6/conf/all/disable_ipv6": "0",
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/default/accept_ra": "0",
    # As container engines have it: an ordinary user may serve on port 80.
    "ipv4/ip_unprivileged_port_start": "0",
}


def connect(bridge: Path, record: Record) -> None:
    """Make the pod's namespace, and the bridge if this is the first pod, and wire the two."""
    if not Path("/proc/sys/net/ipv6").exists():
        raise LabError("this kernel runs without IPv6 (ipv6.disable=1); pods have both families")
    if not bridge.exists():
        _make_bridge(bridge)
    _make_namespace(record.netns_path)
    _inside(record.netns_path, lambda _: _set(POD_SETTINGS))
    _inside(bridge, lambda ip: _add_port(ip, record))
    _inside(record.netns_path, lambda ip: _configure(ip, POD_LINK, record.number))


def disconnect(bridge: Path, record: Record) -> None:
    """Remove what `connect` made for the pod, however far that got."""
    # The kernel removes a namespace's links some time after the namespace: the port's name must be
    # free for the next pod before that.
    if bridge.exists():
        _inside(bridge, lambda ip: _remove_port(ip, record))
    _remove_namespace(record.netns_path)


def remove_bridge(bridge: Path) -> None:
    """Remove the bridge's namespace, once no pod is left."""
    _remove_namespace(bridge)


def _make_bridge(bridge: Path) -> None:
    _make_namespace(bridge)

    def step(ip: IPRoute) -> None:
        _set(POD_SETTINGS | FORWARDING)
        ip.link("add", ifname=BRIDGE, kind="bridge", br_stp_state=0, br_mcast_snooping=0)
        _configure(ip, BRIDGE, GATEWAY)

    _inside(bridge, step)


def _make_namespace(path: Path) -> None:
    _remove_namespace(path)

    def step() -> None:
        unshare(CLONE_NEWNET)
        netns.attach(path.name, "thread-self")

    in_thread(step)


def _remove_namespace(path: Path) -> None:
    with suppress(FileNotFoundError):
        netns.remove(path.name)


def _inside(path: Path, step: Callable[[IPRoute], None]) -> None:
    """Run `step` with a netlink socket of the namespace `path`, in a thread that is inside it."""

    def entered() -> None:
        enter_network(path)
        with IPRoute() as ip:
            step(ip)

    in_thread(entered)


def _add_port(ip: IPRoute, record: Record) -> None:
    port = f"pod{record.number}"
    peer = {"ifname": POD_LINK, "net_ns_fd": record.netns}
    ip.link("add", ifname=port, kind="veth", peer=peer)
    [bridge] = ip.link_lookup(ifname=BRIDGE)
    [index] = ip.link_lookup(ifname=port)
    ip.link("set", index=index, master=bridge, state="up")


def _remove_port(ip: IPRoute, record: Record) -> None:
    for index in ip.link_lookup(ifname=f"pod{record.number}"):
        with suppress(NetlinkError):  # it went with the pod's namespace in this very moment
            ip.link("del", index=index)


def _configure(ip: IPRoute, link: str, number: int) -> None:
    """Bring lo and `link` up, addressed; whoever is not the gateway gets a route through it."""
    [loopback], [index] = ip.link_lookup(ifname="lo"), ip.link_lookup(ifname=link)
    ip.link("set", index=loopback, state="up")
    ip.link("set", index=index, state="up")
    own, gateway = Addresses.of(number), Addresses.of(GATEWAY)
    ip.addr("add", index=index, address=own.v4, prefixlen=24)
    ip.addr("add", index=index, address=own.v6, prefixlen=64, flags=IFA_F_NODAD)
    if number != GATEWAY:
        ip.route("add", dst="default", gateway=gateway.v4, oif=index)
        ip.route("add", dst="default", gateway=gateway.v6, oif=index, family=10)


def _set(settings: Mapping[str, str]) -> None:
    """Write sysctls of the namespace that this thread is in."""
    for key, value in settings.items():
        Path("/proc/sys/net", key).write_text(value)
