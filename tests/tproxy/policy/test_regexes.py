"""Expressions take linear time, and what cannot be used is said at once."""

import re
import sys

import pytest

from tproxy.policy.regexes import LARGEST, LONGEST, check_substitution, expression


def test_an_expression_is_about_octets_and_text_alike() -> None:
    found = expression("/v[0-9]+/.*")
    assert found.fullmatch(b"/v12/x")
    assert not found.fullmatch(b"a/v12/x")
    assert not found.fullmatch("/v/x")


def test_what_takes_others_for_ever_is_linear() -> None:
    assert not expression("(a+)+b").fullmatch(b"a" * 100_000)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("a" * (LONGEST + 1), f"is longer than {LONGEST} characters: write several matches", id="long"),
        pytest.param("(?=a)", "is no RE2 expression: invalid perl operator: (?=", id="looks ahead"),
        pytest.param(r"(a)\1", r"is no RE2 expression: invalid escape sequence: \1", id="looks back"),
        pytest.param("[", "is no RE2 expression: missing ]: [", id="half of one"),
        pytest.param("(abcdefghij{50}){20}", f"instructions, and {LARGEST} are the most", id="a large program"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        expression(text)


def test_without_the_library_expressions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(ValueError, match="install the package google-re2"):
        expression("a")


@pytest.mark.parametrize("text", ["", "/x", r"/\1/\2", r"\0", r"a\\b"])
def test_a_substitution_may_name_groups(text: str) -> None:
    check_substitution(expression("(a)(b)"), text)


@pytest.mark.parametrize("text", [r"\3", r"\x", "\\"])
def test_a_substitution_names_no_other_groups(text: str) -> None:
    with pytest.raises(ValueError, match="is no group of the expression"):
        check_substitution(expression("(a)(b)"), text)
