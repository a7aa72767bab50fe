"""A client that leaves its server at every point of the exchange, on a connection of its own each: in what way, an argument says."""

import os
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, InformationalResponseReceived, StreamEnded

BODY_BYTES = 100_000
HALF = BODY_BYTES // 2
POINTS = {
    "before the head": "/read",
    "inside the head": "/read",
    "after the head": "/read",
    "inside the body": "/read",
    "before the response": "/hold",
    "inside the response": "/begin",
    "after it": "/read",
}
"""Points of an exchange, and what is asked to get there."""


def http1(peer: socket.socket, target: str) -> Iterator[str]:
    yield "before the head"
    head = (
        f"POST {target} HTTP/1.1\r\nHost: server\r\nContent-Length: {BODY_BYTES}\r\n\r\n".encode()
    )
    peer.sendall(head[:-5])
    yield "inside the head"
    peer.sendall(head[-5:])
    until(peer, b"\r\n\r\n")  # an informational response: the origin has been asked
    yield "after the head"
    peer.sendall(bytes(HALF))
    yield "inside the body"
    peer.sendall(bytes(HALF))
    yield "before the response"
    until(peer, b"some")
    yield "inside the response"
    until(peer, b"whole")
    yield "after it"


def until(peer: socket.socket, end: bytes) -> None:
    heard = b""
    while not heard.endswith(end):
        heard += peer.recv(1)


def http2(peer: socket.socket, target: str) -> Iterator[str]:
    yield "before the head"
    link = H2Connection(H2Configuration(header_encoding="utf-8"))
    link.initiate_connection()
    peer.sendall(link.data_to_send())
    events = heard2(link, peer)
    link.send_headers(1, [
        (":method", "POST"), (":scheme", "http"), (":authority", "server"), (":path", target),
        ("content-length", str(BODY_BYTES)),
    ])  # fmt: skip
    head = link.data_to_send()
    peer.sendall(head[:-5])
    yield "inside the head"
    peer.sendall(head[-5:])
    next(event for event in events if isinstance(event, InformationalResponseReceived))
    yield "after the head"
    send2(link, peer, HALF)
    yield "inside the body"
    send2(link, peer, HALF)
    link.end_stream(1)
    peer.sendall(link.data_to_send())
    yield "before the response"
    next(event for event in events if isinstance(event, DataReceived))
    yield "inside the response"
    next(event for event in events if isinstance(event, StreamEnded))
    yield "after it"


def heard2(link: H2Connection, peer: socket.socket) -> Iterator[Event]:
    while data := peer.recv(4096):
        yield from link.receive_data(data)
        peer.sendall(link.data_to_send())


def send2(link: H2Connection, peer: socket.socket, size: int) -> None:
    for start in range(0, size, link.max_outbound_frame_size):
        link.send_data(1, bytes(min(link.max_outbound_frame_size, size - start)))
    peer.sendall(link.data_to_send())


def tcp(peer: socket.socket, target: str) -> Iterator[str]:
    yield "before the head"
    peer.sendall(b"\0")
    yield "inside the head"
    peer.sendall(target.encode())
    yield "after the head"
    peer.sendall(bytes(HALF))
    yield "inside the body"
    peer.sendall(bytes(HALF - 1) + b"\n")
    until(peer, b"taken\n")
    yield "before the response"
    until(peer, b"some")
    yield "inside the response"
    until(peer, b"whole")
    yield "after it"


def end(peer: socket.socket) -> None:
    peer.close()


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def die(_: socket.socket) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


SCRIPTS = {"http1": http1, "http2": http2, "tcp": tcp}
WAYS: dict[str, Callable[[socket.socket], None]] = {"end": end, "reset": reset, "die": die}


def leave(protocol: str, way: str, host: str, port: str) -> None:
    for number, (point, path) in enumerate(POINTS.items()):
        if os.fork() == 0:
            peer = socket.create_connection((host, int(port)))
            steps = SCRIPTS[protocol](peer, f"{path}?{number}")
            next(step for step in steps if step == point)
            WAYS[way](peer)
            os._exit(0)
    for _ in POINTS:
        os.wait()


leave(*sys.argv[1:])
