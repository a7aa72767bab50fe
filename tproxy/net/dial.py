"""Open a connection to an upstream."""

import errno
import os
import socket

import trio

from tproxy.model.address import Address
from tproxy.model.outcome import ResponseFlag, UpstreamError
from tproxy.net.tcp_stream import TcpStream

# linux/in.h. The port of a bound source is then chosen with the destination known, so they do not run out per host.
IP_BIND_ADDRESS_NO_PORT = 24


async def dial(address: Address, *, source: Address | None = None) -> TcpStream:
    """Connect to `address`, from `source` if given; the caller closes, and sets the deadline.

    Where the handshake needs no waiting, as on loopback, this does not wait and is no checkpoint.
    """
    dialling = Dialling(address, source)
    if not dialling.done:
        await dialling.wait()
    return dialling.stream()


class Dialling:
    """A connection on its way. What changes: whether it has come; whoever gives it up before `stream` cancels `wait`."""

    __slots__ = ("_address", "_socket", "done")

    def __init__(self, address: Address, source: Address | None) -> None:
        self._address = address
        family = socket.AF_INET6 if address.is_ipv6 else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self.done = self._begun(source)
        except OSError as error:
            self._socket.close()
            raise _failed(error) from error

    async def wait(self) -> None:
        """Wait until the connection has come."""
        try:
            await trio.lowlevel.wait_writable(self._socket)
            _check(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        except OSError as error:
            self._socket.close()
            raise _failed(error) from error
        except BaseException:
            self._socket.close()
            raise

    def stream(self) -> TcpStream:
        """Return the connection."""
        stream = TcpStream(self._socket, self._address)
        try:
            _refuse_self_connection(stream)
        except OSError as error:
            stream.close()
            raise _failed(error) from error
        return stream

    def _begun(self, source: Address | None) -> bool:
        """Send the handshake, and say whether it is over already."""
        dialling, address = self._socket, self._address
        if source is not None:
            dialling.setsockopt(socket.SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            dialling.bind((source.host, source.port))
        failure = dialling.connect_ex((address.host, address.port))
        if failure == errno.EINPROGRESS:
            # A local handshake is over by now; asking again is cheaper than waiting to be told.
            failure = dialling.connect_ex((address.host, address.port))
        if failure == errno.EALREADY:
            return False
        _check(failure)
        return True


def _check(failure: int) -> None:
    if failure:
        raise OSError(failure, os.strerror(failure))


def _failed(error: OSError) -> UpstreamError:
    return UpstreamError(
        ResponseFlag.UPSTREAM_CONNECT,
        "upstream_reset_before_response_started{connection_failure}",
        cause=error.strerror or str(error),
    )


def _refuse_self_connection(stream: TcpStream) -> None:
    """Treat a connection to itself as the refusal it should have been.

    Where nobody listens on a local port of the ephemeral range, the kernel may choose just that port for our end,
    and TCP's simultaneous open then connects the socket to itself: it would echo.
    """
    if stream.local == stream.peer:
        raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
