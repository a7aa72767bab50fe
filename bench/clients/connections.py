"""Connect, ping once, close, many times over: connections.py ADDRESS PORT SECONDS AT_ONCE."""

import json
import select
import socket
import sys
import time

PING = bytes(64)


class Rush:
    """Some connections at once, each followed by the next. What changes: everything, until the time is over."""

    def __init__(self, address: tuple[str, int], seconds: float) -> None:
        self.address = address
        self.epoll = select.epoll()
        self.open: dict[int, tuple[socket.socket, float]] = {}
        self.began = time.monotonic()
        self.end = self.began + seconds
        self.taken: list[float] = []
        self.failed = 0

    def dial(self) -> None:
        """Begin one more connection, if there is time left."""
        if time.monotonic() >= self.end:
            return
        peer = socket.socket()
        peer.settimeout(0)
        peer.connect_ex(self.address)
        self.open[peer.fileno()] = peer, time.monotonic()
        self.epoll.register(peer, select.EPOLLOUT)

    def run(self, at_once: int) -> None:
        """Carry on until the last connection is closed."""
        for _ in range(at_once):
            self.dial()
        while self.open:
            for number, event in self.epoll.poll(5.0) or [*((each, 0) for each in self.open)]:
                self.step(number, event)

    def step(self, number: int, event: int) -> None:
        """Take one connection one step further."""
        peer, began = self.open[number]
        try:
            if event & select.EPOLLOUT:
                peer.send(PING)
                self.epoll.modify(number, select.EPOLLIN)
                return
            whole = peer.recv(4096) == PING
        except OSError:
            whole = False
        self.finish(number, began, whole=whole)

    def finish(self, number: int, began: float, *, whole: bool) -> None:
        """Close a connection, count it, and begin the next."""
        self.open.pop(number)[0].close()
        self.failed += not whole
        self.taken.append(time.monotonic() - began)
        self.dial()


def main(address: str, port: str, seconds: str, at_once: str) -> None:
    """Say how many connections there were, and how long they took."""
    rush = Rush((address, int(port)), float(seconds))
    rush.run(int(at_once))
    rush.taken.sort()
    p50, p99 = (rush.taken[len(rush.taken) * share // 100] for share in (50, 99))
    account = {
        "units": len(rush.taken),
        "failed": rush.failed,
        "latencies": {"p50": p50, "p99": p99},
    }
    print(json.dumps(account | {"seconds": time.monotonic() - rush.began}))


main(*sys.argv[1:])
