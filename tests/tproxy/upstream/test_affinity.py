"""Requests have in common what policies say, however it is written."""

import pytest

from tproxy.model.address import Address
from tproxy.model.cluster import HashKey, HashOn
from tproxy.model.flow import Direction, Flow
from tproxy.model.http import Field, Headers, HttpVersion, RequestHead
from tproxy.resilience.fraction import position
from tproxy.upstream.affinity import ANYWHERE, affinity

HERE, THERE = Address("192.0.2.1", 4711), Address("192.0.2.2", 80)
FLOW = Flow(Direction.OUTBOUND, HERE, HERE, THERE)
COOKIE = HashKey(HashOn.COOKIE, "u")
HEADER = HashKey(HashOn.HEADER, "x-user")
QUERY = HashKey(HashOn.QUERY, "user")


def head(path: bytes = b"/", *fields: Field) -> RequestHead:
    return RequestHead(b"GET", b"http", b"shop", path, Headers(fields), HttpVersion.HTTP11)


@pytest.mark.parametrize(
    ("key", "asked", "value"),
    [
        pytest.param(None, head(), None, id="nothing is said"),
        pytest.param(HEADER, head(b"/", (b"X-User", b"7")), b"7", id="a header"),
        pytest.param(
            HEADER, head(b"/", (b"X-User", b"7"), (b"x-user", b"8")), b"7, 8", id="a header twice"
        ),
        pytest.param(HEADER, head(), None, id="no header"),
        pytest.param(COOKIE, head(b"/", (b"Cookie", b"a=1;u=7; b=2")), b"7", id="a cookie"),
        pytest.param(COOKIE, head(b"/", (b"cookie", b'u="7"')), b"7", id="a quoted cookie"),
        pytest.param(
            COOKIE, head(b"/", (b"cookie", b"a=1"), (b"cookie", b"u=7")), b"7", id="a field each"
        ),
        pytest.param(COOKIE, head(b"/", (b"cookie", b"uu=7; u")), None, id="no such cookie"),
        pytest.param(QUERY, head(b"/?a=1&user=7%20x"), b"7 x", id="a query parameter"),
        pytest.param(QUERY, head(b"/?user="), b"", id="an empty one"),
        pytest.param(QUERY, head(b"/?a=1"), None, id="no query parameter"),
        pytest.param(HashKey(HashOn.SOURCE_IP), head(), b"192.0.2.1", id="whoever asks"),
    ],
)
def test_a_request_belongs_where_its_value_does(
    key: HashKey | None, asked: RequestHead, value: bytes | None
) -> None:
    found = affinity(key, FLOW, asked, bytes)
    assert found.key == (None if value is None else position(value))
    assert found.cookie is None


@pytest.mark.parametrize(
    ("seconds", "path", "cookie"),
    [
        pytest.param(None, "", None, id="none is given"),
        pytest.param(0.0, "", b"u=new; HttpOnly", id="for the session"),
        pytest.param(90.0, "/a", b"u=new; Max-Age=90; Path=/a; HttpOnly", id="for a while"),
    ],
)
def test_a_request_without_the_cookie_gets_one_where_policies_say_so(
    seconds: float | None, path: str, cookie: bytes | None
) -> None:
    key = HashKey(HashOn.COOKIE, "u", seconds, path)
    found = affinity(key, FLOW, head(), lambda: b"new")
    if cookie is None:
        assert found is ANYWHERE
    else:
        assert found.key == position(b"new")
        assert found.cookie == (b"set-cookie", cookie)


def test_a_connection_carried_as_bytes_has_only_its_source() -> None:
    assert affinity(HEADER, FLOW, None, bytes) is ANYWHERE
    assert affinity(HashKey(HashOn.COOKIE, "u", 9.0), FLOW, None, bytes) is ANYWHERE
    assert affinity(HashKey(HashOn.SOURCE_IP), FLOW, None, bytes).key == position(b"192.0.2.1")
