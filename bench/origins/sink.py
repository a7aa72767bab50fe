"""Swallow what comes, and say in eight bytes how much it was once the other side is done: sink.py PORT."""

import contextlib
import socket
import sys
from collections import Counter

from serving import serve

BUFFER = memoryview(bytearray(1 << 18))


class Sink:
    """All connections of one port. What changes: how much came on each."""

    def __init__(self) -> None:
        self.swallowed: Counter[int] = Counter()

    def swallow(self, peer: socket.socket) -> bool:
        """Take what is there; at its end, say how much it was."""
        size = 0
        with contextlib.suppress(ConnectionError):
            size = peer.recv_into(BUFFER)
        self.swallowed[peer.fileno()] += size
        if not size:
            with contextlib.suppress(ConnectionError):
                peer.sendall(self.swallowed.pop(peer.fileno()).to_bytes(8, "big"))
        return bool(size)


serve(int(sys.argv[1]), Sink().swallow)
