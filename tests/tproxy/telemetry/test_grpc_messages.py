"""gRPC messages are counted wherever the body is cut, and what breaks the framing counts no further."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tproxy.telemetry.grpc_messages import MessageCounter


def message(content: bytes, flag: int = 0) -> bytes:
    return bytes((flag,)) + len(content).to_bytes(4, "big") + content


def counted(parts: Iterable[bytes]) -> int:
    counter = MessageCounter()
    for part in parts:
        counter.feed(part)
    return counter.count


BODIES = [
    pytest.param(b"", 0, id="nothing"),
    pytest.param(message(b""), 1, id="an empty message"),
    pytest.param(message(b"hi"), 1, id="one"),
    pytest.param(message(b"hi", flag=1), 1, id="a compressed one"),
    pytest.param(message(b"") * 3 + message(b"x" * 9) * 2, 5, id="several"),
    pytest.param(message(b"hi")[:-1], 0, id="an unfinished message"),
    pytest.param(message(b"hi") + b"\0\0\0\0", 1, id="an unfinished prefix"),
    pytest.param(message(b"hi") + b"\0\xff\xff\xff\xff" + b"x" * 9, 1, id="four GiB announced"),
    pytest.param(message(b"hi") + b"\2" + message(b"hi") * 3, 1, id="no such flag"),
    pytest.param(b"<html>" + message(b"hi") * 3, 0, id="something else"),
]


@pytest.mark.parametrize(("body", "expected"), BODIES)
def test_whole_messages_are_counted_however_they_arrive(body: bytes, expected: int) -> None:
    assert counted([body]) == expected
    assert counted(body[at : at + 1] for at in range(len(body))) == expected
    for cut in range(len(body)):
        assert counted([body[:cut], b"", body[cut:]]) == expected


@given(
    contents=st.lists(st.binary(max_size=30), max_size=8),
    cuts=st.lists(st.integers(0, 200), max_size=8),
)
def test_the_count_is_the_same_in_any_pieces(contents: list[bytes], cuts: list[int]) -> None:
    body = b"".join(message(content) for content in contents)
    edges = [0, *sorted(cuts), len(body) + 200]
    assert counted(body[start:end] for start, end in pairwise(edges)) == len(contents)
