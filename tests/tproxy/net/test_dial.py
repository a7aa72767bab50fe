import socket

import pytest
import trio

from fakes.sockets import open_descriptors
from tproxy.model.address import Address
from tproxy.model.outcome import ResponseFlag, UpstreamError
from tproxy.net.dial import dial


def address_of(listening: socket.socket) -> Address:
    """Say where a socket listens."""
    return Address.of(*listening.getsockname()[:2])


@pytest.mark.parametrize(
    ("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)]
)
async def test_connects(host: str, family: socket.AddressFamily) -> None:
    with socket.create_server((host, 0), family=family) as listening:
        async with await dial(address_of(listening)) as stream:
            accepted, (peer, port, *_) = listening.accept()
            with accepted:
                assert stream.peer == address_of(listening)
                assert stream.local == Address.of(peer, port)


async def test_dials_from_the_source_it_is_given() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with await dial(address_of(listening), source=Address("127.0.0.6", 0)) as stream:
            assert stream.local.host == "127.0.0.6"
            assert stream.local.port != 0


async def test_a_refusal_says_why_and_leaks_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = address_of(listening)
    before = open_descriptors()
    with pytest.raises(UpstreamError, match="Connection refused") as refused:
        await dial(address)
    assert refused.value.flag is ResponseFlag.UPSTREAM_CONNECT
    assert refused.value.details == "upstream_reset_before_response_started{connection_failure}"
    assert open_descriptors() == before


async def test_a_source_that_is_not_ours_is_an_upstream_error() -> None:
    with pytest.raises(UpstreamError, match="Cannot assign requested address"):
        await dial(Address("127.0.0.1", 9), source=Address("192.0.2.1", 0))


async def test_a_cancelled_dial_leaks_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        first = [await dial(address_of(listening))]  # fills the backlog: further ones get no answer
        before = open_descriptors()
        with trio.move_on_after(0.05) as waiting:
            await dial(address_of(listening))
        assert waiting.cancelled_caught
        assert open_descriptors() == before
        first[0].close()


async def test_a_connection_to_itself_is_a_refusal() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = address_of(listening)
    with pytest.raises(UpstreamError, match="Connection refused"):
        await dial(address, source=address)
