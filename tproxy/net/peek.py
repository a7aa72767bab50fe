"""Find out what a connection speaks without taking a byte from it, so that whoever carries it gets the socket whole.

The bytes stay in the kernel. Since a socket with bytes in it is readable, waiting for *more* of them means raising
the mark at which the kernel calls it readable (SO_RCVLOWAT); an end or a reset wakes the waiter all the same.
"""

import trio

from tproxy.model.flow import Detection, Protocol, Sniffed
from tproxy.net.stream import SocketStream
from tproxy.sniff.verdict import NEED_MORE, OPAQUE, NeedMore, sniff

CLOSED = Sniffed(Protocol.OPAQUE, Detection.CLOSED)
TIMEOUT = Sniffed(Protocol.OPAQUE, Detection.TIMEOUT)


async def detect(stream: SocketStream, *, seconds: float, size: int) -> tuple[Sniffed, float]:
    """Wait until the peer's first bytes name their protocol, or its silence does; and say how long that took."""
    at_once = _at_once(stream, size)
    if at_once is not NEED_MORE:
        return at_once, 0.0
    began = trio.current_time()
    sniffed = TIMEOUT
    with trio.move_on_after(seconds):
        sniffed = await _opening(stream, size)
    return sniffed, trio.current_time() - began


def _at_once(stream: SocketStream, limit: int) -> Sniffed | NeedMore:
    """Judge by what is there: mostly that is enough, and no time-out has to be set."""
    try:
        data = stream.try_peek(limit)
    except trio.BrokenResourceError:
        return CLOSED
    return NEED_MORE if data is None else _judge(data, 0, limit)


async def _opening(stream: SocketStream, limit: int) -> Sniffed:
    seen = 0
    try:
        while True:
            data = stream.try_peek(limit)
            if data is not None:
                verdict = _judge(data, seen, limit)
                if verdict is not NEED_MORE:
                    return verdict
                seen = len(data)
                stream.wake_receiver_at(seen + 1)
            await stream.wait_readable()
    except trio.BrokenResourceError:
        return CLOSED
    finally:
        if seen:
            stream.wake_receiver_at(1)


def _judge(data: bytes, seen: int, limit: int) -> Sniffed | NeedMore:
    """Settle when there is no more than at the last look: the peer has ended, or the kernel holds no more."""
    if not data:
        return CLOSED
    verdict = sniff(data, limit)
    return OPAQUE if verdict is NEED_MORE and len(data) == seen else verdict
