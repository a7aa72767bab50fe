"""Prove that the rules stand and do what the plan says, by reading them back and dialling.

Every dial is a child process under the identity that the case is about, and must arrive at a
listener of our own with its original destination intact. The proxy must not be running yet:
its ports are ours meanwhile.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import islice

from tproxy_init import system
from tproxy_init.apply import family_choices
from tproxy_init.capture import Capture, Ipv6
from tproxy_init.child import ChildFailed, in_child
from tproxy_init.detect import Backend, engines, holders
from tproxy_init.engines import Engine
from tproxy_init.errors import VerifyFailed
from tproxy_init.plan import plan
from tproxy_init.rules import Family
from tproxy_init.values import MAX_PORT, Address, Network, Span

DIAL_SECONDS = 2

SO_ORIGINAL_DST = 80

NOWHERE = {
    Family.V4: [ip_address(text) for text in ("192.0.2.1", "198.51.100.1", "203.0.113.1")],
    Family.V6: [ip_address(text) for text in ("2001:db8::1", "2001:db8:ffff::1")],
}
"""Addresses of documentation, where nobody answers but the proxy (RFC 5737, RFC 3849)."""

UNROUTED = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL)

NO_ROUTE = "no route"

SOME_UID = 65534

DOMAIN = {Family.V4: socket.AF_INET, Family.V6: socket.AF_INET6}
LOOPBACK = {Family.V4: "127.0.0.1", Family.V6: "::1"}
WILDCARD = {Family.V4: str(IPv4Address(0)), Family.V6: str(IPv6Address(0))}


@dataclass(frozen=True, slots=True)
class Identity:
    """The UID and GID that a dial is made as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Probe:
    """One dial, and where it must end."""

    what: str
    dialler: Identity
    address: Address
    port: int
    listener: socket.socket | None
    """None: the dial must be refused a route."""
    redirected: bool = True
    """Arrives with an original destination that is not the listener's own."""

    @property
    def family(self) -> Family:
        """The IP version it goes over."""
        return Family(self.address.version)

    def __str__(self) -> str:
        return f"IPv{self.address.version} {self.what}"


def verify(capture: Capture) -> list[str]:
    """What was proved, a line each; VerifyFailed with everything that is wrong."""
    found = holders(engines(Backend.AUTO))
    if not found:
        raise VerifyFailed("there are no rules of ours in this network namespace: run apply first")
    families = _families_in_place(capture, found[0])
    with ExitStack() as listeners:
        results = [_dial(probe) for probe in _probes(capture, families, listeners)]
    if wrong := [f"\n  {line}" for passed, line in results if not passed]:
        raise VerifyFailed(f"{len(wrong)} of {len(results)} dials went wrong:{''.join(wrong)}")
    return [f"{found[0].name} holds the plan", *(line for _, line in results)]


def _families_in_place(capture: Capture, engine: Engine) -> tuple[Family, ...]:
    """The first choice of families whose plan is what the kernel holds."""
    found: list[str] = []
    for families in family_choices(capture):
        found = engine.differences(plan(capture, families))
        if not found:
            return families
    listed = "".join(f"\n  {line}" for line in found)
    raise VerifyFailed(f"{engine.name} holds something else than the plan:{listed}")


def _probes(capture: Capture, families: Sequence[Family], listeners: ExitStack) -> Iterator[Probe]:
    app, proxy = application(capture), Identity(_own(capture.proxy_uid), _own(capture.proxy_gid))
    addresses = system.pod_addresses()
    for family in families:
        outbound = listeners.enter_context(
            _listening(family, LOOPBACK[family], capture.outbound_port)
        )
        inbound = listeners.enter_context(
            _listening(family, WILDCARD[family], capture.inbound_port)
        )
        local = listeners.enter_context(_listening(family, LOOPBACK[family], 0))
        if target := captured_destination(capture, family):
            yield Probe("outbound reaches the proxy", app, *target, outbound)
        for address in [address for address in addresses if address.version == family][:1]:
            yield Probe("inbound reaches the proxy", proxy, address, 80, inbound)
        there = ip_address(LOOPBACK[family])
        port = local.getsockname()[1]
        yield Probe("loopback is left alone", app, there, port, local, redirected=False)
    if capture.ipv6 is Ipv6.BLOCK:
        yield Probe("is blocked", app, NOWHERE[Family.V6][0], 80, None)


def application(capture: Capture) -> Identity:
    """An identity whose connections are captured: our own if it is one."""
    uids = [os.geteuid(), SOME_UID, *_firsts(capture.include_uids)]
    gids = [os.getegid(), SOME_UID, *_firsts(capture.include_gids)]
    for uid in uids:
        for gid in gids:
            if _captured(capture, uid, gid):
                return Identity(uid, gid)
    raise VerifyFailed("every UID and GID tried is excluded: there is nobody to dial as")


def _captured(capture: Capture, uid: int, gid: int) -> bool:
    shut_uids = (*capture.proxy_uid, *capture.exclude_uids)
    shut_gids = (*capture.proxy_gid, *capture.exclude_gids)
    if any(uid in span for span in shut_uids) or any(gid in span for span in shut_gids):
        return False
    open_to_all = capture.include_uids is None and capture.include_gids is None
    named = any(uid in span for span in capture.include_uids or ())
    return open_to_all or named or any(gid in span for span in capture.include_gids or ())


def _firsts(spans: Sequence[Span] | None) -> list[int]:
    return [span.first for span in spans or ()]


def _own(spans: Sequence[Span]) -> int:
    return spans[0].first if spans else SOME_UID


def captured_destination(capture: Capture, family: Family) -> tuple[Address, int] | None:
    """Somewhere outside that the plan captures; None when it captures nothing outbound."""
    shut = capture.exclude_outbound_ports
    for span in capture.include_outbound_ports:
        if open_ports := [p for p in (span.first, span.last) if not any(p in s for s in shut)]:
            return NOWHERE[family][0], open_ports[0]
    port = next((p for p in range(80, MAX_PORT) if not any(p in span for span in shut)), None)
    address = next(_captured_addresses(capture, family), None)
    return None if port is None or address is None else (address, port)


def _captured_addresses(capture: Capture, family: Family) -> Iterator[Address]:
    for address in _candidates(capture.include_outbound_cidrs, family):
        excluded = any(address in net for net in capture.exclude_outbound_cidrs)
        if not excluded and not address.is_loopback:
            yield address


def _candidates(included: Sequence[Network] | None, family: Family) -> Iterator[Address]:
    if included is None:
        yield from NOWHERE[family]
    for net in included or ():
        if net.version == family:
            yield from islice(net.hosts(), 256)


@contextmanager
def _listening(family: Family, address: str, port: int) -> Iterator[socket.socket]:
    with socket.socket(DOMAIN[family], socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is Family.V6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            listener.bind((address, port))
        except OSError as error:
            raise VerifyFailed(
                f"port {port} cannot be listened on ({error.strerror}): verify runs before the proxy"
            ) from error
        listener.listen()
        listener.settimeout(DIAL_SECONDS)
        yield listener


def _dial(probe: Probe) -> tuple[bool, str]:
    """Whether the dial ended where it must, and a line that says so."""
    try:
        said = in_child(partial(_dial_as, probe))
    except ChildFailed as error:
        return False, f"{probe}: {probe.address} port {probe.port}: {error}"
    if said == NO_ROUTE:
        return _unrouted(probe)
    if probe.listener is None:
        return False, f"{probe}: {probe.address} port {probe.port} could be dialled"
    return _arrival(probe, probe.listener)


def _unrouted(probe: Probe) -> tuple[bool, str]:
    """A destination without a route is out of everybody's reach, captured or not."""
    passed = probe.listener is None or probe.address in NOWHERE[probe.family]
    return passed, f"{probe}: no route to {probe.address}"


def _dial_as(probe: Probe) -> str:
    """In a child: connect under the probe's identity."""
    if (os.geteuid(), os.getegid()) != (probe.dialler.uid, probe.dialler.gid):
        os.setgroups([])
        os.setgid(probe.dialler.gid)
        os.setuid(probe.dialler.uid)
    if not _routed(probe):
        return NO_ROUTE
    with socket.socket(DOMAIN[probe.family], socket.SOCK_STREAM) as dialled:
        dialled.settimeout(DIAL_SECONDS)
        dialled.connect((str(probe.address), probe.port))
    return "connected"


def _routed(probe: Probe) -> bool:
    """Ask with a datagram socket, which sends nothing when it connects.

    A TCP dial would not tell: a router's "unreachable" for a packet that got away says the same.
    """
    with socket.socket(DOMAIN[probe.family], socket.SOCK_DGRAM) as asked:
        try:
            asked.connect((str(probe.address), probe.port))
        except OSError as error:
            if error.errno not in UNROUTED:
                raise
            return False
    return True


def _arrival(probe: Probe, listener: socket.socket) -> tuple[bool, str]:
    try:
        arrived, _ = listener.accept()
    except TimeoutError:
        return (
            False,
            f"{probe}: {probe.address} port {probe.port} was answered, but not by the proxy",
        )
    with arrived:
        wanted = (probe.address, probe.port)
        original = original_destination(arrived) if probe.redirected else wanted
    if original != wanted:
        return (
            False,
            f"{probe}: arrived for {original[0]} port {original[1]}, not {wanted[0]} port {wanted[1]}",
        )
    return True, f"{probe}: {probe.address} port {probe.port}"


def original_destination(arrived: socket.socket) -> tuple[Address, int]:
    """Where the connection was going before it was redirected."""
    if arrived.family == socket.AF_INET:
        raw = arrived.getsockopt(socket.IPPROTO_IP, SO_ORIGINAL_DST, 16)
        port, packed = struct.unpack("!2xH4s8x", raw)
    else:
        raw = arrived.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28)
        port, packed = struct.unpack("!2xH4x16s4x", raw)
    return ip_address(packed), port
