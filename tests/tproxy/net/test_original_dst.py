import socket

import pytest

from fakes.sockets import tcp_pair
from tproxy.model.address import Address
from tproxy.net.listener import listen_everywhere
from tproxy.net.original_dst import NotCaptured, original_dst
from tproxy.net.tcp_stream import TcpStream


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_connection_that_nothing_redirected_is_not_captured(host: str) -> None:
    left, right = tcp_pair(host)
    async with left, right:
        with pytest.raises(NotCaptured):
            original_dst(right, tproxy=False)


async def test_ipv4_on_a_socket_for_both_families_is_asked_as_ipv4() -> None:
    (listening,) = listen_everywhere(0)
    with listening:
        listening.setblocking(True)
        with socket.create_connection(("127.0.0.1", listening.getsockname()[1])) as dialled:
            accepted, (host, port, *_) = listening.accept()
            stream = TcpStream(accepted, Address.of(host, port))
            async with stream:
                assert stream.peer == Address.of(*dialled.getsockname())
                assert stream.local.host == "127.0.0.1"
                with pytest.raises(NotCaptured):
                    original_dst(stream, tproxy=False)


async def test_with_tproxy_the_socket_itself_has_the_destination() -> None:
    left, right = tcp_pair()
    async with left, right:
        assert original_dst(right, tproxy=True) == left.peer
