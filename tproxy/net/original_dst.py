"""Where a captured connection was going before the kernel brought it to us."""

import errno
import socket
import struct

from tproxy.model.address import Address
from tproxy.net.tcp_stream import TcpStream

SO_ORIGINAL_DST = 80
"""The same number for IPv6, where netfilter calls it IP6T_SO_ORIGINAL_DST."""


class NotCaptured(Exception):
    """A connection was made to the proxy itself. Dialling its destination would come back to us for ever."""


def original_dst(stream: TcpStream, *, tproxy: bool) -> Address:
    """Ask the kernel for the destination that the peer dialled.

    With `tproxy` the socket itself has that address, so a connection to one of our own ports shows only in the port,
    which the caller knows; without it such a connection raises NotCaptured.
    """
    if tproxy:
        return stream.local
    destination = _redirected_from(stream)
    if destination == stream.local:
        raise NotCaptured(f"{stream.peer} dialled the proxy's own {stream.local}")
    return destination


def _redirected_from(stream: TcpStream) -> Address:
    local, redirected = stream.local, stream.socket
    try:
        # netfilter keeps IPv4 connections under IPv4's option, also for a socket that shows them as ::ffff:192.0.2.1
        if local.is_ipv6:
            return _ipv6(redirected.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28))
        return _ipv4(redirected.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16))
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOPROTOOPT}:
            raise NotCaptured(f"nothing redirected the connection to {local.host}") from error
        raise


def _ipv4(sockaddr_in: bytes) -> Address:
    port, host = struct.unpack("!2xH4s8x", sockaddr_in)
    return Address(socket.inet_ntop(socket.AF_INET, host), port)


def _ipv6(sockaddr_in6: bytes) -> Address:
    port, host = struct.unpack("!2xH4x16s4x", sockaddr_in6)
    return Address(socket.inet_ntop(socket.AF_INET6, host), port)
