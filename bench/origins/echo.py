"""Send back what comes, on every connection: echo.py PORT."""

import contextlib
import select
import socket
import sys


class Echo:
    """All connections of one port. What changes: which there are."""

    def __init__(self, port: int) -> None:
        self.listening = socket.create_server(
            ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096
        )
        self.listening.settimeout(0)
        self.epoll = select.epoll()
        self.epoll.register(self.listening, select.EPOLLIN)
        self.open: dict[int, socket.socket] = {}

    def run(self) -> None:
        """Serve until the process is ended."""
        while True:
            for number, _ in self.epoll.poll():
                if number == self.listening.fileno():
                    self.accept()
                else:
                    self.echo(number)

    def accept(self) -> None:
        """Take the connections that wait."""
        with contextlib.suppress(BlockingIOError):
            while True:
                peer, _ = self.listening.accept()
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.open[peer.fileno()] = peer
                self.epoll.register(peer, select.EPOLLIN)

    def echo(self, number: int) -> None:
        """Send back what one connection said, or close it after its last word."""
        part = b""
        with contextlib.suppress(ConnectionError):
            part = self.open[number].recv(65536)
            self.open[number].sendall(part)
        if not part:
            self.open.pop(number).close()


Echo(int(sys.argv[1])).run()
