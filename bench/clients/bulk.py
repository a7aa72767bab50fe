"""Send as much as is taken, and hear how much arrived: bulk.py ADDRESS PORT SECONDS CONNECTIONS."""

import json
import select
import socket
import sys
import time

BLOCK = bytes(1 << 18)
MEBIBYTE = 1 << 20


def send(peers: list[socket.socket], until: float) -> None:
    """Keep all connections full."""
    epoll = select.epoll()
    by_number = {peer.fileno(): peer for peer in peers}
    for number in by_number:
        epoll.register(number, select.EPOLLOUT)
    while time.monotonic() < until:
        for number, _ in epoll.poll(0.1):
            by_number[number].send(BLOCK, socket.MSG_DONTWAIT)


def arrived(peers: list[socket.socket]) -> int:
    """Say that this was all, and hear what came of it."""
    for peer in peers:
        peer.shutdown(socket.SHUT_WR)
    return sum(int.from_bytes(peer.recv(8), "big") for peer in peers)


def main(address: str, port: str, seconds: str, count: str) -> None:
    """Say how many MiB arrived, and how long that took."""
    peers = [socket.create_connection((address, int(port))) for _ in range(int(count))]
    began = time.monotonic()
    send(peers, began + float(seconds))
    units = arrived(peers) / MEBIBYTE
    print(json.dumps({"units": units, "seconds": time.monotonic() - began}))


main(*sys.argv[1:])
