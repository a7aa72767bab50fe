"""Headers keep what came, find what is asked, and never show a value by accident."""

import pytest

from tproxy.model.http import Content, Headers, HttpVersion, Life, Request, RequestHead

FIELDS = Headers([(b"Host", b"a"), (b"X-A", b"1"), (b"x-a", b"2"), (b"Authorization", b"secret")])


def test_fields_keep_case_and_order_and_are_found_without_regard_to_it() -> None:
    assert [name for name, _ in FIELDS] == [b"Host", b"X-A", b"x-a", b"Authorization"]
    assert FIELDS.get(b"x-a") == b"1, 2"
    assert b"host" in FIELDS
    assert b"cookie" not in FIELDS
    assert len(FIELDS) == 4


def test_a_value_that_is_set_replaces_all_of_its_name() -> None:
    assert FIELDS.with_value(b"x-a", b"3").fields[1:] == (
        (b"Authorization", b"secret"),
        (b"x-a", b"3"),
    )
    assert FIELDS.with_value(b"x-b", b"3").fields == (*FIELDS.fields, (b"x-b", b"3"))


def test_several_values_are_set_as_one_after_the_other_would_be() -> None:
    for names in ((b"x-b", b"x-c"), (b"x-b", b"x-a")):
        values = dict.fromkeys(names, b"3")
        one, other = names
        expected = FIELDS.with_value(one, b"3").with_value(other, b"3")
        assert FIELDS.with_values(values) == expected
        assert FIELDS.with_values(values).index == expected.index


def test_equal_headers_are_one_key_and_case_tells_them_apart() -> None:
    assert (
        len({FIELDS, Headers(FIELDS), Headers([(b"host", b"a")]), Headers([(b"Host", b"a")])}) == 3
    )


def test_no_value_shows_when_headers_are_printed() -> None:
    assert repr(FIELDS) == "Headers(Host, X-A, x-a, Authorization)"


@pytest.mark.parametrize(
    ("kind", "grpc"),
    [
        pytest.param(b"application/grpc", True, id="plain"),
        pytest.param(b"application/grpc+proto", True, id="with a codec"),
        pytest.param(b"application/grpc;charset=utf-8", True, id="with a parameter"),
        pytest.param(b"application/grpc-web", False, id="grpc-web is another protocol"),
        pytest.param(b"application/json", False, id="json"),
        pytest.param(None, False, id="none"),
    ],
)
def test_grpc_is_told_by_its_content_type(kind: bytes | None, grpc: bool) -> None:
    headers = Headers([] if kind is None else [(b"Content-Type", kind)])
    head = RequestHead(b"POST", b"http", b"a", b"/", headers, HttpVersion.HTTP2)
    assert head.is_grpc is grpc


def test_what_asks_for_a_tunnel_is_no_call_of_grpc() -> None:
    headers = Headers([(b"content-type", b"application/grpc")])
    assert not RequestHead(b"CONNECT", b"", b"a:1", b"", headers, HttpVersion.HTTP2).is_grpc


@pytest.mark.parametrize(
    ("expect", "awaited"),
    [
        pytest.param(b"100-continue", True, id="as it is written"),
        pytest.param(b"100-Continue", True, id="in any case"),
        pytest.param(b"something", False, id="another expectation"),
        pytest.param(None, False, id="none"),
    ],
)
def test_a_body_is_held_back_where_the_head_says_so(expect: bytes | None, awaited: bool) -> None:
    headers = Headers([] if expect is None else [(b"Expect", expect)])
    head = RequestHead(b"PUT", b"http", b"a", b"/", headers, HttpVersion.HTTP11)
    assert head.awaits_continue is awaited


def test_everybody_is_told_of_the_end_the_last_one_first_though_one_goes_wrong() -> None:
    told: list[str] = []
    life = Life()

    def wrong(_: object) -> None:
        told.append("wrong")
        raise ZeroDivisionError

    life.when_over(lambda _: told.append("first"))
    life.when_over(wrong)
    life.when_over(lambda _: told.append("last"))
    with pytest.raises(ZeroDivisionError):
        life.end(None)
    assert told == ["last", "wrong", "first"]


def test_nothing_goes_on_beside_a_request_that_is_whole() -> None:
    head = RequestHead(b"GET", b"http", b"a", b"/", FIELDS, HttpVersion.HTTP11)
    with pytest.raises(AssertionError, match="whole"):
        Request(head, Content()).beside(Life)  # type: ignore[arg-type]
