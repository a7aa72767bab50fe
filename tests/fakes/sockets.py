"""Real connections on loopback, both ends ours."""

import socket
import struct
from pathlib import Path

import trio

from tproxy.model.address import Address
from tproxy.net.tcp_stream import TcpStream


def tcp_pair(host: str = "127.0.0.1") -> tuple[TcpStream, TcpStream]:
    """Connect two streams to each other."""
    dialled, accepted = socket_pair(host)
    peers = [Address.of(*end.getpeername()[:2]) for end in (dialled, accepted)]
    return TcpStream(dialled, peers[0]), TcpStream(accepted, peers[1])


def small_pair(size: int = 16384) -> tuple[TcpStream, TcpStream]:
    """Connect two streams for which the kernel holds little, and never more."""
    ends = tcp_pair()
    for end in ends:
        end.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
        end.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    return ends


def socket_pair(host: str = "127.0.0.1") -> tuple[socket.socket, socket.socket]:
    """Connect two blocking sockets to each other."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listening:
        dialled = socket.create_connection(listening.getsockname()[:2])
        return dialled, listening.accept()[0]


def listening_at(host: str) -> socket.socket:
    """Listen on any port of one address, without blocking."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, 0), family=family)
    listening.settimeout(0)
    return listening


def send_reset(end: socket.socket) -> None:
    """Close with RST."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


def open_descriptors() -> set[str]:
    """What the process holds open, by target, so that a leak names itself; without epolls, which last as long as a run."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{link.name} {link.readlink()}")
        except FileNotFoundError:  # the listing's own descriptor
            continue
    return {each for each in found if not each.endswith("[eventpoll]")}


async def fill(stream: TcpStream) -> int:
    """Send until the kernel takes not one byte more, and say how much that was."""
    filled = 0
    while True:
        while sent := stream.try_send(bytes(1 << 20)):
            filled += sent
        with trio.move_on_after(0.05) as waiting:
            await stream.wait_send_all_might_not_block()
        if waiting.cancelled_caught:
            sent = stream.try_send(b"x")
            if not sent:
                return filled
            filled += sent
