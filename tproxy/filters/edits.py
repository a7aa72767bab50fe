"""Edit heads as routes say: header fields, the path, and whom a request is for."""

from collections.abc import Awaitable
from functools import lru_cache

from msgspec.structs import replace

from tproxy.model.exchange import Exchange, Handler
from tproxy.model.http import Headers, Request, RequestHead, Response
from tproxy.model.route import HeaderEdits, Plan, Rewrite
from tproxy.policy.paths import normalised
from tproxy.policy.regexes import Expression, expression
from tproxy.policy.schema import PathNormalization

HOST = frozenset((b"host",))
ORIGINAL_PATH = b"x-envoy-original-path"

FIXED = frozenset(
    (
        b"connection",
        b"content-length",
        b"host",
        b"http2-settings",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""What frames a message or belongs to one connection; policies that would edit it do not load."""


def edit(forward: Handler, exchange: Exchange, request: Request) -> Awaitable[Response]:
    """Edit the request on its way in, and the response's head on its way out (deciding)."""
    plan = exchange.route.plan
    assert plan is not None
    asked = forward(exchange, _edited_request(plan, request))
    return asked if plan.response_headers is None else _answered(asked, plan.response_headers)


async def _answered(asked: Awaitable[Response], edits: HeaderEdits) -> Response:
    return with_edits(await asked, edits)


def _edited_request(plan: Plan, request: Request) -> Request:
    head = request.head
    if plan.request_headers is not None:
        head = replace(head, headers=edited(head.headers, plan.request_headers))
    if plan.rewrite is not None:
        head = rewritten(head, plan.rewrite)
    return request if head is request.head else replace(request, head=head)


def with_edits(response: Response, edits: HeaderEdits | None) -> Response:
    """Edit a response's head."""
    if edits is None:
        return response
    headers = edited(response.head.headers, edits)
    return replace(response, head=replace(response.head, headers=headers))


def edited(headers: Headers, edits: HeaderEdits) -> Headers:
    """Remove, then set, then add."""
    named = edits.remove | {name for name, _ in edits.set}
    assert all(_may_edit(name) for name in named), "policies that edit such fields do not load"
    assert all(_may_edit(name) for name, _ in edits.add), "and none that add them"
    if not named.isdisjoint(headers.index):
        headers = headers.without(named)
    return headers.plus(*edits.set, *edits.add)


def rewritten(head: RequestHead, rewrite: Rewrite) -> RequestHead:
    """Replace path and authority; the application learns of the path that was asked for, as from Envoy."""
    if rewrite.authority is not None and head.authority != rewrite.authority:
        # The Host that came with it would be sent on; without one, codecs write the authority.
        headers = head.headers.without(HOST) if b"host" in head.headers else head.headers
        head = replace(head, authority=rewrite.authority, headers=headers)
    path = _path(head.path, rewrite) if head.path.startswith(b"/") else head.path
    if path == head.path:
        return head
    headers = head.headers
    if ORIGINAL_PATH not in headers:
        headers = headers.with_value(ORIGINAL_PATH, head.path)
    return replace(head, path=path, headers=headers)


def with_path(path: bytes, replaced_by: bytes, prefix: bytes | None) -> bytes:
    """Put something in place of a path, or of how it begins; the query stays.

    A slash too many or too few between the two is nobody's wish: `/foo` by `/` makes `/x` of `/foo/x`.
    """
    if prefix is None:
        _, mark, query = path.partition(b"?")
        return _rooted(replaced_by) + mark + query
    found = _beginning(path, prefix)
    if found is None:
        return path
    path = found
    rest = path[len(prefix) :]
    if replaced_by.endswith(b"/") and rest.startswith(b"/"):
        rest = rest[1:]
    elif prefix.endswith(b"/") and not replaced_by.endswith(b"/") and rest[:1] not in (b"", b"?"):
        rest = b"/" + rest
    return _rooted(replaced_by + rest)


def _beginning(path: bytes, prefix: bytes) -> bytes | None:
    """Return a path in the form nearest to the one that came which begins so: routes compare the normal one."""
    forms = tuple(PathNormalization) if path.startswith(b"/") else (PathNormalization.NONE,)
    for form in forms:
        found = normalised(path, form)
        if found[: len(prefix)].lower() == prefix.lower():
            return found
    return None


def _rooted(path: bytes) -> bytes:
    return path if path.startswith(b"/") else b"/" + path


def _path(path: bytes, rewrite: Rewrite) -> bytes:
    if rewrite.pattern:
        before, mark, query = path.partition(b"?")
        substituted = _compiled(rewrite.pattern).sub(rewrite.substitution.encode(), before)
        return _rooted(bytes(substituted)) + mark + query
    if rewrite.path is None:
        return path
    return with_path(path, rewrite.path, rewrite.prefix)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Expression:
    return expression(pattern)


def _may_edit(name: bytes) -> bool:
    return name not in FIXED and not name.startswith(b":")
