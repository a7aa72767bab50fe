"""Patches, applied by a library that is not ours."""

from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tproxy.inject.json_patch import patch

NAMED = {"name": "a", "value": 1}


@pytest.mark.parametrize(
    ("before", "after", "operations"),
    [
        pytest.param({"a": 1}, {"a": 1}, [], id="nothing to do"),
        pytest.param({}, {"a/b~c": 1}, [("add", "/a~1b~0c")], id="a key that must be escaped"),
        pytest.param({"a": 1}, {}, [("remove", "/a")], id="a key less"),
        pytest.param({"a": 1}, {"a": True}, [("replace", "/a")], id="another type"),
        pytest.param([1], [1, 2], [("replace", "")], id="a list without names"),
        pytest.param([1], [True], [("replace", "")], id="another type in a list"),
        pytest.param([1, [2]], [1, [2]], [], id="the same list"),
        pytest.param([NAMED], [{"name": "b"}, NAMED], [("add", "/0")], id="before"),
        pytest.param([NAMED], [NAMED, {"name": "b"}], [("add", "/1")], id="behind"),
        pytest.param(
            [NAMED],
            [{"name": "b"}, {"name": "a", "value": 2}],
            [("add", "/0"), ("replace", "/1/value")],
            id="before one that changes",
        ),
        pytest.param([NAMED], [{"name": "b"}], [("replace", "")], id="another name"),
        pytest.param([{"name": 1}], [{"name": 1}, {}], [("replace", "")], id="names that are none"),
    ],
)
def test_a_patch_is_no_longer_than_it_must_be(
    before: object, after: object, operations: list[tuple[str, str]]
) -> None:
    assert [(each["op"], each["path"]) for each in patch(before, after)] == operations


values = st.recursive(
    st.one_of(st.booleans(), st.integers(0, 3), st.text("a/~", max_size=2)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text("ab/~", max_size=2), inner, max_size=3),
        st.lists(
            st.fixed_dictionaries({"name": st.text("ab", max_size=1), "v": inner}), max_size=3
        ),
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text("ab/~"), values), st.dictionaries(st.text("ab/~"), values))
def test_a_patch_leads_from_the_one_to_the_other(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    made = jsonpatch.apply_patch(before, list(patch(before, after)))
    assert made == after
    assert repr(_sorted(made)) == repr(_sorted(after))


def _sorted(value: object) -> object:
    """The value with its keys in order, so that True and 1 can be told apart."""
    match value:
        case dict():
            return {key: _sorted(value[key]) for key in sorted(value)}
        case list():
            return [_sorted(each) for each in value]
    return value
