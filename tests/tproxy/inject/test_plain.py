"""What a reader puts around values, taken off."""

from enum import IntEnum

import pytest

from tproxy.inject.plain import plain


class Text(str):
    """A text with its quotes."""

    __slots__ = ()


class Number(IntEnum):
    """A number as it was written."""

    SEVEN = 7


class Fraction(float):
    """The same with a fraction."""

    __slots__ = ()


class Mapping(dict[str, object]):
    """A mapping with its comments."""


class Sequence(list[object]):
    """A list with its comments."""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(Text("a"), "a", id="text"),
        pytest.param(Number.SEVEN, 7, id="number"),
        pytest.param(Fraction(1.5), 1.5, id="fraction"),
        pytest.param(True, True, id="switch"),
        pytest.param(None, None, id="nothing"),
        pytest.param(Mapping(), {}, id="mapping"),
        pytest.param(Sequence(), [], id="list"),
    ],
)
def test_a_value_is_of_the_type_that_json_knows(value: object, expected: object) -> None:
    made = plain(Mapping(key=Sequence([value])))
    assert made == {"key": [expected]}
    assert [type(made), type(made["key"]), type(made["key"][0])] == [dict, list, type(expected)]
