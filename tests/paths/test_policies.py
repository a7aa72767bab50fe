"""Policies on their way through the proxy: what they deny never reaches the application, and later ones end what they deny."""

import pytest
import trio
from h2.settings import SettingCodes

from fakes.path import Path, ask, to_app, to_script
from fakes.policies import authorization, snapshot
from fakes.talk import Broken, Call, answer, whole
from fakes.talk_h1 import head_of, rest_of
from tproxy.model.flow import Protocol

both = pytest.mark.parametrize(
    "protocol",
    [pytest.param(Protocol.HTTP1, id="http1"), pytest.param(Protocol.HTTP2, id="http2")],
)
DENY_ADMIN = authorization("{action: DENY, rules: [{to: [{operation: {paths: ['/admin*']}}]}]}")
STRICT = (
    "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
    "metadata: {name: p, namespace: web}\nspec: {mtls: {mode: STRICT}}\n"
)
DENY_CHAT = authorization("{action: DENY, rules: [{to: [{operation: {paths: [/chat]}}]}]}")
DENY_ALL = authorization("{action: DENY, rules: [{}]}")
ALLOW_ALL = authorization("{rules: [{}]}")
DETAILS = "rbac_access_denied_matched_policy[ns[web]-policy[p]-rule[0]]"
GRPC = (b"content-type", b"application/grpc")


class Application:
    """Answers everything. What changes: which paths it was asked for."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    async def __call__(self, call: Call) -> None:
        heard = await whole(call)
        assert isinstance(heard.start, tuple)
        self.asked.append(heard.start[1])
        await answer(call, b"hello")


@both
async def test_what_is_denied_gets_403_and_never_reaches_the_application(
    protocol: Protocol,
) -> None:
    application = Application()
    async with to_app(application, protocol) as path:
        path.policies.swap(snapshot(DENY_ADMIN))
        talk = path.talk()
        denied = await ask(talk, b"/admin/users?x=1")
        assert (denied.start, denied.body) == (403, b"RBAC: access denied")
        assert denied.get(b"content-type") == [b"text/plain"]
        assert (await ask(talk, b"/shop")).body == b"hello"
        assert application.asked == [b"/shop"]
        line, other = await path.logged(2)
        assert (line["response_code"], line["response_flags"]) == (403, "-")
        assert line["response_code_details"] == DETAILS
        assert line["tproxy"]["authz"] == {
            "verdict": "DENY",
            "reason": "deny_match",
            "policy": "web/p",
            "rule": 0,
            "place": "policies.yaml:4",
            "audited_by": None,
            "verdict_if_enforced": None,
        }
        assert line["tproxy"]["policy_generation"] == 2
        assert other["tproxy"]["authz"]["verdict"] == "ALLOW"
        text = path.metrics.exposition()[0].decode()
        assert (
            'tproxy_authz_decisions_total{dry_run_verdict="",policy="web/p",rule="0",verdict="DENY"} 1.0'
            in text
        )


async def test_a_denied_grpc_call_has_status_7() -> None:
    application = Application()
    async with to_app(application, Protocol.HTTP2) as path:
        path.policies.swap(snapshot(DENY_ADMIN))
        denied = await ask(path.talk(), b"/admin.Users/List", method=b"POST", fields=(GRPC,))
        assert (denied.start, denied.get(b"grpc-status")) == (200, [b"7"])
        assert application.asked == []


HOSTILE = (
    b"/admin",
    b"//admin",
    b"/./admin",
    b"/x/../admin",
    b"/%61dmin",
    b"/x/%2e%2e/admin",
    b"/x/%2E./admin",
    b"/admin/",
    b"/admin;x=y",
    b"/admin%20",
    b"/admin.",
    b"/admin?x",
    b"/admin/../admin",
)
HARMLESS = {
    b"/ADMIN": b"/ADMIN",
    b"/..%2fadmin": b"/..%2fadmin",
    b"/%2fadmin": b"/%2fadmin",
    b"/%5cadmin": b"/%5cadmin",
    b"/%252e%252e/admin": b"/%252e%252e/admin",
    b"/x/../shop": b"/shop",
    b"/x//..///admin": b"/x/admin",
}
"""Other resources, as this application names them, and how they reach it."""


@both
@pytest.mark.parametrize("spelling", HOSTILE, ids=bytes.decode)
async def test_no_spelling_reaches_a_denied_resource(protocol: Protocol, spelling: bytes) -> None:
    application = Application()
    async with to_app(application, protocol) as path:
        path.policies.swap(snapshot(DENY_ADMIN))
        assert (await path.get(spelling)).start == 403
        assert application.asked == []


@both
@pytest.mark.parametrize(("spelling", "sent"), HARMLESS.items(), ids=map(bytes.decode, HARMLESS))
async def test_what_is_judged_is_what_the_application_sees(
    protocol: Protocol, spelling: bytes, sent: bytes
) -> None:
    application = Application()
    async with to_app(application, protocol) as path:
        path.policies.swap(snapshot(DENY_ADMIN))
        assert (await path.get(spelling)).start == 200
        assert application.asked == [sent]
        (line,) = await path.logged()
        assert line["path"] == spelling.decode()
        assert line["tproxy"]["normalized_path"] == (None if sent == spelling else sent.decode())


@both
async def test_a_path_that_ends_early_for_some_is_refused(protocol: Protocol) -> None:
    application = Application()
    async with to_app(application, protocol) as path:
        path.policies.swap(snapshot(DENY_ADMIN))
        assert (await path.get(b"/admin%00")).start == 400
        assert application.asked == []
        (line,) = await path.logged()
        assert line["response_code_details"] == "path_normalization_failed"


@both
async def test_a_request_in_flight_keeps_the_policies_that_it_began_with(
    protocol: Protocol,
) -> None:
    asked, free = trio.Event(), trio.Event()

    async def slow(call: Call) -> None:
        await whole(call)
        asked.set()
        await free.wait()
        await answer(call, b"at last")

    async with to_app(slow, protocol) as path, trio.open_nursery() as nursery:

        async def first() -> None:
            assert (await path.get()).body == b"at last"

        nursery.start_soon(first)
        await asked.wait()
        path.policies.swap(snapshot(DENY_ALL))
        assert (await path.get()).start == 403
        free.set()


async def echoing(stream: trio.SocketStream) -> None:
    """Give back what comes."""
    while data := await stream.receive_some(65536):
        await stream.send_all(data)


@pytest.mark.parametrize(
    ("later", "ends"),
    [
        pytest.param(DENY_ALL, True, id="denied"),
        pytest.param(ALLOW_ALL, False, id="allowed by name"),
        pytest.param(
            DENY_ADMIN.replace("paths", "notPorts").replace("/admin*", "1"), True, id="by port"
        ),
    ],
)
async def test_an_open_connection_ends_only_when_later_policies_deny_it(
    later: str, ends: bool
) -> None:
    async with to_script(echoing, Protocol.OPAQUE) as path:
        near = path.relay()
        await near.send_all(b"one")
        assert await near.receive_some(10) == b"one"
        path.policies.swap(snapshot(later))
        if ends:
            with pytest.raises(trio.BrokenResourceError):
                await rest_of(near)
            (line,) = await path.logged()
            assert line["response_code_details"].startswith(
                "rbac_access_denied_matched_policy[ns[web]"
            )
        else:
            await trio.testing.wait_all_tasks_blocked()
            await near.send_all(b"two")
            assert await near.receive_some(10) == b"two"


async def test_an_open_connection_ends_when_what_allowed_it_is_gone() -> None:
    async with to_script(echoing, Protocol.OPAQUE) as path:
        path.policies.swap(snapshot(ALLOW_ALL))
        near = path.relay()
        await near.send_all(b"one")
        assert await near.receive_some(10) == b"one"
        path.policies.swap(snapshot(authorization("{}"), generation=3))
        with pytest.raises(trio.BrokenResourceError):
            await rest_of(near)


async def websocket(path: Path) -> tuple[object, bytes]:
    """Open a WebSocket, and return its stream and the head of the answer."""
    near = path.dial()
    await near.send_all(
        b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await near.receive_some(1)
    return near, head


@pytest.mark.parametrize(
    ("later", "ends"),
    [
        pytest.param(DENY_ALL, True, id="denied"),
        pytest.param(DENY_ADMIN, False, id="others denied"),
        pytest.param(STRICT, True, id="plaintext not taken any more"),
    ],
)
async def test_a_websocket_ends_only_when_later_policies_deny_it(later: str, ends: bool) -> None:
    async def script(stream: trio.SocketStream) -> None:
        await head_of(stream)
        await stream.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        await echoing(stream)

    async with to_script(script) as path:
        near, head = await websocket(path)
        assert head.startswith(b"HTTP/1.1 101 ")
        assert isinstance(near, trio.abc.Stream)
        path.policies.swap(snapshot(later))
        if ends:
            with pytest.raises(trio.BrokenResourceError):
                await near.receive_some(10)
            (line,) = await path.logged()
            expected = "filter_chain_not_found" if later is STRICT else DETAILS
            assert line["response_code_details"] == expected
        else:
            await trio.testing.wait_all_tasks_blocked()
            await near.send_all(b"two")
            assert await near.receive_some(10) == b"two"


@both
async def test_a_kept_connection_has_no_more_requests_once_plaintext_is_not_taken(
    protocol: Protocol,
) -> None:
    application = Application()
    async with to_app(application, protocol) as path:
        talk = path.talk()
        assert (await ask(talk, b"/before")).body == b"hello"
        path.policies.swap(snapshot(STRICT))
        with pytest.raises(Broken):
            await ask(talk, b"/after")
        lines = await path.logged(2)
        assert application.asked == [b"/before"]
        assert lines[1]["path"] == "/after"
        assert lines[1]["response_flags"] == "NR"
        assert lines[1]["response_code_details"] == "filter_chain_not_found"
        assert lines[1]["tproxy"]["authz"]["reason"] == "plaintext_on_strict_port"


async def test_a_stream_of_http2_is_ended_alone() -> None:
    async def app(call: Call) -> None:
        await call.head()
        await call.say(200, [])
        while part := await call.part():
            await call.send(part)
        await call.end()

    settings = {SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}
    async with to_app(app, Protocol.HTTP2, settings=settings) as path:
        talk = path.talk()
        call = await talk.call()
        await call.say((b"CONNECT", b"/chat"), [(b":protocol", b"websocket")])
        assert (await call.head()).start == 200
        path.policies.swap(snapshot(DENY_CHAT))
        with pytest.raises(Broken):
            await call.part()
        assert (await ask(talk)).start == 200
