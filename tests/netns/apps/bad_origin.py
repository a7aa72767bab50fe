"""An HTTP/1.1 origin that does what its path says, none of it right: `bad_origin.py PORT`."""

import contextlib
import itertools
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator

LONGEST = 600
"""Seconds, or pieces, after which even what is endless ends."""
RESET = struct.pack("ii", 1, 0)


def wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def never(_: socket.socket) -> Iterator[bytes]:
    """No answer."""
    wait(LONGEST)
    yield b""


def trickle(_: socket.socket) -> Iterator[bytes]:
    """An answer, a byte a second."""
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 100:
        yield bytes([byte])
        wait(1)


def endless_head(_: socket.socket) -> Iterator[bytes]:
    """Fields, and more fields."""
    yield b"HTTP/1.1 200 OK\r\n"
    for number in itertools.count():
        yield b"X-%d: %b\r\n" % (number, b"y" * 1000)


def informational(_: socket.socket) -> Iterator[bytes]:
    """Promises, and more promises."""
    yield from itertools.repeat(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 100)


def garbage(_: socket.socket) -> Iterator[bytes]:
    """No HTTP."""
    yield b"\x00\x01\x02 what is this\r\n\r\n"


def both_framings(_: socket.socket) -> Iterator[bytes]:
    """Two lengths for one body."""
    yield b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"


def gone(_: socket.socket) -> Iterator[bytes]:
    """Nothing but the end."""
    yield b""


def cut_counted(_: socket.socket) -> Iterator[bytes]:
    """Less than was promised."""
    yield b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 50


def cut_chunked(_: socket.socket) -> Iterator[bytes]:
    """Chunks without a last one."""
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n32\r\n" + b"x" * 50 + b"\r\n"


def cut_delimited(caller: socket.socket) -> Iterator[bytes]:
    """A reset where an end would say that the body is whole."""
    yield b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 50
    wait(0.2)
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


BEHAVIOURS: dict[str, Callable[[socket.socket], Iterator[bytes]]] = {
    "/never": never,
    "/trickle": trickle,
    "/endless-head": endless_head,
    "/informational": informational,
    "/garbage": garbage,
    "/both-framings": both_framings,
    "/gone": gone,
    "/cut-counted": cut_counted,
    "/cut-chunked": cut_chunked,
    "/cut-delimited": cut_delimited,
}


def answer(caller: socket.socket) -> None:
    with caller, contextlib.suppress(OSError):
        asked = caller.recv(65536).split(b" ")[1].decode()
        for piece in BEHAVIOURS[asked](caller):
            caller.sendall(piece)


def main(port: str) -> None:
    with socket.create_server(
        ("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True
    ) as listening:
        while True:
            caller, _ = listening.accept()
            threading.Thread(target=answer, args=(caller,), daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
