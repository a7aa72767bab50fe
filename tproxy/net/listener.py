"""Accept captured connections, as many at once as we can carry, and let a mistake in one end only that one."""

import contextlib
import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence

import trio

from tproxy.model.address import Address
from tproxy.net.tcp_stream import TcpStream

LOG = logging.getLogger(__name__)

BACKLOG = 4096
"""Connections that the kernel completes while we are busy; it cuts this down to net.core.somaxconn."""

EAGER_ACCEPTS = 64
"""Connections taken in a row before those already taken get a turn."""

CAPACITY_PAUSE = 0.1
"""Seconds to leave the backlog alone when descriptors or memory ran out: only an end elsewhere frees any."""

IP_TRANSPARENT = 19
IPV6_TRANSPARENT = 75

OUT_OF_CAPACITY = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

# accept(2): "treat them like EAGAIN"; the connection failed before we had it.
FAILED_BEFORE = frozenset(
    (
        errno.ECONNABORTED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENONET,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.EPERM,
        errno.EPROTO,
        errno.ETIMEDOUT,
    )
)

NO_IPV6 = frozenset((errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL))

Handler = Callable[[TcpStream], Awaitable[None]]
"""Carries one connection; the listener closes what it leaves open."""


def listen_everywhere(port: int, *, transparent: bool = False) -> socket.socket:
    """Open one socket on every address, for both families or for IPv4 where this machine has no other.

    A `transparent` one also takes connections to addresses that are not ours (TPROXY).
    """
    try:
        return _listening(socket.AF_INET6, ("", port), transparent=transparent)
    except OSError as error:
        if error.errno not in NO_IPV6:
            raise
    return _listening(socket.AF_INET, ("", port), transparent=transparent)


def listen_on_loopback(port: int) -> list[socket.socket]:
    """Open a socket on 127.0.0.1 and, where there is one, ::1; port 0 chooses one port for both."""
    ipv4 = _listening(socket.AF_INET, ("127.0.0.1", port))
    try:
        return [ipv4, _listening(socket.AF_INET6, ("::1", ipv4.getsockname()[1]))]
    except OSError as error:
        if error.errno in NO_IPV6:
            return [ipv4]
        ipv4.close()
        raise


def listen_at(address: Address) -> socket.socket:
    """Open a socket on one address."""
    family = socket.AF_INET6 if address.is_ipv6 else socket.AF_INET
    return _listening(family, (address.host, address.port))


def _listening(
    family: socket.AddressFamily, address: tuple[str, int], *, transparent: bool = False
) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.settimeout(0)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            only_ipv6 = bool(address[0])
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_ipv6)
        if transparent:
            _make_transparent(listening)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise OSError(error.errno, f"{error.strerror} (TCP port {address[1]})") from error
    return listening


def _make_transparent(listening: socket.socket) -> None:
    """Set both families' options: a socket on `::` takes IPv4 connections under IPv4's."""
    listening.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
    if listening.family == socket.AF_INET6:
        listening.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)


class Listener:
    """Listening sockets and the connections that came by them. What changes: whether it still accepts.

    It owns the sockets. `slots` bounds the connections alive, together with other listeners that share it: when none
    is free, further ones wait in the kernel's backlog.
    """

    def __init__(
        self, sockets: Sequence[socket.socket], handler: Handler, *, slots: trio.Semaphore
    ) -> None:
        self._sockets = sockets
        self._handler = handler
        self._slots = slots
        self._accepting = trio.CancelScope()
        self._out_of_capacity = False

    @property
    def addresses(self) -> list[Address]:
        """Where it listens; to be asked before it has stopped."""
        return [Address.of(*listening.getsockname()[:2]) for listening in self._sockets]

    async def serve(self) -> None:
        """Accept until `stop`, then wait for the last connection; cancelling ends the connections as well."""
        async with trio.open_nursery() as connections:
            with self._accepting, contextlib.ExitStack() as closing:
                for listening in self._sockets:
                    closing.callback(listening.close)
                async with trio.open_nursery() as accepting:
                    for listening in self._sockets:
                        accepting.start_soon(self._accept_from, listening, connections)

    def stop(self) -> None:
        """Accept no more, and close the listening sockets; connections go on."""
        self._accepting.cancel()

    async def _accept_from(self, listening: socket.socket, connections: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(listening)
            try:
                await self._accept_waiting(listening, connections)
            except OSError as error:
                await self._recover(error)

    async def _accept_waiting(self, listening: socket.socket, connections: trio.Nursery) -> None:
        """Take what waits in the backlog, as far as there are slots."""
        for _ in range(EAGER_ACCEPTS):
            await self._slot()
            try:
                stream = _accept(listening)
            except BaseException:
                self._slots.release()
                raise
            if stream is None:
                self._slots.release()
                return
            self._out_of_capacity = False
            connections.start_soon(self._carry, stream)

    async def _slot(self) -> None:
        try:
            self._slots.acquire_nowait()
        except trio.WouldBlock:
            await self._slots.acquire()

    async def _carry(self, stream: TcpStream) -> None:
        """Guard the rest of the program: this is its only `except Exception`."""
        try:
            await self._handler(stream)
        except Exception:
            LOG.exception("the connection from %s ended by a mistake of the proxy's", stream.peer)
        finally:
            stream.close()
            self._slots.release()

    async def _recover(self, error: OSError) -> None:
        if error.errno in FAILED_BEFORE:
            return
        if error.errno not in OUT_OF_CAPACITY:
            raise error
        if not self._out_of_capacity:
            LOG.error("cannot accept connections, which wait: %s", error.strerror)
        self._out_of_capacity = True
        await trio.sleep(CAPACITY_PAUSE)


def _accept(listening: socket.socket) -> TcpStream | None:
    try:
        accepted, (host, port, *_) = listening.accept()
    except BlockingIOError:
        return None
    return TcpStream(accepted, Address.of(host, port))
