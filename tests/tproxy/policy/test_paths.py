"""Paths come into one form, whatever their spelling; Istio's own cases, mode by mode."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tproxy.policy.paths import Ambiguous, normalised
from tproxy.policy.schema import PathNormalization as Mode

CASES = {
    Mode.NONE: {
        "/app/../admin": "/app/../admin",
        "/app/%2E./admin": "/app/%2E./admin",
        "/app\\admin": "/app\\admin",
    },
    Mode.BASE: {
        "/": "/",
        "/app/../admin": "/admin",
        "/app//": "/app//",
        "/app/%2f": "/app/%2f",
        "/xyz%30..//abc": "/xyz0..//abc",
        "/app/%2E./admin": "/admin",
        "/app\\admin": "/app/admin",
        "/app/\\/\\/\\admin": "/app//////admin",
        "/%5Capp%2f%5c%2F%2e%2e%2fadmin%5c\\abc": "/%5Capp%2f%5c%2F..%2fadmin%5c/abc",
        "/app//../admin": "/app/admin",
        "/app//../../admin": "/admin",
        "/../../admin": "/admin",
        "/app/..": "/",
        "/app/.": "/app/",
        "/./app": "/app",
        "/%61dmin": "/admin",
        "/%zz%4": "/%zz%4",
        "/.hidden/...": "/.hidden/...",
    },
    Mode.MERGE_SLASHES: {
        "/app//": "/app/",
        "/xyz%30..//abc": "/xyz0../abc",
        "/app/\\/\\/\\admin": "/app/admin",
        "//admin": "/admin",
        "/a/%2e%2e//admin": "/admin",
        "/..%2fadmin": "/..%2fadmin",
    },
    Mode.DECODE_AND_MERGE_SLASHES: {
        "/app%2f/": "/app/",
        "/%2Fapp%5cadmin%5Cabc": "/app/admin/abc",
        "/%252e%252e/admin": "/%252e%252e/admin",
        "/..;/admin": "/..;/admin",
        "/admin;a=b": "/admin;a=b",
        "/Admin": "/Admin",
        "/.../admin": "/.../admin",
        "/%c0%2fadmin": "/%c0/admin",
        "/..%2fadmin": "/admin",
    },
}


@pytest.mark.parametrize(
    ("mode", "received", "expected"),
    [
        pytest.param(mode, received, expected, id=f"{mode} {received}")
        for mode, cases in CASES.items()
        for received, expected in cases.items()
    ],
)
def test_a_path_comes_into_the_form_of_its_mode(mode: Mode, received: str, expected: str) -> None:
    assert normalised(received.encode(), mode) == expected.encode()
    assert normalised(received.encode() + b"?a=/../%2e", mode) == expected.encode() + b"?a=/../%2e"


@pytest.mark.parametrize("mode", Mode)
def test_nul_has_no_form(mode: Mode) -> None:
    with pytest.raises(Ambiguous):
        normalised(b"/admin%00", mode)
    assert normalised(b"/a?%00", mode) == b"/a?%00"


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("target", [b"*", b""])
def test_what_is_no_path_stays_as_it_is(mode: Mode, target: bytes) -> None:
    assert normalised(target, mode) == target


PIECES = st.sampled_from(
    ["/", "//", ".", "..", "%2e", "%2F", "%5c", "\\", "a", "%61", "%25", "%", ";"]
)


@given(
    st.lists(PIECES, max_size=12), st.sampled_from([mode for mode in Mode if mode is not Mode.NONE])
)
def test_no_path_keeps_a_dot_segment_or_an_escape_that_need_not_be(
    pieces: list[str], mode: Mode
) -> None:
    once = normalised(("/" + "".join(pieces)).encode(), mode)
    segments = once.split(b"/")
    assert b"." not in segments
    assert b".." not in segments
    assert b"\\" not in once
    if mode is not Mode.BASE:
        assert b"//" not in once


def test_the_page_shows_what_each_mode_does() -> None:
    page = (Path(__file__).parents[3] / "docs" / "policies.md").read_text()
    shown = re.findall(r"(?m)^\| `(\w+)`.*\| `(/[^`]*)` \|$", page)
    path = b"/a/..//%61dm%2Fin"
    assert shown == [(mode.value, normalised(path, mode).decode()) for mode in Mode]
