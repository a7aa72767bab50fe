"""Accept captured connections, as many at once as we can carry, and let a mistake in one end only that one."""

import contextlib
import ctypes
import errno
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio

from tproxy.model.address import Address
from tproxy.net.guard import guarded
from tproxy.net.tcp_stream import TcpStream

LOG = logging.getLogger(__name__)

BACKLOG = 4096
"""Connections that the kernel completes while we are busy; it cuts this down to net.core.somaxconn."""

EAGER_ACCEPTS = 64
"""Connections taken in a row before those already taken get a turn."""

CAPACITY_PAUSE = 0.1
"""Seconds to leave the backlog alone when descriptors or memory ran out: only an end elsewhere frees any."""

LAST_CALL_SECONDS = 0.1
"""How long handshakes that have begun may take to end once no new one may begin: some round trips."""

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


@dataclass(frozen=True, slots=True)
class Options:
    """What is special about a listening socket."""

    transparent: bool = False
    """It also takes connections to addresses that are not ours (TPROXY)."""
    shared: bool = False
    """Others of the same user may listen there too, and the kernel spreads connections among them (SO_REUSEPORT)."""


PLAIN = Options()


def listen_everywhere(port: int, options: Options = PLAIN) -> list[socket.socket]:
    """Open one socket on every address, for both families or for IPv4 where this machine has no other."""
    try:
        return [_listening(socket.AF_INET6, ("", port), options)]
    except OSError as error:
        if error.errno not in NO_IPV6:
            raise
    return [_listening(socket.AF_INET, ("", port), options)]


def listen_on_loopback(port: int, options: Options = PLAIN) -> list[socket.socket]:
    """Open a socket on 127.0.0.1 and, where there is one, ::1; port 0 chooses one port for both."""
    ipv4 = _listening(socket.AF_INET, ("127.0.0.1", port), options)
    try:
        return [ipv4, _listening(socket.AF_INET6, ("::1", ipv4.getsockname()[1]), options)]
    except OSError as error:
        if error.errno in NO_IPV6:
            return [ipv4]
        ipv4.close()
        raise


def _listening(
    family: socket.AddressFamily, address: tuple[str, int], options: Options
) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.settimeout(0)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if options.shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            only_ipv6 = bool(address[0])
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_ipv6)
        if options.transparent:
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


SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27

# Classic BPF, which every Linux takes without any privilege; what it sees begins with the TCP header (net/core/filter.c,
# tcp_filter). Load the byte of flags; a SYN is dropped (0), everything else passes whole.
_NO_NEW_HANDSHAKES = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # ldb [13]
        (0x45, 0, 1, 0x02),  # jset #SYN
        (0x06, 0, 0, 0),  # ret #0
        (0x06, 0, 0, 0xFFFFFFFF),  # ret #-1
    )
)


def _refuse_handshakes(listening: socket.socket) -> None:
    """Let no handshake begin on a socket, while those under way come to their end.

    A close would reset whatever is in its queue by then: connections that their peers take for open.
    """
    program = ctypes.create_string_buffer(_NO_NEW_HANDSHAKES)
    count = len(_NO_NEW_HANDSHAKES) // 8
    # A sandbox may not know filters: the queue is emptied all the same.
    with contextlib.suppress(OSError):
        fprog = struct.pack("HxxxxxxP", count, ctypes.addressof(program))
        listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)


def _take_handshakes(listening: socket.socket) -> None:
    """Undo what a worker before us did to the socket as it left."""
    with contextlib.suppress(OSError):  # it did nothing
        listening.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


class Slots:
    """Places for connections, shared by the listeners that carry for the same purpose. What changes: which are free.

    Beyond those that are `carried` some may be had to be `turned_away`; beyond these, connections wait in the kernel's
    backlog.
    """

    def __init__(self, carried: int, turned_away: int = 0) -> None:
        self._carried = carried
        self._turned_away = turned_away
        self._waiting = trio.lowlevel.ParkingLot()

    async def take(self) -> bool:
        """Wait for a place, and say whether its connection is to be carried."""
        while not (self._carried or self._turned_away):
            await self._waiting.park()
        if self._carried:
            self._carried -= 1
            return True
        self._turned_away -= 1
        return False

    def give_back(self, *, carried: bool) -> None:
        """Free a place of the kind that `take` gave."""
        if carried:
            self._carried += 1
        else:
            self._turned_away += 1
        if self._waiting:
            self._waiting.unpark()


async def _nothing(_: TcpStream) -> None:
    """Close the connection: the listener does."""


class Listener:
    """Listening sockets and the connections that came by them. What changes: whether it still accepts.

    It owns the sockets. `slots` bounds the connections alive, together with other listeners that share it.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        handler: Handler,
        *,
        slots: Slots,
        turn_away: Handler = _nothing,
    ) -> None:
        self._sockets = sockets
        self._handler = handler
        self._slots = slots
        self._turn_away = turn_away
        self._accepting = trio.CancelScope()
        self._out_of_capacity = False
        self.ended = trio.Event()
        """Set when it has stopped and its last connection has ended."""

    @property
    def addresses(self) -> list[Address]:
        """Where it listens; to be asked before it has stopped."""
        return [Address.of(*listening.getsockname()[:2]) for listening in self._sockets]

    async def serve(self) -> None:
        """Accept until `stop`, then wait for the last connection; cancelling ends the connections as well."""
        async with trio.open_nursery() as connections:
            with contextlib.ExitStack() as closing:
                for listening in self._sockets:
                    closing.callback(listening.close)
                    _take_handshakes(listening)
                with self._accepting:
                    async with trio.open_nursery() as accepting:
                        for listening in self._sockets:
                            accepting.start_soon(self._accept_from, listening, connections)
                for listening in self._sockets:
                    await self._accept_rest(listening, connections)
        self.ended.set()

    def stop(self) -> None:
        """Accept what has been dialled by now and no more, then close the listening sockets; connections go on."""
        for listening in self._sockets:
            _refuse_handshakes(listening)
        self._accepting.deadline = trio.current_time() + LAST_CALL_SECONDS

    async def _accept_from(self, listening: socket.socket, connections: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(listening)
            try:
                await self._accept_waiting(listening, connections)
            except OSError as error:
                await self._recover(error)

    async def _accept_rest(self, listening: socket.socket, connections: trio.Nursery) -> None:
        """Take whatever a close would reset, if the machine was too busy to take it before."""
        with trio.move_on_after(LAST_CALL_SECONDS), contextlib.suppress(OSError):
            while await self._accept_waiting(listening, connections):
                pass

    async def _accept_waiting(self, listening: socket.socket, connections: trio.Nursery) -> bool:
        """Take what waits in the backlog, as far as there are slots; False when nothing does."""
        for _ in range(EAGER_ACCEPTS):
            carried = await self._slots.take()
            try:
                stream = _accept(listening)
            except BaseException:
                self._slots.give_back(carried=carried)
                raise
            if stream is None:
                self._slots.give_back(carried=carried)
                return False
            self._out_of_capacity = False
            connections.start_soon(self._carry, stream, carried)
        return True

    async def _carry(self, stream: TcpStream, carried: bool) -> None:  # noqa: FBT001 - a task's argument
        """Carry a connection, or turn it away, to its end."""
        carry = self._handler if carried else self._turn_away
        try:
            await guarded(stream, carry(stream))
        finally:
            stream.close()
            self._slots.give_back(carried=carried)

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
