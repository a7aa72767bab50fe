"""Answers of ours, as Envoy would give them."""

import pytest
from msgspec.structs import replace

from tproxy.filters.answer import answered, location
from tproxy.model.http import Headers, HttpVersion, RequestHead
from tproxy.model.route import DirectResponse, Redirect

HEAD = RequestHead(b"GET", b"http", b"shop:8080", b"/a/b?c=d", Headers(), HttpVersion.HTTP11)


@pytest.mark.parametrize(
    ("authority", "redirect", "expected"),
    [
        pytest.param(b"shop:8080", Redirect(), b"http://shop:8080/a/b?c=d", id="nothing"),
        pytest.param(b"shop", Redirect(scheme=b"https"), b"https://shop/a/b?c=d", id="scheme"),
        pytest.param(
            b"shop:80", Redirect(scheme=b"https"), b"https://shop/a/b?c=d", id="the schemes port"
        ),
        pytest.param(
            b"shop:8080", Redirect(scheme=b"https"), b"https://shop:8080/a/b?c=d", id="a port stays"
        ),
        pytest.param(b"shop:8080", Redirect(port=9), b"http://shop:9/a/b?c=d", id="port"),
        pytest.param(
            b"[2001:db8::1]", Redirect(port=9), b"http://[2001:db8::1]:9/a/b?c=d", id="IPv6"
        ),
        pytest.param(
            b"[2001:db8::1]:80", Redirect(port=9), b"http://[2001:db8::1]:9/a/b?c=d", id="its port"
        ),
        pytest.param(
            b"shop:8080", Redirect(authority=b"till"), b"http://till/a/b?c=d", id="authority"
        ),
        pytest.param(
            b"shop", Redirect(authority=b"till", port=9), b"http://till:9/a/b?c=d", id="and port"
        ),
        pytest.param(b"shop", Redirect(path=b"/x"), b"http://shop/x?c=d", id="path"),
        pytest.param(b"shop", Redirect(path=b"/x?y"), b"http://shop/x?y", id="with its own query"),
        pytest.param(
            b"shop", Redirect(path=b"/x", prefix=b"/a"), b"http://shop/x/b?c=d", id="prefix"
        ),
    ],
)
def test_a_location_is_what_was_asked_for_but_what_the_redirect_says(
    authority: bytes, redirect: Redirect, expected: bytes
) -> None:
    assert location(redirect, replace(HEAD, authority=authority)) == expected


@pytest.mark.parametrize(
    ("status", "grpc_status"),
    [
        pytest.param(503, b"14", id="unavailable"),
        pytest.param(404, b"12", id="unimplemented"),
        pytest.param(200, b"2", id="unknown"),
    ],
)
async def test_grpc_callers_get_a_status_of_theirs(status: int, grpc_status: bytes) -> None:
    head = replace(HEAD, headers=Headers(((b"content-type", b"application/grpc"),)))
    response = answered(DirectResponse(status, "für später".encode()), head)
    assert response.head.status == 200
    assert response.head.headers.get(b"grpc-status") == grpc_status
    assert response.head.headers.get(b"grpc-message") == b"f%C3%BCr sp%C3%A4ter"
    assert [part async for part in response.body] == []


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_a_body_has_none(status: int) -> None:
    response = answered(DirectResponse(status, b"x"), HEAD)
    assert b"content-length" not in response.head.headers
    assert [part async for part in response.body] == []


@pytest.mark.parametrize(
    ("how", "status"),
    [
        pytest.param(DirectResponse(200, b"hello"), 501, id="that would open one"),
        pytest.param(DirectResponse(204), 501, id="that would open one and has no body"),
        pytest.param(DirectResponse(403), 403, id="that opens none"),
        pytest.param(Redirect(authority=b"till"), 301, id="that leads elsewhere"),
    ],
)
@pytest.mark.parametrize("kind", [b"text/plain", b"application/grpc"])
def test_no_answer_of_ours_opens_a_tunnel(
    how: DirectResponse | Redirect, status: int, kind: bytes
) -> None:
    fields = Headers(((b"content-type", kind),))
    head = replace(HEAD, method=b"CONNECT", path=b"", headers=fields)
    assert answered(how, head).head.status == status
