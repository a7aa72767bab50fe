"""Messages that are changed on their way, and answers of ours."""

import pytest

from fakes.path import ask, to_app
from fakes.planned import Turns, across, both, follow, interrupted, status
from tproxy.model.flow import Protocol
from tproxy.model.route import DirectResponse, HeaderEdits, Plan, Redirect, Rewrite

EDITS = HeaderEdits(frozenset((b"x-old",)), ((b"x-set", b"2"),), ((b"x-added", b"3"),))


@across
async def test_heads_are_edited_in_both_directions(protocol: Protocol, upstream: Protocol) -> None:
    app = Turns([status(200, b"", (b"x-old", b"1"), (b"x-set", b"1"))])
    async with to_app(app, protocol, upstream=upstream) as path:
        follow(path, Plan(request_headers=EDITS, response_headers=EDITS))
        heard = await path.get(fields=((b"x-old", b"1"), (b"x-set", b"1"), (b"x-added", b"1")))
        assert (heard.get(b"x-old"), heard.get(b"x-set"), heard.get(b"x-added")) == (
            [],
            [b"2"],
            [b"3"],
        )
        (asked,) = app.heads
        assert (asked.get(b"x-old"), asked.get(b"x-set"), asked.get(b"x-added")) == (
            [],
            [b"2"],
            [b"1", b"3"],
        )


@across
async def test_a_rewritten_path_is_sent_on_and_the_asked_one_logged(
    protocol: Protocol, upstream: Protocol
) -> None:
    app = Turns([status(200)])
    async with to_app(app, protocol, upstream=upstream) as path:
        rewrite = Rewrite(path=b"/new", prefix=b"/old", authority=b"other.example")
        follow(path, Plan(rewrite=rewrite))
        await path.get(b"/old/x?y=z")
        (asked,) = app.heads
        assert asked.start == (b"GET", b"/new/x?y=z")
        assert asked.get(b"x-envoy-original-path") == [b"/old/x?y=z"]
        if upstream is Protocol.HTTP1:
            assert asked.get(b"host") == [b"other.example"]
        (line,) = await path.logged()
        assert (line["path"], line["authority"]) == ("/old/x?y=z", "shop.example")


@both
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST"])
async def test_a_redirect_is_answered_here(protocol: Protocol, method: bytes) -> None:
    app = Turns([status(200)])
    async with to_app(app, protocol) as path:
        follow(path, Plan(answer=Redirect(302, scheme=b"https"), response_headers=EDITS))
        talk = path.talk()
        post = method == b"POST"
        asking = interrupted(talk, b"/a?b") if post else ask(talk, b"/a?b", method=method)
        heard = await asking
        assert (heard.start, heard.body) == (302, b"")
        assert heard.get(b"location") == [b"https://shop.example/a?b"]
        assert heard.get(b"x-added") == [b"3"]
        (line,) = await path.logged()
        assert (line["response_code"], line["response_flags"]) == (302, "-")
        assert line["response_code_details"] == "direct_response"
        assert line["tproxy"]["attempts"] is None
        assert app.heads == []


@both
@pytest.mark.parametrize(
    ("method", "body"),
    [pytest.param(b"GET", b"soon", id="GET"), pytest.param(b"HEAD", b"", id="HEAD")],
)
async def test_a_direct_response_is_answered_here(
    protocol: Protocol, method: bytes, body: bytes
) -> None:
    async with to_app(Turns([status(200)]), protocol) as path:
        follow(path, Plan(answer=DirectResponse(418, b"soon")))
        heard = await ask(path.talk(), method=method)
        assert (heard.start, heard.body) == (418, body)
        assert heard.get(b"content-length") == [b"4"]
        (line,) = await path.logged()
        assert line["response_code_details"] == "direct_response"
