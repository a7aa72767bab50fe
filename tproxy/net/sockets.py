"""Every socket that a worker listens on, opened while root is still there and handed over a crash."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass

from tproxy.model.ports import Ports
from tproxy.net.listener import Options, listen_everywhere, listen_on_loopback


@dataclass(frozen=True, slots=True)
class DeskSockets:
    """Where the proxy answers for itself: the same sockets for all workers, any of which accepts."""

    admin: list[socket.socket]
    metrics: list[socket.socket]
    health: list[socket.socket]

    def __iter__(self) -> Iterator[socket.socket]:
        """Give all of them."""
        return iter((*self.admin, *self.metrics, *self.health))


@dataclass(frozen=True, slots=True)
class WorkerSockets:
    """What one worker has for itself: the connections in their queues are its own, and its successor's."""

    inbound: list[socket.socket]
    outbound: list[socket.socket]
    private: list[socket.socket]
    """On loopback at any port, where the other workers ask it; none when there are no others."""

    def __iter__(self) -> Iterator[socket.socket]:
        """Give all of them."""
        return iter((*self.inbound, *self.outbound, *self.private))


def open_desks(ports: Ports) -> DeskSockets:
    """Open what all workers answer on. OSError: a port is taken or not allowed."""
    return DeskSockets(
        listen_on_loopback(ports.admin),
        listen_everywhere(ports.metrics),
        listen_everywhere(ports.health),
    )


def open_carriers(ports: Ports, *, transparent: bool, workers: int) -> list[WorkerSockets]:
    """Open what each worker carries by. OSError: a port is taken or not allowed."""
    if workers == 1:
        alone = Options(transparent=transparent)
        return [
            WorkerSockets(
                listen_everywhere(ports.inbound, alone), listen_on_loopback(ports.outbound), []
            )
        ]
    _refuse_taken(ports)
    everywhere, loopback = Options(transparent=transparent, shared=True), Options(shared=True)
    return [
        WorkerSockets(
            listen_everywhere(ports.inbound, everywhere),
            listen_on_loopback(ports.outbound, loopback),
            listen_on_loopback(0)[:1],
        )
        for _ in range(workers)
    ]


def _refuse_taken(ports: Ports) -> None:
    """Raise OSError where another proxy listens, with whom the kernel would let us share a port without a word."""
    for each in (*listen_everywhere(ports.inbound), *listen_on_loopback(ports.outbound)):
        each.close()
