"""Ping on one connection, one at a time: ping.py ADDRESS PORT SECONDS."""

import json
import socket
import sys
import time

PING = bytes(64)


def main(address: str, port: str, seconds: str) -> None:
    """Say how many pings were answered, and how long the answers took."""
    taken = []
    with socket.create_connection((address, int(port))) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = now = time.monotonic()
        while now < began + float(seconds):
            peer.sendall(PING)
            assert peer.recv(4096) == PING
            before, now = now, time.monotonic()
            taken.append(now - before)
    taken.sort()
    latencies = {f"p{share}": taken[len(taken) * share // 100] for share in (50, 99)}
    print(json.dumps({"units": len(taken), "seconds": now - began, "latencies": latencies}))


main(*sys.argv[1:])
