"""Thousands of connections at once: a server that holds every answer until SIGUSR1, and a client that asks twice on each."""

import contextlib
import json
import resource
import selectors
import signal
import socket
import sys
from collections import Counter

DIALLING = 200
"""Connections that are only being opened at once: the kernel's backlog is for others too."""

ASKING = 500
"""Questions at once, the second time."""

QUESTIONS = {"http": b"GET / HTTP/1.1\r\nHost: server\r\n\r\n", "tcp": b"\0\1 how are you?\n"}
ANSWERS = {"http": b"ok", "tcp": b"fine\n"}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


class Server:
    """Holds what is asked before `release`, and answers at once after it. What changes: whom it owes an answer."""

    def __init__(self, listening: socket.socket, told: socket.socket) -> None:
        self.held: dict[socket.socket, bytes] | None = {}
        self.selector = selectors.EpollSelector()
        for each, turn in ((listening, self.accept), (told, self.release)):
            each.setblocking(False)
            self.selector.register(each, selectors.EVENT_READ, turn)

    def run(self) -> None:
        while True:
            for key, _ in self.selector.select():
                key.data(key.fileobj)

    def accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self.selector.register(listening.accept()[0], selectors.EVENT_READ, self.hear)

    def release(self, told: socket.socket) -> None:
        told.recv(100)
        held, self.held = self.held, None
        for peer, asked in (held or {}).items():
            self.answer(peer, asked)

    def hear(self, peer: socket.socket) -> None:
        asked = peer.recv(4096)
        if not asked:
            self.selector.unregister(peer)
            peer.close()
        elif self.held is None:
            self.answer(peer, asked)
        else:
            self.held[peer] = asked

    def answer(self, peer: socket.socket, asked: bytes) -> None:
        peer.sendall(HEAD + ANSWERS["http"] if asked.startswith(b"GET") else ANSWERS["tcp"])


def serve(port: str) -> None:
    listening = socket.create_server(
        ("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096
    )
    told, tell = socket.socketpair()
    tell.setblocking(False)
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.set_wakeup_fd(tell.fileno())
    Server(listening, told).run()


class Crowd:
    """Connections that have all asked the same. What changes: how far each is, and how many failed how."""

    def __init__(self, kind: str, address: tuple[str, int]) -> None:
        self.address = address
        self.question, self.answer = QUESTIONS[kind], ANSWERS[kind]
        self.selector = selectors.EpollSelector()
        self.heard: dict[socket.socket, bytes] = {}
        self.failures: Counter[str] = Counter()
        self.dialling = 0
        self.asking = 0

    def open(self, count: int) -> None:
        """Dial and ask, then wait for every answer."""
        left = count
        while left or self.dialling:
            while left and self.dialling < DIALLING:
                left -= 1
                self.dialling += 1
                peer = socket.socket()
                peer.setblocking(False)
                peer.connect_ex(self.address)
                self.selector.register(peer, selectors.EVENT_WRITE)
            self.step()
        self.wait()

    def ask_again(self) -> None:
        """Ask on every connection that is still open, then wait for every answer."""
        for peer in list(self.heard):
            while self.asking >= ASKING:
                self.step()
            self.ask(peer)
        self.wait()

    def ask(self, peer: socket.socket) -> None:
        self.heard[peer] = b""
        self.asking += 1
        peer.sendall(self.question)

    def wait(self) -> None:
        while self.asking:
            self.step()

    def step(self) -> None:
        for key, mask in self.selector.select():
            peer = key.fileobj
            assert isinstance(peer, socket.socket)
            try:
                if mask & selectors.EVENT_WRITE:
                    self.dialling -= 1
                    self.selector.modify(peer, selectors.EVENT_READ)
                    self.ask(peer)
                else:
                    self.hear(peer)
            except OSError as error:
                self.lose(peer, type(error).__name__)

    def hear(self, peer: socket.socket) -> None:
        part = peer.recv(4096)
        if not part:
            self.lose(peer, "ended")
            return
        self.heard[peer] += part
        if self.heard[peer].endswith(self.answer):
            self.asking -= 1

    def lose(self, peer: socket.socket, why: str) -> None:
        self.failures[why] += 1
        self.asking -= peer in self.heard
        self.heard.pop(peer, None)
        self.selector.unregister(peer)
        peer.close()


def call(kind: str, host: str, port: str, count: str) -> None:
    crowd = Crowd(kind, (socket.gethostbyname(host), int(port)))
    crowd.open(int(count))
    first = len(crowd.heard)
    crowd.ask_again()
    print(json.dumps({"first": first, "second": len(crowd.heard), "failures": crowd.failures}))


_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
if sys.argv[1] == "serve":
    serve(*sys.argv[2:])
else:
    call(*sys.argv[2:])
