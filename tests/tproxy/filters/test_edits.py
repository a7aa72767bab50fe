"""Heads are edited as routes say, and never beyond."""

import pytest
from msgspec.structs import replace

from tproxy.filters.edits import FIXED, edited, rewritten, with_path
from tproxy.model.http import Headers, HttpVersion, RequestHead
from tproxy.model.route import HeaderEdits, Rewrite

HEAD = RequestHead(
    b"GET", b"http", b"reviews", b"/a/b?c=d", Headers(((b"X-One", b"1"),)), HttpVersion.HTTP11
)


def test_fields_are_removed_then_set_then_added() -> None:
    headers = Headers(((b"X-Old", b"1"), (b"x-kept", b"2"), (b"X-Set", b"3"), (b"x-set", b"4")))
    edits = HeaderEdits(
        frozenset((b"x-old", b"x-again")),
        ((b"x-set", b"5"), (b"x-again", b"6")),
        ((b"x-kept", b"7"),),
    )
    assert edited(headers, edits).fields == (
        (b"x-kept", b"2"),
        (b"x-set", b"5"),
        (b"x-again", b"6"),
        (b"x-kept", b"7"),
    )


@pytest.mark.parametrize("name", sorted({*FIXED, b":path", b":authority"}))
@pytest.mark.parametrize("how", ["remove", "set", "add"])
def test_what_frames_a_message_is_never_edited(name: bytes, how: str) -> None:
    edits = {
        "remove": HeaderEdits(remove=frozenset((name,))),
        "set": HeaderEdits(set=((name, b"x"),)),
        "add": HeaderEdits(add=((name, b"x"),)),
    }[how]
    with pytest.raises(AssertionError):
        edited(Headers(), edits)


@pytest.mark.parametrize(
    ("path", "prefix", "by", "becomes"),
    [
        pytest.param(b"/foo", b"/foo", b"/bar", b"/bar", id="all of it"),
        pytest.param(b"/foo/x?y=/foo", b"/foo", b"/bar", b"/bar/x?y=/foo", id="the rest stays"),
        pytest.param(b"/foobar", b"/foo", b"/bar", b"/barbar", id="within a segment"),
        pytest.param(b"/foo/x", b"/foo", b"/", b"/x", id="no second slash"),
        pytest.param(b"/foo/x", b"/foo/", b"/", b"/x", id="both with a slash"),
        pytest.param(b"/foo/x", b"/foo/", b"/bar", b"/bar/x", id="no missing slash"),
        pytest.param(b"/foo/", b"/foo/", b"/bar", b"/bar", id="nothing after the prefix"),
        pytest.param(b"/foo/?x", b"/foo/", b"/bar", b"/bar?x", id="a query after the prefix"),
        pytest.param(b"/foo?x", b"/foo", b"/", b"/?x", id="a query is no segment"),
        pytest.param(b"/foo/x", b"/foo", b"bar", b"/bar/x", id="always from the root"),
        pytest.param(b"/FOO/x", b"/foo", b"/bar", b"/bar/x", id="in another case"),
        pytest.param(b"/else", b"/foo", b"/bar", b"/else", id="another prefix"),
        pytest.param(b"/foo?x=1?2", None, b"/bar", b"/bar?x=1?2", id="the whole path"),
        pytest.param(b"/foo", b"/", b"/bar", b"/bar/foo", id="put before"),
        pytest.param(b"/", b"/", b"/bar", b"/bar", id="put before nothing"),
    ],
)
def test_a_path_is_replaced_without_slashes_too_many_or_too_few(
    path: bytes, prefix: bytes | None, by: bytes, becomes: bytes
) -> None:
    assert with_path(path, by, prefix) == becomes


@pytest.mark.parametrize(
    ("path", "pattern", "by", "becomes"),
    [
        pytest.param(b"/v1/users/7?v1", "^/v1/", "/v2/", b"/v2/users/7?v1", id="not the query"),
        pytest.param(b"/a/b", "^/([^/]+)/([^/]+)$", r"/\2/\1", b"/b/a", id="with groups"),
        pytest.param(b"/a/a", "a", "b", b"/b/b", id="each match"),
        pytest.param(b"/a", "x", "y", b"/a", id="no match"),
        pytest.param(b"/a", "^/", "", b"/a", id="always from the root"),
        pytest.param(b"/\xff/a", "a$", "b", b"/\xff/b", id="octets that are no text"),
    ],
)
def test_an_expression_replaces_what_it_matches(
    path: bytes, pattern: str, by: str, becomes: bytes
) -> None:
    rewrite = Rewrite(pattern=pattern, substitution=by)
    assert rewritten(replace(HEAD, path=path), rewrite).path == becomes


def test_the_application_learns_which_path_was_asked_for() -> None:
    head = rewritten(HEAD, Rewrite(path=b"/x", prefix=b"/a", authority=b"ratings"))
    assert (head.path, head.authority) == (b"/x/b?c=d", b"ratings")
    assert head.headers.get(b"x-envoy-original-path") == b"/a/b?c=d"
    further = rewritten(head, Rewrite(path=b"/y"))
    assert further.headers.get(b"x-envoy-original-path") == b"/a/b?c=d"


@pytest.mark.parametrize(
    ("path", "becomes"),
    [
        pytest.param(b"/x/../a/b", b"/new/b", id="dots"),
        pytest.param(b"/%61/b?c", b"/new/b?c", id="escapes"),
        pytest.param(b"//a/b", b"/new/b", id="slashes"),
        pytest.param(b"/a//b", b"/new//b", id="as it came where it begins so"),
    ],
)
def test_a_prefix_that_only_the_normal_form_has_is_replaced_in_it(
    path: bytes, becomes: bytes
) -> None:
    head = rewritten(replace(HEAD, path=path), Rewrite(path=b"/new", prefix=b"/a"))
    assert head.path == becomes


@pytest.mark.parametrize("path", [pytest.param(b"*", id="star"), pytest.param(b"", id="CONNECT")])
def test_what_is_no_path_is_not_rewritten(path: bytes) -> None:
    head = replace(HEAD, path=path)
    assert rewritten(head, Rewrite(path=b"/x")) == head


def test_a_rewrite_of_the_authority_alone_leaves_the_path() -> None:
    head = rewritten(HEAD, Rewrite(authority=b"ratings"))
    assert (head.authority, head.path, head.headers) == (b"ratings", HEAD.path, HEAD.headers)
