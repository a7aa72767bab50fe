"""Upstreams that fail, and what their downstreams and the log are told."""

import pytest
import trio

from fakes.path import ask, reset, to_script
from fakes.talk import Heard
from tproxy.model.flow import Protocol
from tproxy.model.limits import Limits

both = pytest.mark.parametrize(
    "protocol",
    [pytest.param(Protocol.HTTP1, id="http1"), pytest.param(Protocol.HTTP2, id="http2")],
)
GRPC = ((b"content-type", b"application/grpc"), (b"te", b"trailers"))
RESET_REASON = b"upstream connect error or disconnect/reset before headers. reset reason: "


async def idle(_: trio.SocketStream) -> None:
    """Accept and say nothing."""
    await trio.sleep_forever()


async def closing(stream: trio.SocketStream) -> None:
    """End a connection as soon as it says anything."""
    await stream.receive_some(65536)
    await stream.aclose()


async def resetting(stream: trio.SocketStream) -> None:
    """Reset a connection as soon as it says anything."""
    await stream.receive_some(65536)
    reset(stream)


async def refused(protocol: Protocol, method: bytes, grpc: bool) -> tuple[Heard, dict[str, object]]:
    """Ask where nobody listens."""
    async with to_script(idle, protocol) as path:
        taken = await trio.open_tcp_listeners(0, host="127.0.0.1")
        path.origin.address = type(path.origin.address).of(*taken[0].socket.getsockname()[:2])
        await taken[0].aclose()
        heard = await ask(path.talk(), b"/a", method=method, fields=GRPC if grpc else ())
        (line,) = await path.logged()
        return heard, line


@both
async def test_an_upstream_that_refuses_is_told_in_envoys_words(protocol: Protocol) -> None:
    heard, line = await refused(protocol, b"GET", grpc=False)
    assert heard.start == 503
    assert heard.get(b"content-type") == [b"text/plain"]
    assert heard.body == RESET_REASON + b"connection failure"
    assert line["response_code"] == 503
    assert line["response_flags"] == "UF"
    assert line["response_code_details"] == (
        "upstream_reset_before_response_started{connection_failure}"
    )
    assert line["upstream_transport_failure_reason"] == "Connection refused"
    assert line["bytes_sent"] == len(heard.body)


@both
async def test_a_head_request_that_failed_has_no_body_either(protocol: Protocol) -> None:
    heard, _ = await refused(protocol, b"HEAD", grpc=False)
    assert (heard.start, heard.body) == (503, b"")


async def test_a_grpc_call_learns_of_a_refusal_as_a_status_in_trailers_only() -> None:
    heard, line = await refused(Protocol.HTTP2, b"POST", grpc=True)
    assert (heard.start, heard.body) == (200, b"")
    assert heard.get(b"grpc-status") == [b"14"]
    assert heard.get(b"grpc-message") == [RESET_REASON.rstrip() + b" connection failure"]
    assert line["response_flags"] == "UF"


@both
@pytest.mark.parametrize("script", [closing, resetting])
@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_an_upstream_that_hangs_up_on_a_request_is_told_as_such(
    protocol: Protocol, script: object, method: bytes
) -> None:
    assert callable(script)
    async with to_script(script, protocol) as path:
        heard = await ask(path.talk(), method=method)
        assert (heard.start, heard.body) == (503, RESET_REASON + b"connection termination")
        (line,) = await path.logged()
        assert (line["response_code"], line["response_flags"]) == (503, "UC")
        assert line["response_code_details"] == (
            "upstream_reset_before_response_started{connection_termination}"
        )


@both
async def test_an_upstream_that_speaks_no_http_is_told_as_such(protocol: Protocol) -> None:
    async def script(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(b"SSH-2.0-OpenSSH_9.2\r\n" * 10)
        await trio.sleep_forever()

    async with to_script(script, protocol) as path:
        assert (await path.get()).start == 502
        (line,) = await path.logged()
        assert (line["response_code"], line["response_flags"]) == (502, "UPE")


async def test_an_upstream_that_does_not_take_the_body_may_say_why() -> None:
    async def script(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
        reset(stream)

    async with to_script(script) as path:
        heard = await ask(path.talk(), method=b"POST", body=b"x" * 40000)
        assert (heard.start, heard.body) == (401, b"no")


async def test_an_http2_upstream_that_never_says_what_it_takes_is_given_up(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    async with to_script(idle, Protocol.HTTP2, Limits(connect_seconds=1)) as path:
        assert (await path.get()).start == 503
        (line,) = await path.logged()
        assert line["response_flags"] == "UF"
        assert line["upstream_transport_failure_reason"] == "no HTTP/2 settings within 1 s"
