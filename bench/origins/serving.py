"""Serve TCP connections of one port in one process, with as little of its own as can be."""

import contextlib
import select
import socket
from collections.abc import Callable


def serve(port: int, answer: Callable[[socket.socket], bool]) -> None:
    """Serve until the process is ended: `answer` takes what is there, and says whether the connection goes on."""
    listening = socket.create_server(
        ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096
    )
    listening.settimeout(0)
    epoll = select.epoll()
    epoll.register(listening, select.EPOLLIN)
    peers: dict[int, socket.socket] = {}
    while True:
        for number, _ in epoll.poll():
            if number == listening.fileno():
                _accept(listening, epoll, peers)
            elif not answer(peers[number]):
                peers.pop(number).close()


def _accept(listening: socket.socket, epoll: select.epoll, peers: dict[int, socket.socket]) -> None:
    """Take the connections that wait."""
    with contextlib.suppress(BlockingIOError):
        while True:
            peer, _ = listening.accept()
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peers[peer.fileno()] = peer
            epoll.register(peer, select.EPOLLIN)
