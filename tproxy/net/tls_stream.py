"""A TLS connection straight on its socket: OpenSSL reads and writes the descriptor, which measured faster than moving
ciphertext through memory.

The rule that must not be broken: **a peer that is told of an end has been given everything before it**. So close_notify
is not sent behind bytes that the socket did not take whole, and an end without close_notify is a failure: anybody on
the way can make one. And nothing is tried on a connection that was reset: once a write has failed OpenSSL reads nothing
any more, be it an early response or the alert that says why.
"""

import contextlib
from typing import NoReturn

import trio

from tproxy.model.address import Address
from tproxy.model.identity import Peer, Proof
from tproxy.net.arrivals import Arrival, Hearer
from tproxy.net.bell import Bell
from tproxy.net.stream import DEFAULT_RECEIVE_SIZE, SocketStream, private_room
from tproxy.net.tcp_stream import TcpStream
from tproxy.tls.steps import RECORD, Broken, Ended, Steps, Wait

WRITE_BYTES = 4 * RECORD
"""What OpenSSL is given at once: a call costs as much as encrypting a record. More of it gains nothing."""
SCRATCH = private_room(DEFAULT_RECEIVE_SIZE)
"""Where OpenSSL decrypts what somebody wants as bytes: for all connections, as it is taken out at once."""


async def handshake(tcp: TcpStream, steps: Steps) -> "TlsStream":
    """Secure a connection, which the stream then owns. NotSecured: it could not be; the caller closes, and sets the deadline."""
    while (wait := steps.handshake()) is not None:
        if wait is Wait.READABLE:
            await tcp.wait_readable()
        else:
            await tcp.wait_send_all_might_not_block()
    return TlsStream(tcp, steps)


class _Both:
    """Two who hear of the same arrivals."""

    def __init__(self, first: Hearer, second: Hearer) -> None:
        self._hearers = first, second

    def ring(self) -> None:
        """Tell both that something may have arrived."""
        for hearer in self._hearers:
            hearer.ring()

    def fail(self, error: Exception) -> None:
        """Tell both that nobody may wait any more."""
        for hearer in self._hearers:
            hearer.fail(error)


class TlsStream(SocketStream):
    """One secured connection. What changes: what was decrypted and not taken, and whether it ended, broke or was closed."""

    __slots__ = (
        "_ahead",
        "_awaits_room",
        "_begun",
        "_broken_by",
        "_eof_sent",
        "_left",
        "_message",
        "_over",
        "_peek_bytes",
        "_read_wants_room",
        "_room",
        "_send_wants_bytes",
        "_sending",
        "_steps",
        "_tcp",
        "_unsendable",
        "peer",
    )

    def __init__(self, tcp: TcpStream, steps: Steps) -> None:
        super().__init__()
        self._tcp = tcp
        self._steps = steps
        self.peer = tcp.peer
        self._ahead = b""
        """Decrypted to be looked at, and not taken yet."""
        self._peek_bytes = RECORD
        self._broken_by = ""
        self._over = False
        """Whether it has ended, or broken: then nothing more is read."""
        self._unsendable = ""
        """What a write has failed by: no read after it tells more."""
        self._eof_sent = False
        self._begun = b""
        """What OpenSSL was given and has not sent whole: that comes before anything else."""
        self._left = False
        """Whether whoever has begun it was cancelled, and will not send it again."""
        self._read_wants_room = False
        self._send_wants_bytes = False
        """Whether TLS has to read something before it sends: a message of its own that the peer has only begun."""
        self._awaits_room = False
        """Whether whoever sends waits until he can."""
        self._room: Bell | None = None
        """For whoever waits for room beside another who does."""
        self._message: Bell | None = None
        """For whoever waits to send until such a message has been read, be it by another."""
        self._sending = False

    @property
    def local(self) -> Address:
        """Our end."""
        return self._tcp.local

    @property
    def identity(self) -> Peer | None:
        """Who the peer has proven to be."""
        return self._steps.peer

    @property
    def alpn(self) -> str:
        """The protocol that was agreed on; empty when none was."""
        return self._steps.alpn

    @property
    def trouble(self) -> str:
        """What broke the stream: an alert, mostly."""
        return self._broken_by or self._tcp.trouble

    @property
    def wants_room(self) -> bool:
        """Whether what was read has to be answered, by TLS itself, before more can be."""
        return self._read_wants_room

    @property
    def reset_by_peer(self) -> bool:
        """Whether the peer has reset the connection."""
        return self._tcp.reset_by_peer

    @property
    def expectant(self) -> bool:
        """Whether something may have arrived, or was decrypted already."""
        return self._over or self._tcp.expectant or bool(self._ahead)

    def arrival(self) -> Arrival:
        """Return what is known of ciphertext that arrives."""
        return self._tcp.arrival()

    def proof(self) -> Proof:
        """How the peer has proven who it is, where it had to."""
        return self._steps.proof()

    def expect(self) -> None:
        """Ask OpenSSL the next time, though the kernel has told of nothing."""
        self._tcp.expect()

    def fileno(self) -> int:
        """Return the descriptor; -1 when closed."""
        return self._tcp.fileno()

    def try_peek(self, max_bytes: int) -> bytes | None:
        """Look at what has arrived and leave it there, decrypted."""
        self._peek_bytes = max_bytes
        if len(self._ahead) < max_bytes and self._decrypt_ahead():
            # The kernel would not tell a task that waits for it.
            self._tcp.arrival().tell(0)
        return self._ahead[:max_bytes] if self._ahead else self._nothing_more()

    def try_send(self, data: bytes | bytearray | memoryview) -> int:
        """Send what the kernel takes, without waiting; nearly WRITE_BYTES more than it says may be on their way."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        return self._send(memoryview(data))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`; cancelled, some part of it is sent."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._sending = True
        try:
            self._check_open()
            await trio.lowlevel.checkpoint()
            rest = memoryview(data)
            while rest:
                sent = self._send(rest)
                rest = rest[sent:]
                if rest:
                    await self.wait_send_all_might_not_block()
        finally:
            self._sending = False
            self._left = bool(self._begun)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the kernel takes bytes, or has an error to tell, and TLS has read what it must before."""
        if self._awaits_room:
            raise trio.BusyResourceError("another task is waiting to send on this stream")
        self._awaits_room = True
        try:
            if self._send_wants_bytes:
                await self._wait_for_message()
            else:
                await self._wait_for_room()
        finally:
            self._awaits_room = False

    async def wait_readable(self) -> None:
        """Wait until there is more to look at than at the last `try_peek`, an end or an error."""
        seen = len(self._ahead)
        while len(self._ahead) == seen < self._peek_bytes and not self._over:
            if self._read_wants_room:
                await self._wait_for_room()
            else:
                await self._tcp.wait_readable()
            self._decrypt_ahead()

    def wake_receiver_at(self, size: int) -> None:
        """Do nothing: what has arrived is decrypted, and does not make the socket readable any more."""

    async def send_eof(self) -> None:
        """End our direction by close_notify; the peer may go on sending."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._check_open()
        await trio.lowlevel.checkpoint()
        while not self.end():
            await self.wait_send_all_might_not_block()

    def end(self) -> bool:
        """End our direction; where TLS cannot say so yet, `send_eof` has to wait for it."""
        self._check_open()
        if not self._eof_sent:
            self._check_sendable()
            try:
                wait = self._steps.end()
            except Broken as error:
                self._unsendable = str(error)
                self._break(error)
            self._eof_sent = wait is None
            self._send_wants_bytes = wait is Wait.READABLE
        return self._eof_sent

    async def wait_all_sent(self) -> None:
        """Wait until the kernel has put every byte on the wire."""
        await self._tcp.wait_all_sent()

    def interrupt(self) -> None:
        """Wake whoever waits on the stream with trio.ClosedResourceError, although it stays open."""
        self._tcp.interrupt()

    def reset(self) -> None:
        """Close with RST, and no close_notify."""
        self._tcp.reset()

    def close(self) -> None:
        """Close, with close_notify if everything before it was sent."""
        if self.fileno() != -1:
            with contextlib.suppress(Broken):  # it is gone, or takes nothing
                if not (self._begun or self._eof_sent):
                    self._steps.end()
                if not self._over:
                    # Session tickets that nobody has read would make the kernel reset what is still on its way.
                    self._steps.fill(SCRATCH[:1])
        self._tcp.close()

    async def aclose(self) -> None:
        """Close; the kernel still delivers what was sent."""
        self.close()
        await trio.lowlevel.checkpoint()

    async def _wait_for_bytes(self) -> None:
        if self._ahead or self._over:
            await trio.lowlevel.checkpoint()
        elif self._read_wants_room:
            await self._wait_for_room()
        else:
            await self._tcp.arrival().wait()

    async def _wait_for_room(self) -> None:
        """Wait until the kernel takes bytes: one task for both, where reading has to wait for that, too."""
        if self._room is not None:
            await self._room.rung()
            return
        self._room = bell = Bell()
        try:
            await self._tcp.wait_send_all_might_not_block()
        finally:
            self._room = None
            bell.ring()

    async def _wait_for_message(self) -> None:
        """Wait until bytes arrive, or another has read some."""
        arrival = self._tcp.arrival()
        hearer, self._message = arrival.hearer, Bell()
        arrival.hearer = _Both(self._message, hearer)
        try:
            await self._message.rung()
        finally:
            arrival.hearer, self._message = hearer, None

    def _take(self, max_bytes: int) -> bytes | None:
        if self._ahead:
            data, self._ahead = self._ahead[:max_bytes], self._ahead[max_bytes:]
            return data
        return self._decrypted(max_bytes) or self._nothing_more()

    def _nothing_more(self) -> bytes | None:
        """Answer for a stream of which nothing is at hand."""
        if self._broken_by:
            raise trio.BrokenResourceError(self._broken_by)
        return b"" if self._over else None

    def _take_into(self, room: memoryview) -> int | None:
        if self._ahead:
            size = min(len(self._ahead), len(room))
            room[:size], self._ahead = self._ahead[:size], self._ahead[size:]
            return size
        return self._fill(room) or (None if self._nothing_more() is None else 0)

    def _decrypt_ahead(self) -> bool:
        more = self._decrypted(self._peek_bytes - len(self._ahead))
        self._ahead += more
        return bool(more)

    def _decrypted(self, most: int) -> bytes:
        room = SCRATCH[:most]
        return bytes(room[: self._fill(room)])

    def _fill(self, room: memoryview) -> int:
        """Decrypt into `room` what has arrived; what ended the stream behind it is told the next time."""
        self._check_open()
        if self._over:
            return 0
        size, why = self._steps.fill(room)
        self._stopped_by(why)
        return size

    def _stopped_by(self, why: Wait | Ended | Broken | None) -> None:
        """Take note of what stopped reading; None where nothing has."""
        self._read_wants_room = why is Wait.WRITABLE
        if why is Wait.READABLE:
            self._tcp.exhausted()
        elif isinstance(why, Broken):
            self._broken_by = self._unsendable or str(why)
            self._over = True
        elif why is Ended.ENDED:
            self._over = True
        if self._message is not None:
            self._message.ring()

    def _send(self, rest: memoryview) -> int:
        self._check_open()
        if self._eof_sent:
            raise trio.ClosedResourceError("cannot send after the end")
        self._check_sendable()
        sent = 0
        if begun := self._begun:
            same = self._left or bytes(rest[: len(begun)]) == begun
            assert same, "what was begun is not another's"
            if not self._write(begun):
                return 0
            sent, self._left = 0 if self._left else len(begun), False
        while sent < len(rest):
            piece = rest[sent : sent + WRITE_BYTES]
            if not self._write(piece):
                break
            sent += len(piece)
        return sent

    def _write(self, piece: bytes | memoryview) -> bool:
        """Write all of it, or say that it has to be tried again."""
        try:
            wait = self._steps.write(piece)
        except Broken as error:
            self._unsendable = str(error)
            self._break(error)
        if wait is Wait.READABLE and len(self._begun) > RECORD and not self._send_wants_bytes:
            # OpenSSL has met a message of its own that is only begun, and forgotten how many of the records it had sent:
            # tried again it would send them twice.
            self._unsendable = "a message of TLS was begun amid ours"
            self._break(Broken(self._unsendable))
        self._begun = b"" if wait is None else bytes(piece)
        self._send_wants_bytes = wait is Wait.READABLE
        return wait is None

    def _check_sendable(self) -> None:
        """Fail on a connection that takes no more, or was reset; only where something has arrived that was not read can it have been.

        A reset between this look and the write is the write's to meet, and what was not read then is lost.
        """
        if self._unsendable:
            self._break(Broken(self._unsendable))
        if self._tcp.expectant and self._tcp.reset_by_peer:
            self._break(Broken("the peer has reset the connection"))

    def _break(self, error: Broken) -> NoReturn:
        raise trio.BrokenResourceError(str(error)) from error

    def _check_open(self) -> None:
        if self._tcp.fileno() == -1:
            raise trio.ClosedResourceError("this stream was closed")
