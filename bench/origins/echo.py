"""Send back what comes, on every connection: echo.py PORT."""

import contextlib
import socket
import sys

from serving import serve


def echo(peer: socket.socket) -> bool:
    """Send back what was said, until the last word."""
    part = b""
    with contextlib.suppress(ConnectionError):
        part = peer.recv(65536)
        peer.sendall(part)
    return bool(part)


serve(int(sys.argv[1]), echo)
