"""`--limit` reaches every bound and refuses what none can be."""

from dataclasses import asdict, replace

import pytest

from tproxy.cli.limit_option import DEFAULTS, IN_POLICIES, BadLimit, limits_of
from tproxy.model.limits import Limits


def test_every_limit_but_what_policies_say_can_be_given_its_own_default() -> None:
    words = [f"{name}={value}" for name, value in DEFAULTS.items() if name not in IN_POLICIES]
    assert replace(Limits(), **limits_of(words)) == Limits()  # type: ignore[arg-type]
    assert len(words) == len(asdict(Limits())) - 2


def test_the_last_of_two_counts() -> None:
    given = limits_of(["head-seconds=5", "head-seconds=0.5", "streams=7"])
    assert replace(Limits(), **given) == Limits(head_seconds=0.5, streams=7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        pytest.param("head-seconds", "'head-seconds' is not NAME=VALUE", id="no value"),
        pytest.param("head-second=5", "did you mean 'head-seconds'?", id="a slip"),
        pytest.param("head_seconds=5", "did you mean 'head-seconds'?", id="underscores"),
        pytest.param("qqqq=5", "known are connections, ", id="nothing like it"),
        pytest.param("head-seconds=soon", "'soon' is not a number", id="words"),
        pytest.param("streams=1.5", "'1.5' is not a whole number", id="a fraction"),
        pytest.param("head-seconds=nan", "'nan' is no bound", id="no number"),
        pytest.param("head-seconds=inf", "'inf' is no bound", id="infinity"),
        pytest.param("head-seconds=0", "0 is not above 0", id="no time at all"),
        pytest.param("sniff-bytes=9", "spec.detection.maxBytes of ProxyConfig", id="a policy's"),
        pytest.param("streams=0", "0 is less than 1", id="nothing"),
        pytest.param("stream-window=1000", "1000 is less than 65535", id="a small window"),
        pytest.param("keepalive-seconds=99999", "99999 is more than 32767", id="too much"),
    ],
)
def test_what_no_limit_can_be_is_refused(word: str, said: str) -> None:
    with pytest.raises(BadLimit, match="^.*" + said.replace("?", r"\?")):
        limits_of([word])


@pytest.mark.parametrize("name", ["stream-idle-seconds", "tcp-idle-seconds", "drain-seconds"])
def test_nought_is_a_choice_where_it_means_something(name: str) -> None:
    assert limits_of([f"{name}=0"]) == {name.replace("-", "_"): 0}
