"""One TLS connection over a socket that does not block: each step answers, or says what it waits for."""

import contextlib
from functools import cache
from socket import socket

from OpenSSL import SSL, crypto

from tproxy.model.identity import Peer, Proof
from tproxy.tls.reasons import NotSecured, Reason
from tproxy.tls.steps import MOST_RECORDS, RECORD, Broken, Ended, Filled, Wait
from tproxy.tls.verification import Verdict

try:
    # OpenSSL as pyOpenSSL calls it, which promises nobody else these names.
    from OpenSSL._util import ffi, lib
except ImportError:
    ffi = lib = None

MOST_STEPS = 1 << 15
"""OpenSSL's, for what a peer says behind the handshake that carries nothing: keys to be changed, tickets. One read goes on as
long as those come, and nobody else has a turn. A message takes four or so, and honest peers change keys once in many GiB."""
TOO_MUCH = "too many messages that carry nothing"

_ALERT = "alert "
_IN_MESSAGE = "shutdown while in init"
"""The peer has begun a message of TLS itself, and not told all of it."""
_REASONS = {
    "peer did not return a certificate": Reason.NO_CERTIFICATE,
    "certificate verify failed": Reason.BAD_CERTIFICATE,
}


class Session:
    """OpenSSL's `Steps`. What changes: how far it is, which OpenSSL keeps."""

    def __init__(self, connection: SSL.Connection, verdict: Verdict, own: Peer | None) -> None:
        self._connection = connection
        # Its callbacks may not go before the connection does, which is given another once it is secured.
        self._context = connection.get_context()
        self._verdict = verdict
        self._own = own
        connection.set_app_data(verdict)

    @classmethod
    def accept(
        cls, context: SSL.Context, connected: socket, verdict: Verdict, own: Peer | None
    ) -> "Session":
        """Begin on the side that was dialled."""
        connection = SSL.Connection(context, connected)
        connection.set_accept_state()
        return cls(connection, verdict, own)

    @classmethod
    def connect(
        cls, context: SSL.Context, connected: socket, verdict: Verdict, own: Peer | None
    ) -> "Session":
        """Begin on the side that dials."""
        connection = SSL.Connection(context, connected)
        connection.set_connect_state()
        return cls(connection, verdict, own)

    def ask_for(self, server_name: str) -> None:
        """Name whom we want to speak to (SNI)."""
        self._connection.set_tlsext_host_name(server_name.encode("ascii"))

    def offer(self, protocols: list[bytes]) -> None:
        """Offer protocols for what is inside (ALPN), the best first."""
        self._connection.set_alpn_protos(protocols)

    def handshake(self) -> Wait | None:
        """Go on with the handshake; None once it is over. NotSecured: it has failed, and the peer was told."""
        try:
            self._connection.do_handshake()
        except SSL.Error as error:
            if (wait := _wait(error)) is None:
                raise self._verdict.failure or _failure(error) from error
            return wait
        self._connection.set_context(_counting())
        return None

    @property
    def peer(self) -> Peer | None:
        """Who the peer has proven to be; None where it need not be a workload."""
        return self._verdict.peer

    @property
    def alpn(self) -> str:
        """The protocol that was agreed on; empty when none was."""
        return self._connection.get_alpn_proto_negotiated().decode("latin-1")

    def proof(self) -> Proof:
        """How the peer has proven it, once it has."""
        assert self._own is not None, "only who has an identity demands one"
        return Proof(
            self._own,
            self._verdict.certificate,
            self._connection.get_protocol_version_name(),
            self.alpn,
        )

    def fill(self, room: memoryview) -> Filled:
        """Take what there is into `room`, of MOST_RECORDS at most: how many bytes, and why not more; None where more may be there."""
        size, why = fill(self._connection, room)
        if why is Ended.ENDED and self._said_too_much:
            why = Broken(TOO_MUCH)
        return size, why

    def write(self, piece: bytes | memoryview) -> Wait | None:
        """Send all of `piece`; of one that has to wait some records may be on their way already."""
        try:
            self._connection.send(piece)
        except SSL.Error as error:
            return _waiting(error)
        return None

    def end(self) -> Wait | None:
        """Tell the peer that nothing more comes from us (close_notify); it may go on."""
        try:
            self._connection.shutdown()
        except SSL.Error as error:
            return self._message_read() if _words(error) == _IN_MESSAGE else _waiting(error)
        return None

    def _message_read(self) -> Wait | None:
        """End once a message that was begun has been read."""
        try:
            self._connection.do_handshake()
        except SSL.Error as error:
            return _waiting(error)
        return self.end()

    @property
    def _said_too_much(self) -> bool:
        """Whether what looks like the peer's end is ours of one that has only talked."""
        return self._verdict.steps > MOST_STEPS


@cache
def _counting() -> SSL.Context:
    """Make the context of whatever is behind its handshake; during one, which has few steps, each call would be felt."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_info_callback(_count)
    return context


def _count(connection: SSL.Connection, where: int, result: int) -> None:
    """Count a step, and have a read come to its end that has taken too many."""
    del where, result
    verdict = connection.get_app_data()
    assert isinstance(verdict, Verdict), "whoever begins a handshake sets it"
    verdict.steps += 1
    if verdict.steps > MOST_STEPS:
        connection.set_shutdown(connection.get_shutdown() | SSL.RECEIVED_SHUTDOWN)


def fill(connection: SSL.Connection, room: memoryview) -> Filled:
    """Do what `Session.fill` does, straight by OpenSSL: what pyOpenSSL does around a record takes as long as the record."""
    if lib is None or not hasattr(connection, "_ssl"):
        return fill_as_promised(connection, room)
    ssl = connection._ssl  # noqa: SLF001  (as above)
    start = ffi.from_buffer("char[]", room, require_writable=True)
    size, most = 0, len(room)
    for _ in range(MOST_RECORDS):
        taken = lib.SSL_read(ssl, start + size, most - size)
        if taken <= 0:
            if lib.SSL_get_error(ssl, taken) == lib.SSL_ERROR_WANT_READ:
                return size, Wait.READABLE  # mostly, and an exception would cost more than a record
            return size, _why_not(connection, taken)
        size += taken
        if size == most:
            break
    return size, None


def fill_as_promised(connection: SSL.Connection, room: memoryview) -> Filled:
    """Do the same by what every pyOpenSSL can do."""
    size, records = 0, 0
    try:
        while size < len(room) and records < MOST_RECORDS:
            size += connection.recv_into(room[size:], RECORD)
            records += 1
    except SSL.Error as error:
        return size, _why(error)
    return size, None


def _why_not(connection: SSL.Connection, result: int) -> Wait | Ended | Broken:
    """Have pyOpenSSL tell what OpenSSL has to say."""
    try:
        connection._raise_ssl_error(connection._ssl, result)  # noqa: SLF001  (as above)
    except SSL.Error as error:
        return _why(error)
    raise AssertionError("a call that has failed has a reason")


def _why(error: SSL.Error) -> Wait | Ended | Broken:
    """Tell what reading was stopped by."""
    if isinstance(error, SSL.ZeroReturnError):
        return Ended.ENDED
    return _wait(error) or Broken(_words(error))


def _wait(error: SSL.Error) -> Wait | None:
    """Tell what a step waits for; None when it has failed."""
    if isinstance(error, SSL.WantReadError):
        return Wait.READABLE
    return Wait.WRITABLE if isinstance(error, SSL.WantWriteError) else None


def _waiting(error: SSL.Error) -> Wait:
    """Tell what a step waits for; Broken when it has failed."""
    if (wait := _wait(error)) is None:
        raise Broken(_words(error)) from error
    return wait


def _failure(error: SSL.Error) -> NotSecured:
    words = _words(error)
    if isinstance(error, SSL.SysCallError):
        return NotSecured(Reason.CLOSED, words)
    if _ALERT in words:
        return NotSecured(Reason.REJECTED, words)
    return NotSecured(_REASONS.get(words, Reason.PROTOCOL), words)


def _words(error: SSL.Error) -> str:
    """Say what OpenSSL says first: it led to the rest."""
    if isinstance(error, SSL.SysCallError):
        _forget()
        return str(error.args[1])
    queue = error.args[0] if error.args else ()
    # OpenSSL has no words for what a system call has failed by, wherever that stood in the queue.
    return next((str(each[2]) for each in queue if each[2]), "no reason given")


def _forget() -> None:
    """Have OpenSSL forget why a system call has failed: the thread's next step, be it another connection's, would fail by it.

    pyOpenSSL leaves that where it is, and takes all there is with the next error of another kind.
    """
    with contextlib.suppress(crypto.Error):
        crypto.load_privatekey(crypto.FILETYPE_PEM, b"")
