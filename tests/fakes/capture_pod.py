"""A pod and its neighbour as two network namespaces, with listeners that say who they are.

Everything that happens in a namespace happens in a forked child, which joins it first.
"""

import contextlib
import json
import os
import select
import selectors
import signal
import socket
import struct
import sys
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from pyroute2 import IPRoute, netns

from tproxy_init.__main__ import main
from tproxy_init.child import in_child

IP_TRANSPARENT, IPV6_TRANSPARENT = 19, 75
SO_ORIGINAL_DST = 80
SECONDS = 2

T = TypeVar("T")

Untyped = Any
"""pyroute2's, which publishes no types, or passed on as it came."""

PROXY, APP = 1337, 1000

TOOLS = ("iptables", "ip6tables")
VARIANTS = ("legacy", "nft")

MOST_DIALS = 4000


@dataclass(frozen=True, slots=True)
class Addresses:
    """Who lives where, in one family."""

    pod: str
    peer: str
    quiet_peer: str
    """The neighbour's second address, for exclusion by source."""
    side_pod: str
    side_peer: str
    """On the second interface."""
    far: str
    """Beyond the neighbour."""
    excluded_far: str
    loopback: str
    resolver: str
    delivery: str
    prefix: int


V4 = Addresses(
    pod="198.51.100.1",
    peer="198.51.100.2",
    quiet_peer="198.51.100.3",
    side_pod="192.0.2.101",
    side_peer="192.0.2.102",
    far="203.0.113.100",
    excluded_far="203.0.113.1",
    loopback="127.0.0.1",
    resolver="127.0.0.53",
    delivery="127.0.0.6",
    prefix=24,
)
V6 = Addresses(
    pod="2001:db8:a::1",
    peer="2001:db8:a::2",
    quiet_peer="2001:db8:a::3",
    side_pod="2001:db8:b::1",
    side_peer="2001:db8:b::2",
    far="2001:db8:d::1",
    excluded_far="2001:db8:c::1",
    loopback="::1",
    resolver="::1",
    delivery="::6",
    prefix=64,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a dial met."""

    who: str
    """The listener's name, or the error's."""
    original: tuple[str, int] | None = None
    """Where the connection was going, as the listener's SO_ORIGINAL_DST tells."""
    local: tuple[str, int] | None = None
    """The listener's end of it."""


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of tproxy-init."""

    code: int
    out: str
    err: str


@dataclass(slots=True)
class Namespace:
    """A network namespace of the test's own; its name is taken once in the world."""

    name: str = field(default_factory=lambda: f"tpx{uuid.uuid4().hex[:10]}")

    def inside(self, work: Callable[[], T]) -> T:
        """What `work` returns in here; through JSON."""
        returned: T = json.loads(in_child(partial(_joined, self.name, work)))
        return returned

    def run(self, *command: str, text: str = "") -> str:
        """The output of a program in here."""
        from subprocess import run  # noqa: PLC0415  beside its only use

        return run(
            ("ip", "netns", "exec", self.name, *command),
            input=text,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def init(self, *argv: str) -> Ran:
        """tproxy-init in here."""
        return Ran(*self.inside(partial(run_init, argv)))

    def dial(self, address: str, port: int, **how: Untyped) -> Answer:
        """Connect from here, as `uid` and `gid`, from `source`, over `proto`."""
        who, original, local = self.inside(partial(dial, address, port, **how))
        return Answer(who, original and tuple(original), local and tuple(local))


def _joined(name: str, work: Callable[[], object]) -> str:
    netns.setns(name)
    return json.dumps(work())


def run_init(argv: Sequence[str]) -> tuple[int, str, str]:
    """Code and both outputs of a run in this process, which is a child."""
    sys.stdout, sys.stderr = out, err = StringIO(), StringIO()
    code = main(argv)
    return code, out.getvalue(), err.getvalue()


def become(uid: int, gid: int) -> None:
    """Give up root, for good: this is a child."""
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def dial(
    address: str,
    port: int,
    *,
    uid: int = 0,
    gid: int = 0,
    source: tuple[str, int] | None = None,
    proto: str = "tcp",
) -> list[Any]:
    """Connect in this process; the answer's fields."""
    become(uid, gid)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_DGRAM if proto == "udp" else socket.SOCK_STREAM
    with socket.socket(family, kind) as dialled:
        dialled.settimeout(SECONDS)
        dialled.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            if source is not None:
                dialled.bind(source)
            dialled.connect((address, port))
            dialled.send(b"?")
            said: list[Any] = json.loads(dialled.recv(500))
        except OSError as error:
            return [type(error).__name__, None, None]
    return said


@dataclass(frozen=True, slots=True)
class Listen:
    """One listener to open."""

    who: str
    address: str
    port: int
    proto: str = "tcp"
    transparent: bool = False


def _opened(spec: Listen) -> socket.socket:
    v6 = ":" in spec.address
    kind = socket.SOCK_DGRAM if spec.proto == "udp" else socket.SOCK_STREAM
    opened = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, kind)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if v6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if spec.transparent and v6:
        opened.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    elif spec.transparent:
        opened.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
    opened.bind((spec.address, spec.port))
    if spec.proto == "tcp":
        opened.listen(512)
    return opened


def _original(arrived: socket.socket) -> tuple[str, int] | None:
    v4 = arrived.family == socket.AF_INET
    level, layout = (0, "!2xH4s8x") if v4 else (41, "!2xH4x16s4x")
    with contextlib.suppress(OSError):
        raw = arrived.getsockopt(level, SO_ORIGINAL_DST, struct.calcsize(layout))
        port, packed = struct.unpack(layout, raw)
        return socket.inet_ntop(arrived.family, packed), port
    return None


def _answer(spec: Listen, listener: socket.socket) -> None:
    # Whoever dialled may be gone again.
    with contextlib.suppress(OSError):
        if spec.proto == "udp":
            _, asker = listener.recvfrom(500)
            listener.sendto(json.dumps([spec.who, None, None]).encode(), asker)
            return
        arrived, _ = listener.accept()
        with arrived:
            said = [spec.who, _original(arrived), arrived.getsockname()[:2]]
            arrived.recv(1)
            arrived.send(json.dumps(said).encode())


def _serve(name: str, specs: Sequence[Listen], uid: int, ready: int) -> None:
    netns.setns(name)
    selector = selectors.DefaultSelector()
    privileged = [spec for spec in specs if spec.transparent or spec.port < 1024]
    for spec in privileged:
        selector.register(_opened(spec), selectors.EVENT_READ, spec)
    become(uid, uid)
    # The kernel takes whoever opened a socket for its owner.
    for spec in specs:
        if spec not in privileged:
            selector.register(_opened(spec), selectors.EVENT_READ, spec)
    os.close(ready)
    while True:
        for key, _ in selector.select():
            assert isinstance(key.fileobj, socket.socket)
            _answer(key.data, key.fileobj)


@contextlib.contextmanager
def serving(where: Namespace, specs: Sequence[Listen], *, uid: int) -> Iterator[None]:
    """Listeners in a process of their own, as long as the scope is open."""
    reader, ready = os.pipe()
    server = os.fork()
    if server == 0:
        try:
            os.close(reader)
            _serve(where.name, specs, uid, ready)
        finally:
            os._exit(1)
    os.close(ready)
    try:
        os.read(reader, 1)
        assert os.waitpid(server, os.WNOHANG) == (0, 0), "the listeners did not come up"
        yield
    finally:
        os.close(reader)
        with contextlib.suppress(ProcessLookupError):
            os.kill(server, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(server, 0)


@contextlib.contextmanager
def dialling(where: Namespace, addresses: Sequence[str], port: int) -> Iterator[dict[str, int]]:
    """Connect over and over while the scope is open; then it says how often who answered."""
    met: dict[str, int] = {}
    stopped, stop = os.pipe()
    result, told = os.pipe()
    dialler = os.fork()
    if dialler == 0:
        try:
            os.close(stop)
            netns.setns(where.name)
            os.write(told, json.dumps(_dial_on(addresses, port, stopped)).encode())
        finally:
            os._exit(0)
    os.close(stopped)
    os.close(told)
    try:
        yield met
    finally:
        os.close(stop)
        met.update(json.loads(os.read(result, 4096)))
        os.close(result)
        os.waitpid(dialler, 0)


def _dial_on(addresses: Sequence[str], port: int, stopped: int) -> dict[str, int]:
    met: dict[str, int] = {}
    for turn in range(MOST_DIALS):
        who = dial(addresses[turn % len(addresses)], port)[0]
        met[who] = met.get(who, 0) + 1
        if select.select([stopped], [], [], 0)[0]:
            break
    return met


@contextlib.contextmanager
def namespace() -> Iterator[Namespace]:
    """An empty namespace, loopback up."""
    made = Namespace()
    netns.create(made.name)
    try:
        with IPRoute(netns=made.name) as link:
            link.link("set", index=link.link_lookup(ifname="lo")[0], state="up")
        yield made
    finally:
        netns.remove(made.name)


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod with two interfaces (net0, side0), and the neighbour it reaches the world through."""

    pod: Namespace
    peer: Namespace

    def saves(self) -> str:
        """Everything iptables-save can say, of both variants and families, without counters."""
        return self._told(*(f"{tool}-{variant}-save" for tool in TOOLS for variant in VARIANTS))

    def kernel(self) -> str:
        """Everything that capture may change, as text without counters."""
        return self._told(
            "iptables-legacy-save",
            "ip6tables-legacy-save",
            "nft --stateless list ruleset",
            "ip rule",
            "ip -6 rule",
            "ip route show table all",
            "ip -o -6 addr show dev lo",
        )

    def _told(self, *commands: str) -> str:
        said = self.pod.run("sh", "-ec", "\n".join(commands))
        return "".join(_uncounted(line) for line in said.splitlines(keepends=True))


def _uncounted(line: str) -> str:
    # Link-local addresses come up in their own time.
    if line.startswith("#") or "fe80::" in line:
        return ""
    return line.partition(" [")[0] + "\n" if line.startswith(":") else line


@contextlib.contextmanager
def pod_and_peer() -> Iterator[Pod]:
    """Two namespaces, wired, with addresses and routes of both families."""
    with namespace() as pod, namespace() as peer:
        _wire(pod, peer)
        yield Pod(pod, peer)


def _wire(pod: Namespace, peer: Namespace) -> None:
    with IPRoute(netns=pod.name) as link:
        for name in ("net0", "side0"):
            link.link(
                "add",
                ifname=name,
                kind="veth",
                peer={"ifname": name, "net_ns_fd": peer.name},
            )
    for where, mine in ((pod, ("pod", "side_pod")), (peer, ("peer", "side_peer"))):
        with IPRoute(netns=where.name) as link:
            for name, which in zip(("net0", "side0"), mine, strict=True):
                _address(link, name, which)
    with IPRoute(netns=peer.name) as link:
        # Deprecated, so that nothing is sent from there unless it says so.
        _address(link, "net0", "quiet_peer", preferred_lft=0, valid_lft=2**32 - 1)
        _address(link, "lo", "far", alone=True)
        _address(link, "lo", "excluded_far", alone=True)
    with IPRoute(netns=pod.name) as link:
        for addresses in (V4, V6):
            link.route("add", dst="default", gateway=addresses.peer)


def _address(link: Untyped, name: str, which: str, *, alone: bool = False, **more: int) -> None:
    index = link.link_lookup(ifname=name)[0]
    link.link("set", index=index, state="up")
    for addresses in (V4, V6):
        address: str = getattr(addresses, which)
        width = 128 if ":" in address else 32
        extra = {"flags": 0x02} if ":" in address else {}
        link.addr(
            "add",
            index=index,
            address=address,
            prefixlen=width if alone else addresses.prefix,
            **extra,
            **more,
        )


def proxy_listeners() -> list[Listen]:
    """What the proxy would open."""
    found = []
    for addresses, wildcard in ((V4, "0.0.0.0"), (V6, "::")):
        found += [
            Listen("outbound", addresses.loopback, 15001),
            Listen("inbound", wildcard, 15006, transparent=True),
            Listen("health", wildcard, 15021),
            Listen("dns", addresses.loopback, 15053),
            Listen("dns", addresses.loopback, 15053, "udp"),
        ]
    return found


def app_listeners() -> list[Listen]:
    """What the pod's applications would open."""
    found = []
    for addresses, wildcard in ((V4, "0.0.0.0"), (V6, "::")):
        found += [
            Listen("app", wildcard, 8080),
            Listen("app", wildcard, 2200),
            Listen("own", addresses.pod, 8081),
            Listen("resolver", addresses.resolver, 53),
            Listen("resolver", addresses.resolver, 53, "udp"),
        ]
    return found


def peer_listeners() -> list[Listen]:
    """What the world answers with."""
    found = []
    for addresses, wildcard in ((V4, "0.0.0.0"), (V6, "::")):
        found += [Listen("peer", wildcard, port) for port in (53, 8080, 9100, 9205)]
        # Bound, so that answers carry the address that was asked.
        found += [Listen("peer", addresses.far, 53, "udp")]
    return found


@contextlib.contextmanager
def populated() -> Iterator[Pod]:
    """A pod and its peer with everybody listening."""
    with (
        pod_and_peer() as made,
        serving(made.pod, proxy_listeners(), uid=PROXY),
        serving(made.pod, app_listeners(), uid=APP),
        serving(made.peer, peer_listeners(), uid=APP),
    ):
        yield made


@contextlib.contextmanager
def own_xtables_lock(folder: Path) -> Iterator[None]:
    """A lock file that nothing outside this test waits for."""
    with warnings.catch_warnings():
        # The library's own imports are deprecated; children find it imported.
        warnings.simplefilter("ignore")
        import iptc  # noqa: F401, PLC0415  only where legacy tables are touched
    before = os.environ.get("XTABLES_LOCKFILE")
    os.environ["XTABLES_LOCKFILE"] = str(folder / "xtables.lock")
    try:
        yield
    finally:
        if before is None:
            del os.environ["XTABLES_LOCKFILE"]
        else:
            os.environ["XTABLES_LOCKFILE"] = before
