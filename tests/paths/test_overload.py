"""What is one too many is told so at once, and what is carried goes on."""

import pytest
import trio

from fakes.path import ask, to_app
from fakes.talk import Call, answer, whole
from fakes.talk_h2 import Http2Talk
from tproxy.model.flow import Protocol
from tproxy.model.limits import Limits

both = pytest.mark.parametrize(
    "protocol",
    [pytest.param(Protocol.HTTP1, id="http1"), pytest.param(Protocol.HTTP2, id="http2")],
)


@both
async def test_a_request_beyond_the_bound_gets_503_and_the_flag(protocol: Protocol) -> None:
    asked, free = trio.Event(), trio.Event()

    async def app(call: Call) -> None:
        await whole(call)
        asked.set()
        await free.wait()
        await answer(call, b"done")

    async with to_app(app, protocol, Limits(exchanges=1)) as path, trio.open_nursery() as nursery:

        async def first() -> None:
            assert (await path.get()).body == b"done"

        nursery.start_soon(first)
        await asked.wait()
        refused = await path.get(b"/second")
        assert refused.start == 503
        assert refused.get(b"x-envoy-overloaded") == [b"true"]
        assert refused.body == b"overload"
        grpc = await path.get(b"/third", ((b"content-type", b"application/grpc"),))
        assert (grpc.start, grpc.get(b"grpc-status")) == (200, [b"14"])
        free.set()
        (line, *_) = [each for each in await path.logged(3) if each["path"] == "/second"]
        assert (line["response_flags"], line["response_code_details"]) == ("UO", "overload")
        assert (await path.get()).start == 200


@both
async def test_a_connection_that_is_turned_away_is_told_so_and_closed(protocol: Protocol) -> None:
    async def never(_: Call) -> None:
        raise AssertionError

    async with to_app(never, protocol) as path:
        path.full = True
        talk = path.talk()
        refused = await ask(talk)
        assert refused.start == 503
        assert refused.get(b"x-envoy-overloaded") == [b"true"]
        if isinstance(talk, Http2Talk):
            while talk.left is None:
                await talk.news()
        else:
            assert refused.get(b"connection") == [b"close"]
            assert await talk.stream.receive_some(1) == b""
        (line,) = await path.logged()
        assert (line["response_code"], line["response_flags"]) == (503, "UO")
        assert path.origin.accepted == []
