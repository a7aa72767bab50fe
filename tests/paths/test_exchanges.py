"""Whole exchanges through the proxy, either version: what one side says, the other hears."""

from contextlib import suppress

import pytest
import trio

from fakes.path import Path, ask, to_app
from fakes.talk import Broken, Call, answer, echo, whole
from tproxy.model.flow import Protocol

both = pytest.mark.parametrize(
    "protocol",
    [pytest.param(Protocol.HTTP1, id="http1"), pytest.param(Protocol.HTTP2, id="http2")],
)
across = pytest.mark.parametrize(
    ("protocol", "upstream"),
    [
        pytest.param(one, other, id=f"{one} to {other}")
        for one in (Protocol.HTTP1, Protocol.HTTP2)
        for other in (Protocol.HTTP1, Protocol.HTTP2)
    ],
)
MIB = bytes(range(256)) * 4096
GRPC = (b"content-type", b"application/grpc")


async def small(call: Call) -> None:
    """Answer with a few bytes."""
    await whole(call)
    await answer(call, b"hello", fields=[(b"x-app", b"1")])


@across
@pytest.mark.parametrize(
    ("body", "declared"),
    [
        pytest.param(b"", False, id="none"),
        pytest.param(b"some bytes", True, id="counted"),
        pytest.param(b"some bytes", False, id="of unknown length"),
        pytest.param(MIB, True, id="a MiB counted"),
        pytest.param(MIB, False, id="a MiB of unknown length"),
    ],
)
async def test_bodies_pass_whole_in_both_directions(
    protocol: Protocol, upstream: Protocol, body: bytes, declared: bool
) -> None:
    async with to_app(echo, protocol, upstream=upstream) as path, trio.open_nursery() as nursery:
        call = await path.talk().call()
        length = [(b"content-length", b"%d" % len(body))] if declared else []
        chunked = protocol is Protocol.HTTP1 and not declared
        framing = [(b"transfer-encoding", b"chunked")] if chunked else length

        async def upload() -> None:
            await call.say((b"POST", b"/echo"), framing)
            await call.send(body)
            await call.end()

        nursery.start_soon(upload)
        heard = await whole(call)
        assert heard.start == 200
        assert heard.body == body
        (line,) = await path.logged()
        assert (line["bytes_received"], line["bytes_sent"]) == (len(body), len(body))


@across
async def test_a_slow_reader_holds_the_sender_back(protocol: Protocol, upstream: Protocol) -> None:
    sent = 0

    async def endless(call: Call) -> None:
        nonlocal sent
        await whole(call)
        await call.say(200, [])
        while True:
            await call.send(MIB)
            sent += len(MIB)

    async with to_app(endless, protocol, upstream=upstream) as path:
        call = await path.talk().call()
        await call.say((b"GET", b"/"), [])
        await call.end()
        await call.head()
        await trio.testing.wait_all_tasks_blocked(0.05)
        held = sent
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert sent == held


@across
async def test_trailers_pass_in_both_directions(protocol: Protocol, upstream: Protocol) -> None:
    async with to_app(echo, protocol, upstream=upstream) as path:
        call = await path.talk().call()
        chunked = [(b"transfer-encoding", b"chunked")] if protocol is Protocol.HTTP1 else []
        await call.say((b"POST", b"/"), [*chunked, (b"te", b"trailers")])
        await call.send(b"body")
        await call.end([(b"x-sum", b"42"), (b"x-more", b"1")])
        heard = await whole(call)
        assert heard.body == b"body"
        assert heard.trailers == [(b"x-sum", b"42"), (b"x-more", b"1")]


@across
@pytest.mark.parametrize(
    ("method", "status", "length"),
    [
        pytest.param(b"HEAD", 200, b"5", id="HEAD"),
        pytest.param(b"GET", 204, None, id="204"),
        pytest.param(b"GET", 304, None, id="304"),
    ],
)
async def test_answers_without_a_body_leave_the_connection_usable(
    protocol: Protocol, upstream: Protocol, method: bytes, status: int, length: bytes | None
) -> None:
    async def app(call: Call) -> None:
        await whole(call)
        await call.say(status, [(b"content-length", length)] if length else [])
        await call.end()

    async with to_app(app, protocol, upstream=upstream) as path:
        talk = path.talk()
        for _ in range(2):
            heard = await ask(talk, method=method)
            assert (heard.start, heard.body) == (status, b"")
            assert heard.get(b"content-length") == ([length] if length else [])
        assert len(path.origin.accepted) == 1


@across
async def test_informational_responses_pass_before_the_final_one(
    protocol: Protocol, upstream: Protocol
) -> None:
    async def app(call: Call) -> None:
        await call.head()
        await call.say(100, [])
        await whole(call)
        await call.say(103, [(b"link", b"</a.css>")])
        await answer(call, call.heard.body)

    async with to_app(app, protocol, upstream=upstream) as path:
        call = await path.talk().call()
        await call.say((b"PUT", b"/"), [(b"expect", b"100-continue"), (b"content-length", b"4")])
        while not call.informed:
            with trio.move_on_after(0.01):
                await call.head()
        await call.send(b"data")
        await call.end()
        heard = await whole(call)
        assert (heard.body, call.informed) == (b"data", [100, 103])


@across
async def test_an_answer_that_comes_early_is_heard_whole_while_the_request_goes_on(
    protocol: Protocol,
    upstream: Protocol,
) -> None:
    async def hasty(call: Call) -> None:
        await call.head()
        await answer(call, b"too large", status=413)
        if upstream is Protocol.HTTP1:
            await call.give_up()

    async with to_app(hasty, protocol, upstream=upstream) as path:
        call = await path.talk().call()
        await call.say((b"POST", b"/"), [(b"content-length", b"%d" % (10 * len(MIB)))])
        with suppress(Broken, trio.BrokenResourceError):  # nobody wants it any more
            await call.send(MIB)
        heard = await whole(call)
        assert (heard.start, heard.body) == (413, b"too large")
        (line,) = await path.logged()
        assert (line["response_code"], line["response_flags"]) == (413, "-")


@across
async def test_fifty_requests_need_one_upstream_connection(
    protocol: Protocol, upstream: Protocol
) -> None:
    async with to_app(small, protocol, upstream=upstream) as path:
        talk = path.talk()
        for _ in range(50):
            assert (await ask(talk)).body == b"hello"
        assert len(path.origin.accepted) == 1
        assert len(await path.logged(50)) == 50


@both
async def test_the_service_time_is_told_once_whatever_the_upstream_said(protocol: Protocol) -> None:
    async def app(call: Call) -> None:
        await whole(call)
        await answer(call, fields=[(b"x-envoy-upstream-service-time", b"99999")] * 2)

    async with to_app(app, protocol) as path:
        (value,) = (await path.get()).get(b"x-envoy-upstream-service-time")
        assert int(value) < 99999


@both
async def test_a_request_gets_an_id_that_the_log_knows(protocol: Protocol) -> None:
    seen: list[dict[bytes, bytes]] = []

    async def app(call: Call) -> None:
        seen.append(dict((await whole(call)).fields))
        await answer(call)

    async with to_app(app, protocol) as path:
        await path.get()
        (line,) = await path.logged()
        assert seen[0][b"x-request-id"].decode() == line["request_id"]


@both
async def test_an_id_and_a_trace_are_kept(protocol: Protocol) -> None:
    ids = (
        (b"x-request-id", b"mine"),
        (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    )
    seen: list[list[bytes]] = []

    async def app(call: Call) -> None:
        heard = await whole(call)
        seen.extend(heard.get(name) for name, _ in ids)
        await answer(call)

    async with to_app(app, protocol) as path:
        await path.get(fields=ids)
        (line,) = await path.logged()
        assert seen == [[value] for _, value in ids]
        assert line["request_id"] == "mine"
        assert line["tproxy"]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


@both
async def test_an_exchange_is_logged_and_counted_once(protocol: Protocol) -> None:
    async with to_app(small, protocol) as path:
        await ask(path.talk(), b"/a?b=c", method=b"POST", body=b"1234")
        (line,) = await path.logged()
        assert line["method"] == "POST"
        assert line["path"] == "/a?b=c"
        assert line["authority"] == "shop.example"
        assert line["response_code"] == 200
        assert line["response_flags"] == "-"
        assert line["response_code_details"] == "via_upstream"
        assert (line["bytes_received"], line["bytes_sent"]) == (4, 5)
        assert line["upstream_host"] == str(path.origin.address)
        text, _ = path.metrics.exposition(openmetrics=False)
        (sample,) = (
            each for each in text.decode().splitlines() if each.startswith("istio_requests_total{")
        )
        assert 'response_code="200"' in sample
        assert sample.endswith(" 1")


async def test_a_grpc_call_ends_with_its_status_in_trailers() -> None:
    async def app(call: Call) -> None:
        await whole(call)
        await call.say(200, [GRPC])
        await call.send(b"\0\0\0\0\2hi")
        await call.end([(b"grpc-status", b"5"), (b"grpc-message", b"no such thing")])

    async with to_app(app, Protocol.HTTP2) as path:
        heard = await ask(
            path.talk(),
            b"/shop.Cart/Get",
            method=b"POST",
            fields=(GRPC, (b"te", b"trailers")),
            body=b"\0\0\0\0\0",
        )
        assert heard.body == b"\0\0\0\0\2hi"
        assert heard.trailers == [(b"grpc-status", b"5"), (b"grpc-message", b"no such thing")]
        await path.logged()
        text, _ = path.metrics.exposition(openmetrics=False)
        assert 'grpc_response_status="5"' in text.decode()


def messages(path: Path) -> dict[str, int]:
    """How many gRPC messages were counted each way."""
    text, _ = path.metrics.exposition(openmetrics=False)
    lines = (line for line in text.decode().splitlines() if "_messages_total{" in line)
    return {line.split("_messages_total{")[0]: int(line.rsplit(" ", 1)[1]) for line in lines}


@pytest.mark.parametrize("protocol", [Protocol.HTTP1, Protocol.HTTP2])
@pytest.mark.parametrize(
    ("kind", "body", "counts"),
    [
        pytest.param(
            b"application/grpc",
            b"\0\0\0\0\2hi" * 3 + b"\1\0\0\0\0",
            {"istio_request": 4, "istio_response": 4},
            id="whole ones",
        ),
        pytest.param(
            b"application/grpc+proto",
            b"\0\0\0\0\1x" + b"no prefix at all",
            {"istio_request": 1, "istio_response": 1},
            id="a broken framing",
        ),
        pytest.param(b"application/octet-stream", b"\0\0\0\0\0", {}, id="no gRPC"),
        pytest.param(b"application/grpc-web", b"\0\0\0\0\0", {}, id="gRPC-Web"),
    ],
)
async def test_grpc_messages_are_counted_as_they_pass(
    protocol: Protocol, kind: bytes, body: bytes, counts: dict[str, int]
) -> None:
    async with to_app(echo, protocol) as path:
        heard = await ask(path.talk(), method=b"POST", fields=((b"content-type", kind),), body=body)
        (line,) = await path.logged()
        assert heard.body == body
        assert (line["bytes_received"], line["bytes_sent"]) == (len(body), len(body))
        assert messages(path) == counts


async def test_messages_of_a_call_that_is_given_up_are_counted() -> None:
    async with to_app(echo, Protocol.HTTP2) as path:
        call = await path.talk().call()
        await call.say((b"POST", b"/shop.Cart/Chat"), [GRPC])
        await call.send(b"\0\0\0\0\1x")
        assert await call.part() == b"\0\0\0\0\1x"
        await call.give_up()
        await path.logged()
        assert messages(path) == {"istio_request": 1, "istio_response": 1}


async def test_a_bidirectional_stream_passes_each_message_as_it_comes() -> None:
    async with to_app(echo, Protocol.HTTP2) as path:
        call = await path.talk().call()
        await call.say((b"POST", b"/shop.Cart/Chat"), [GRPC, (b"te", b"trailers")])
        await call.head()
        for number in range(10):
            message = b"\0\0\0\0\1%d" % number
            await call.send(message)
            assert await call.part() == message
        await call.end()
        assert await call.part() == b""
