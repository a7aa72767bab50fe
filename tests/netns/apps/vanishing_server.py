"""Servers that leave their client at one point of the exchange each: a port for every point, in the order of POINTS."""

import os
import selectors
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived, StreamEnded

SOME = 50_000
"""Bytes of a body that is left half-way."""


def http1(peer: socket.socket) -> Iterator[str]:
    yield "before the head"
    heard = peer.recv(10)
    yield "inside the head"
    while b"\r\n\r\n" not in heard:
        heard += peer.recv(1)
    yield "after the head"
    head, _, _ = heard.partition(b"\r\n\r\n")
    size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    peer.recv(SOME, socket.MSG_WAITALL)
    yield "inside the body"
    peer.recv(size - SOME, socket.MSG_WAITALL)
    yield "before the response"
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Le")
    yield "inside the response's head"
    peer.sendall(b"ngth: 10\r\n\r\nhello")
    yield "inside the response's body"
    peer.sendall(b"world")
    yield "after it"


def http2(peer: socket.socket) -> Iterator[str]:
    yield "before the head"
    preface = peer.recv(24, socket.MSG_WAITALL)
    yield "inside the head"
    link = H2Connection(H2Configuration(client_side=False))
    link.initiate_connection()
    link.receive_data(preface)
    peer.sendall(link.data_to_send())
    events = heard2(link, peer)
    request = next(event for event in events if isinstance(event, RequestReceived))
    yield "after the head"
    size = 0
    while size < SOME:
        size += next(len(event.data) for event in events if isinstance(event, DataReceived))
    yield "inside the body"
    next(event for event in events if isinstance(event, StreamEnded))
    yield "before the response"
    link.send_headers(request.stream_id, [(":status", "200"), ("content-length", "10")])
    head = link.data_to_send()
    peer.sendall(head[:10])
    yield "inside the response's head"
    link.send_data(request.stream_id, b"hello")
    peer.sendall(head[10:] + link.data_to_send())
    yield "inside the response's body"
    link.send_data(request.stream_id, b"world", end_stream=True)
    peer.sendall(link.data_to_send())
    yield "after it"


def heard2(link: H2Connection, peer: socket.socket) -> Iterator[Event]:
    while data := peer.recv(4096):
        for event in link.receive_data(data):
            if isinstance(event, DataReceived):
                link.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            yield event
        peer.sendall(link.data_to_send())


def tcp(peer: socket.socket) -> Iterator[str]:
    yield "before the head"
    heard = peer.recv(4)
    yield "inside the head"
    while not heard.endswith(b"\n"):
        heard += peer.recv(100)
    yield "before the response"
    peer.sendall(b"hello")
    yield "inside the response's body"
    peer.sendall(b"world")
    yield "after it"


def end(peer: socket.socket) -> None:
    """Say that nothing more will come, and listen until the peer ends too."""
    peer.shutdown(socket.SHUT_WR)
    while peer.recv(65536):
        pass


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def die(_: socket.socket) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


SCRIPTS = {"http1": http1, "http2": http2, "tcp": tcp}
WAYS: dict[str, Callable[[socket.socket], None]] = {"end": end, "reset": reset, "die": die}
POINTS = {
    protocol: [
        "before the head",
        "inside the head",
        "before the response",
        "inside the response's body",
        "after it",
    ]
    if protocol == "tcp"
    else [
        "before the head",
        "inside the head",
        "after the head",
        "inside the body",
        "before the response",
        "inside the response's head",
        "inside the response's body",
        "after it",
    ]
    for protocol in SCRIPTS
}


def serve(protocol: str, way: str, first: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    selector = selectors.EpollSelector()
    for number, point in enumerate(POINTS[protocol]):
        listening = socket.create_server(
            ("::", int(first) + number), family=socket.AF_INET6, dualstack_ipv6=True
        )
        selector.register(listening, selectors.EVENT_READ, point)
    while True:
        for key, _ in selector.select():
            assert isinstance(key.fileobj, socket.socket)
            peer, _ = key.fileobj.accept()
            peer.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
            )  # a reset drops what Nagle holds
            if os.fork() == 0:
                for other in list(selector.get_map().values()):
                    os.close(other.fd)  # the next server on these ports must not wait for us
                next(point for point in SCRIPTS[protocol](peer) if point == key.data)
                WAYS[way](peer)
                os._exit(0)
            peer.close()


serve(*sys.argv[1:])
