"""Reading many records at once: straight by OpenSSL it comes to what pyOpenSSL's own functions come to."""

from collections.abc import Callable, Iterator
from socket import socket
from types import SimpleNamespace
from typing import cast

import pytest
from OpenSSL import SSL

from fakes.handshakes import connected
from fakes.secure import MUTUAL, OPAQUE_OFFER, Mesh
from tproxy.tls.session import fill, fill_as_promised
from tproxy.tls.steps import RECORD, Broken, Ended, Filled, Wait

MESH = Mesh.new()
GARBAGE = b"\x17\x03\x03\x00\x20" + bytes(32)

Fill = Callable[[SSL.Connection, memoryview], Filled]
ways = pytest.mark.parametrize(
    "way",
    [pytest.param(fill, id="straight"), pytest.param(fill_as_promised, id="as promised")],
)


class Pair:
    """Two ends that have shaken hands: one tells, the other is read from."""

    def __init__(self, ours: socket, theirs: socket) -> None:
        self.socket = theirs
        self.teller = MESH.client.connect(theirs, MUTUAL, OPAQUE_OFFER)
        self.reader = MESH.server.accept(ours)
        waiting = [self.teller, self.reader]
        while waiting:
            waiting = [each for each in waiting if each.handshake() is not None]
        self.teller.fill(memoryview(bytearray(1)))  # nothing but the tickets

    def tell(self, size: int) -> None:
        """Send that many bytes of a pattern."""
        assert self.teller.write((bytes(range(256)) * (size // 256 + 1))[:size]) is None

    def end(self) -> None:
        """Say that nothing more comes."""
        assert self.teller.end() is None

    def spoil(self) -> None:
        """Send a record that nobody has encrypted."""
        self.socket.send(GARBAGE)

    def hang_up(self) -> None:
        """End the connection, but not TLS."""
        self.socket.shutdown(2)


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Make two ends."""
    with connected() as (ours, theirs):
        yield Pair(ours, theirs)


def told(why: Wait | Ended | Broken | None) -> Wait | Ended | str | None:
    """What can be compared."""
    return str(why) if isinstance(why, Broken) else why


@ways
@pytest.mark.parametrize(
    ("tell", "taken"),
    [
        pytest.param(lambda _: None, (0, Wait.READABLE), id="nothing"),
        pytest.param(lambda pair: pair.tell(100), (100, Wait.READABLE), id="less than a record"),
        pytest.param(lambda pair: pair.tell(RECORD + 5), (RECORD + 5, Wait.READABLE), id="records"),
        pytest.param(lambda pair: pair.tell(3 * RECORD), (2 * RECORD, None), id="more than room"),
        pytest.param(
            lambda pair: (pair.tell(9), pair.end()), (9, Ended.ENDED), id="bytes and the end"
        ),
        pytest.param(Pair.end, (0, Ended.ENDED), id="the end"),
        pytest.param(
            lambda pair: (pair.tell(9), pair.spoil()),
            (9, "decryption failed or bad record mac"),
            id="bytes and garbage",
        ),
        pytest.param(
            lambda pair: (pair.tell(9), pair.hang_up()), (9, "Unexpected EOF"), id="cut off"
        ),
    ],
)
def test_room_is_filled_with_what_there_is(
    way: Fill,
    pair: Pair,
    tell: Callable[[Pair], object],
    taken: tuple[int, Wait | Ended | str | None],
) -> None:
    tell(pair)
    room = memoryview(bytearray(2 * RECORD))
    size, why = way(pair.reader._connection, room)
    assert (size, told(why)) == taken
    assert bytes(room) == (bytes(range(256)) * 256)[:size] + bytes(len(room) - size)


@ways
def test_what_does_not_fit_is_there_the_next_time(way: Fill, pair: Pair) -> None:
    pair.tell(1000)
    room = memoryview(bytearray(600))
    assert way(pair.reader._connection, room) == (600, None)
    assert way(pair.reader._connection, room) == (400, Wait.READABLE)


def test_a_pyopenssl_that_calls_openssl_by_other_names_is_asked_for_what_it_promises() -> None:
    room = memoryview(bytearray(1))
    stranger = SimpleNamespace(recv_into=lambda room, _: len(room))
    assert fill(cast("SSL.Connection", stranger), room) == (1, None)


def test_a_write_that_has_to_wait_is_finished_by_trying_it_again(pair: Pair) -> None:
    room = memoryview(bytearray(1 << 20))
    sent = received = 0
    last = b""
    while pair.teller.write(bytes((sent % 251,)) * 4 * RECORD) is None:
        sent += 1
    while pair.teller.write(bytes((sent % 251,)) * 4 * RECORD) is Wait.WRITABLE:
        received += pair.reader.fill(room)[0]
    while received < (sent + 1) * 4 * RECORD:
        size, _ = pair.reader.fill(room)
        received += size
        last = bytes(room[max(0, size - 1) : size]) or last
    assert last == bytes((sent % 251,))
