"""Ask for targets as they are, each on a connection of its own, and print what came: status and body.

raw_targets.py HOST PORT TARGET…       (targets in Python's escapes)
"""

import socket
import sys


def ask(host: str, port: int, target: bytes) -> str:
    """Make one request and read its answer to the end."""
    with socket.create_connection((host, port), timeout=10) as stream:
        stream.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: stream.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return f"{head.split(b' ')[1].decode()} {body.decode('latin-1').strip()}"


HOST, PORT, *TARGETS = sys.argv[1:]
for each in TARGETS:
    print(ask(HOST, int(PORT), each.encode().decode("unicode_escape").encode("latin-1")))
