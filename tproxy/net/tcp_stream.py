"""A TCP connection that answers at once what it can, and waits only for what the kernel has not got.

`socket.recv` itself is the receive buffer: it allocates, reads and gives back what it did not fill, and that measured
faster than reading into a shared buffer and copying out of it. So an idle connection holds no buffer at all. Whoever
passes on at once what arrives has it read into a buffer of his own, out of which nothing is copied.
"""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Awaitable
from typing import NoReturn

import trio

from tproxy.model.address import Address
from tproxy.model.identity import Peer
from tproxy.net.arrivals import Arrival, Arrivals
from tproxy.net.stream import SocketStream

SPLICE_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK

SPLICE_REFUSED = frozenset((errno.EINVAL, errno.ENOSYS, errno.EPERM))
"""What kernels and seccomp profiles without splice(2) for sockets say."""

_TCP_CLOSE = 7
"""<net/tcp_states.h>"""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class TcpStream(SocketStream):
    """One connected socket, which it owns. What changes: whether it was ended, closed, or broken by the peer."""

    __slots__ = (
        "_arrival",
        "_await_bytes",
        "_awaits_room",
        "_broken_by",
        "_eof_sent",
        "_local",
        "_sending",
        "peer",
        "socket",
    )

    def __init__(self, connected: socket.socket, peer: Address) -> None:
        super().__init__()
        connected.settimeout(0)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Urgent data stays where it stands among the rest (RFC 6093); the kernel would take it out, and drop it.
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        self.socket = connected
        self.peer = peer
        self._local: Address | None = None
        self._broken_by: OSError | None = None
        self._eof_sent = False
        self._sending = False
        self._awaits_room = False
        self._await_bytes = 0
        """How many tasks wait for bytes by trio's own means."""
        self._arrival: Arrival | None = None
        """None until somebody waits for bytes."""

    def __str__(self) -> str:
        """Name it, as logs do."""
        return f"the connection from {self.peer}"

    @property
    def local(self) -> Address:
        """Our end; to be asked for the first time while the stream is open."""
        if self._local is None:
            self._local = Address.of(*self.socket.getsockname()[:2])
        return self._local

    @property
    def identity(self) -> Peer | None:
        """Nobody proves anything on plaintext."""
        return None

    @property
    def trouble(self) -> str:
        """What broke the stream, unless it was an end."""
        return "" if self._broken_by is None else self._broken_by.strerror or ""

    @property
    def wants_room(self) -> bool:
        """Never: TCP says nothing by itself that takes room."""
        return False

    @property
    def reset_by_peer(self) -> bool:
        """Whether the peer has reset the connection, though something that it said before may still be there to read."""
        return self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE

    def keep_alive(self, seconds: int) -> None:
        """Have the kernel ask a silent peer whether it is still there, and break the stream when nobody answers."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)

    def exhausted(self) -> None:
        """Take note that a read, be it another's than ours, found that the kernel has no more."""
        if self._arrival is not None:
            self._arrival.possible = False

    def fileno(self) -> int:
        """Return the descriptor; -1 when closed."""
        return self.socket.fileno()

    @property
    def expectant(self) -> bool:
        """Whether something may have arrived."""
        return self._arrival is None or self._arrival.possible

    def expect(self) -> None:
        """Ask the kernel the next time, though it has told of nothing."""
        if self._arrival is not None:
            self._arrival.possible = True

    def try_peek(self, max_bytes: int) -> bytes | None:
        """Look at what has arrived, as `try_receive` does, and leave it there."""
        return self._read(max_bytes, socket.MSG_PEEK)

    def try_send(self, data: bytes | bytearray | memoryview) -> int:
        """Send what the kernel takes, without waiting."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        return self._send(data)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`; cancelled, some part of it is sent."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._sending = True
        try:
            await self._send_all(memoryview(data))
        finally:
            self._sending = False

    def arrival(self) -> Arrival:
        """Return what is known of bytes that arrive; kept from the first time it is asked."""
        if self._arrival is None:
            self._check_open()
            self._arrival = Arrivals.of_this_run().join(self.socket.fileno())
        return self._arrival

    async def wait_readable(self) -> None:
        """Wait until there are bytes, an end or an error to take."""
        self._check_open()
        self._await_bytes += 1
        try:
            await trio.lowlevel.wait_readable(self.socket)
        finally:
            self._await_bytes -= 1

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the kernel takes bytes, or has an error to tell."""
        await self._wait_writable()

    async def send_eof(self) -> None:
        """End our direction; the peer may go on sending."""
        self._check_open()
        await trio.lowlevel.checkpoint()
        self.end()

    def end(self) -> bool:
        """End our direction, as `send_eof` does, without a turn for others."""
        if self._sending or self._awaits_room:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._check_open()
        if not self._eof_sent:
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError as error:
                self._break(error)
            self._eof_sent = True
        return True

    async def wait_all_sent(self) -> None:
        """Wait until the kernel has put every byte on the wire, as a reset would discard the rest.

        Afterwards the stream takes bytes only one segment at a time: call it last.
        """
        self._check_open()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 1)
        await self._wait_writable()

    def wake_receiver_at(self, size: int) -> None:
        """Wait in `wait_readable` until `size` bytes have arrived; an end or an error wakes it as well."""
        self._check_open()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)

    def try_splice_to(self, pipe: int, max_bytes: int) -> int | None:
        """Move what has arrived into a pipe, as `try_receive` would: 0 at the end, None when it would have to wait.

        The pipe must have room. An OSError means that this kernel does not splice, and nothing was moved.
        """
        try:
            moved = os.splice(self.socket.fileno(), pipe, max_bytes, flags=SPLICE_FLAGS)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in SPLICE_REFUSED:
                raise
            self._break(error)
        if not moved:
            self._check_unbroken()
        return moved

    def try_splice_from(self, pipe: int, max_bytes: int) -> int:
        """Send at most `max_bytes` out of a pipe, as `try_send` would; 0 when it would have to wait."""
        try:
            return os.splice(pipe, self.socket.fileno(), max_bytes, flags=SPLICE_FLAGS)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._break(error)

    def interrupt(self) -> None:
        """Wake whoever waits on the stream with trio.ClosedResourceError, although it stays open."""
        if self._awaits_room or self._await_bytes:
            trio.lowlevel.notify_closing(self.socket)
        if self._arrival is not None:
            self._arrival.interrupt()

    def reset(self) -> None:
        """Close with RST."""
        if self.socket.fileno() != -1:
            # the peer may have reset first, which leaves nothing to say
            with contextlib.suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.close()

    def close(self) -> None:
        """Close; tasks that wait on the stream get trio.ClosedResourceError."""
        if self.socket.fileno() != -1:
            self.interrupt()
            if self._arrival is not None:
                self._arrival.leave()
                self._arrival = None
            self.socket.close()

    async def aclose(self) -> None:
        """Close; the kernel still delivers what was sent."""
        self.close()
        await trio.lowlevel.checkpoint()

    async def _send_all(self, rest: memoryview) -> None:
        self._check_open()
        await trio.lowlevel.checkpoint()
        while rest:
            sent = self._send(rest)
            rest = rest[sent:]
            if not sent:
                await self._wait_writable()

    async def _wait_writable(self) -> None:
        self._check_open()
        if self._awaits_room:
            raise trio.BusyResourceError("another task is waiting to send on this stream")
        self._awaits_room = True
        try:
            await trio.lowlevel.wait_writable(self.socket)
        finally:
            self._awaits_room = False

    def _wait_for_bytes(self) -> Awaitable[None]:
        return self.arrival().wait()

    def _take(self, max_bytes: int) -> bytes | None:
        data = self._read(max_bytes, 0)
        arrival = self._arrival
        if arrival is not None:
            if data is None:
                arrival.possible = False
            elif 0 < len(data) < max_bytes:
                # A read that is not full has taken all there was (epoll(7)), but for what stands apart.
                arrival.exhausted()
        return data

    def _take_into(self, room: memoryview) -> int | None:
        try:
            size = self.socket.recv_into(room)
        except BlockingIOError:
            self.exhausted()
            return None
        except OSError as error:
            self._break(error)
        if not size:
            self._check_unbroken()
        elif size < len(room) and self._arrival is not None:
            self._arrival.exhausted()
        return size

    def _read(self, max_bytes: int, flags: int) -> bytes | None:
        try:
            data = self.socket.recv(max_bytes, flags)
        except BlockingIOError:
            return None
        except OSError as error:
            self._break(error)
        if not data:
            self._check_unbroken()
        return data

    def _send(self, data: bytes | bytearray | memoryview) -> int:
        if self._eof_sent:
            raise trio.ClosedResourceError("cannot send after the end")
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._break(error)

    def _break(self, error: OSError) -> NoReturn:
        self._check_open()
        # EPIPE speaks of sending only: what the peer sent before its end stays honest.
        if not isinstance(error, BrokenPipeError):
            self._broken_by = OSError(error.errno, error.strerror)
        raise trio.BrokenResourceError(error.strerror or str(error)) from error

    def _check_unbroken(self) -> None:
        """Doubt an end of stream: the kernel tells an error once, perhaps to a send, and then calls it an end."""
        if self._broken_by is not None:
            self._break(self._broken_by)

    def _check_open(self) -> None:
        if self.socket.fileno() == -1:
            raise trio.ClosedResourceError("this stream was closed")
