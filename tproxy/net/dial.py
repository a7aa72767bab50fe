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
    try:
        return await _connected(address, source)
    except OSError as error:
        raise UpstreamError(
            ResponseFlag.UPSTREAM_CONNECT,
            "upstream_reset_before_response_started{connection_failure}",
            cause=error.strerror or str(error),
        ) from error


async def _connected(address: Address, source: Address | None) -> TcpStream:
    family = socket.AF_INET6 if address.is_ipv6 else socket.AF_INET
    dialling = socket.socket(family, socket.SOCK_STREAM)
    try:
        dialling.settimeout(0)
        if source is not None:
            dialling.setsockopt(socket.SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            dialling.bind((source.host, source.port))
        await _connect(dialling, (address.host, address.port))
        stream = TcpStream(dialling, address)
        _refuse_self_connection(stream)
    except BaseException:
        dialling.close()
        raise
    return stream


async def _connect(dialling: socket.socket, address: tuple[str, int]) -> None:
    failure = dialling.connect_ex(address)
    if failure == errno.EINPROGRESS:
        # A local handshake is over by now; asking again is cheaper than waiting to be told.
        failure = dialling.connect_ex(address)
    if failure == errno.EALREADY:
        await trio.lowlevel.wait_writable(dialling)
        failure = dialling.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failure:
        raise OSError(failure, os.strerror(failure))


def _refuse_self_connection(stream: TcpStream) -> None:
    """Treat a connection to itself as the refusal it should have been.

    Where nobody listens on a local port of the ephemeral range, the kernel may choose just that port for our end,
    and TCP's simultaneous open then connects the socket to itself: it would echo.
    """
    if stream.local == stream.peer:
        raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
