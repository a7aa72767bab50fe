"""Hold as many connections as each line of input says, each having been answered once: crowd.py tcp|http ADDRESS PORT."""

import json
import select
import socket
import sys

AT_ONCE = 128
"""Connections that are being opened at once: the kernel's backlog is for others too."""
ASK = {"tcp": bytes(64), "http": b"GET /1k HTTP/1.1\r\nHost: server\r\n\r\n"}
LEAST = {"tcp": 64, "http": 1024}
"""Bytes from which on an answer is whole."""


class Crowd:
    """Connections to one server. What changes: how many there are, and how far each of them is."""

    def __init__(self, kind: str, address: tuple[str, int]) -> None:
        self.kind = kind
        self.address = address
        self.epoll = select.epoll()
        self.asking: dict[int, tuple[socket.socket, int]] = {}
        self.rest: list[socket.socket] = []
        self.failed = 0

    def hold(self, count: int) -> None:
        """Open or close connections until there are `count`."""
        while len(self.rest) > count:
            self.rest.pop().close()
        while missing := count - len(self.rest) - self.failed:
            for _ in range(min(missing, AT_ONCE) - len(self.asking)):
                self.dial()
            for number, event in self.epoll.poll():
                self.step(number, event)

    def dial(self) -> None:
        """Begin one more connection."""
        peer = socket.socket()
        peer.settimeout(0)
        peer.connect_ex(self.address)
        self.asking[peer.fileno()] = peer, 0
        self.epoll.register(peer, select.EPOLLOUT)

    def step(self, number: int, event: int) -> None:
        """Take one connection one step further; what breaks is counted."""
        peer, _ = self.asking[number]
        try:
            if event & select.EPOLLOUT:
                peer.send(ASK[self.kind])
                self.epoll.modify(number, select.EPOLLIN)
            else:
                self.hear(number)
        except OSError:
            self.failed += 1
            self.asking.pop(number)[0].close()

    def hear(self, number: int) -> None:
        """Take a part of the answer; whoever has all of it rests."""
        peer, heard = self.asking[number]
        part = peer.recv(4096)
        if not part:
            raise ConnectionResetError
        self.asking[number] = peer, heard + len(part)
        if heard + len(part) >= LEAST[self.kind]:
            self.epoll.unregister(number)
            self.rest.append(self.asking.pop(number)[0])


crowd = Crowd(sys.argv[1], (sys.argv[2], int(sys.argv[3])))
for line in sys.stdin:
    crowd.hold(int(line))
    print(json.dumps({"open": len(crowd.rest), "failed": crowd.failed}), flush=True)
