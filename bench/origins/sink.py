"""Swallow what comes, and say in eight bytes how much it was once the other side is done: sink.py PORT."""

import contextlib
import select
import socket
import sys

BUFFER = memoryview(bytearray(1 << 18))


class Sink:
    """All connections of one port. What changes: which there are, and how much came on each."""

    def __init__(self, port: int) -> None:
        self.listening = socket.create_server(
            ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128
        )
        self.epoll = select.epoll()
        self.epoll.register(self.listening, select.EPOLLIN)
        self.open: dict[int, socket.socket] = {}
        self.swallowed: dict[int, int] = {}

    def run(self) -> None:
        """Serve until the process is ended."""
        while True:
            for number, _ in self.epoll.poll():
                if number == self.listening.fileno():
                    self.accept()
                else:
                    self.swallow(number)

    def accept(self) -> None:
        """Take one connection that waits."""
        peer, _ = self.listening.accept()
        self.open[peer.fileno()] = peer
        self.swallowed[peer.fileno()] = 0
        self.epoll.register(peer, select.EPOLLIN)

    def swallow(self, number: int) -> None:
        """Take what is there; at its end, say how much it was."""
        size = 0
        with contextlib.suppress(ConnectionError):
            size = self.open[number].recv_into(BUFFER)
        self.swallowed[number] += size
        if not size:
            with contextlib.suppress(ConnectionError), self.open.pop(number) as peer:
                peer.sendall(self.swallowed.pop(number).to_bytes(8, "big"))


Sink(int(sys.argv[1])).run()
