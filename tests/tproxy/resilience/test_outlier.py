"""Endpoints are ejected, return and are forgiven as Istio and Envoy document it."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tproxy.resilience.outlier import OutlierDetection, OutlierSpec

TEN = [f"192.0.2.{number}:80" for number in range(10)]
BAD = TEN[0]
SPEC = OutlierSpec(max_ejection_percent=50.0)


def errors(
    detection: OutlierDetection[str], endpoint: str, statuses: list[int], now: float
) -> list[bool]:
    """Have an endpoint answer, and say which answers ejected it."""
    return [detection.answered(endpoint, status, now) for status in statuses]


@pytest.mark.parametrize(
    ("spec", "statuses", "ejected_at"),
    [
        pytest.param(OutlierSpec(), [500] * 5, [5], id="five 5xx, the default"),
        pytest.param(OutlierSpec(), [500] * 4 + [200] + [500] * 4, [], id="a success between"),
        pytest.param(OutlierSpec(), [500] * 4 + [404] + [500] * 4, [], id="a 4xx is a success"),
        pytest.param(OutlierSpec(), [503, 500, 599, 504, 502], [5], id="any 5xx"),
        pytest.param(OutlierSpec(consecutive_5xx_errors=2), [500] * 2, [2], id="two"),
        pytest.param(OutlierSpec(consecutive_5xx_errors=0), [500] * 20, [], id="0 disables"),
        pytest.param(
            OutlierSpec(0, consecutive_gateway_errors=3), [502, 503, 504], [3], id="gateway errors"
        ),
        pytest.param(
            OutlierSpec(0, consecutive_gateway_errors=3),
            [502, 503, 500, 504, 502],
            [],
            id="a 500 is no gateway error",
        ),
        pytest.param(
            OutlierSpec(4, consecutive_gateway_errors=3),
            [500, 502, 503, 504],
            [4],
            id="both at once eject once",
        ),
        pytest.param(OutlierSpec(), [500] * 12, [5], id="who is ejected is not ejected again"),
    ],
)  # fmt: skip
def test_errors_in_a_row_eject(
    spec: OutlierSpec, statuses: list[int], ejected_at: list[int]
) -> None:
    detection = OutlierDetection(spec, TEN)
    found = errors(detection, BAD, statuses, 1.0)
    assert [number for number, ejected in enumerate(found, 1) if ejected] == ejected_at
    assert detection.ejected(1.0) == ({BAD} if ejected_at else set())


def test_defaults_are_istios() -> None:
    assert OutlierSpec() == OutlierSpec(
        consecutive_5xx_errors=5,
        consecutive_gateway_errors=0,
        split_external_local_origin_errors=False,
        consecutive_local_origin_failures=5,
        interval=10.0,
        base_ejection_time=30.0,
        max_ejection_time=300.0,
        max_ejection_percent=10.0,
        always_eject_one=False,
        min_health_percent=0.0,
    )


@pytest.mark.parametrize(
    ("split", "ejected"),
    [pytest.param(False, True, id="together: 503s"), pytest.param(True, False, id="split: another row")],
)  # fmt: skip
def test_local_errors_count_as_gateway_errors_unless_split(*, split: bool, ejected: bool) -> None:
    spec = OutlierSpec(0, 2, split_external_local_origin_errors=split)
    detection = OutlierDetection(spec, TEN)
    assert not detection.unreachable(BAD, 0.0)
    assert detection.unreachable(BAD, 0.0) is ejected


def test_split_local_errors_have_a_row_of_their_own() -> None:
    spec = OutlierSpec(split_external_local_origin_errors=True, consecutive_local_origin_failures=3)
    detection = OutlierDetection(spec, TEN)
    assert [detection.unreachable(BAD, 0.0) for _ in range(2)] == [False, False]
    assert not detection.answered(BAD, 500, 0.0), "it was reached"
    assert [detection.unreachable(BAD, 0.0) for _ in range(2)] == [False, False]
    detection.connected(BAD)
    assert [detection.unreachable(BAD, 0.0) for _ in range(3)] == [False, False, True]
    assert not detection.unreachable(BAD, 1.0), "it is ejected"


def ejections(detection: OutlierDetection[str], pauses: list[float]) -> list[float]:
    """Eject an endpoint again after each pause since it was back, and say for how long each time."""
    now, lasted = 1000.0, []
    for pause in pauses:
        now += pause
        assert errors(detection, BAD, [500] * 5, now)[-1]
        seconds = next(
            seconds for seconds in range(1, 1000) if BAD not in detection.ejected(now + seconds)
        )
        lasted.append(float(seconds))
        now += seconds
    return lasted


@pytest.mark.parametrize(
    ("pauses", "lasted"),
    [
        pytest.param([0, 0, 0, 0], [30, 60, 90, 120], id="again at once: 30 s more each time"),
        pytest.param([0, 9, 9], [30, 60, 90], id="less than an interval forgives nothing"),
        pytest.param([0, 0, 10], [30, 60, 60], id="one interval forgives one"),
        pytest.param([0, 0, 0, 25], [30, 60, 90, 60], id="two forgive two"),
        pytest.param([0, 0, 500, 0], [30, 60, 30, 60], id="a long time forgives all"),
        pytest.param([0] * 12, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300], id="never above the most"),
        pytest.param([0] * 12 + [30], [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300, 270], id="only one more than the most takes to be forgiven"),
    ],
)  # fmt: skip
def test_each_ejection_takes_longer_until_it_is_forgiven(
    pauses: list[float], lasted: list[float]
) -> None:
    assert ejections(OutlierDetection(SPEC, TEN), pauses) == lasted


def test_a_base_above_the_most_is_the_most() -> None:
    spec = OutlierSpec(base_ejection_time=400.0, max_ejection_time=300.0)
    assert ejections(OutlierDetection(spec, TEN), [0, 0]) == [400.0, 400.0]


@pytest.mark.parametrize(
    ("members", "percent", "one", "expected"),
    [
        pytest.param(10, 10.0, False, 1, id="one of ten is 10 %"),
        pytest.param(10, 9.0, False, 0, id="more than 9 %"),
        pytest.param(10, 50.0, False, 5, id="half"),
        pytest.param(3, 10.0, False, 0, id="one of three is more than 10 %"),
        pytest.param(3, 10.0, True, 1, id="unless one always may"),
        pytest.param(3, 100.0, False, 3, id="all"),
        pytest.param(10, 0.0, False, 0, id="none"),
    ],
)
def test_no_more_than_the_percentage_are_ejected(
    *, members: int, percent: float, one: bool, expected: int
) -> None:
    spec = OutlierSpec(max_ejection_percent=percent, always_eject_one=one)
    detection = OutlierDetection(spec, TEN[:members])
    for endpoint in TEN[:members]:
        errors(detection, endpoint, [500] * 5, 0.0)
    assert len(detection.ejected(0.0)) == expected


def test_who_could_not_be_ejected_needs_another_row_of_errors() -> None:
    detection = OutlierDetection(OutlierSpec(), TEN)
    errors(detection, BAD, [500] * 5, 0.0)
    assert errors(detection, TEN[1], [500] * 5, 10.0) == [False] * 5
    assert errors(detection, TEN[1], [500] * 5, 30.0) == [False] * 4 + [True]


def test_rows_begin_anew_when_an_endpoint_is_back() -> None:
    detection = OutlierDetection(OutlierSpec(5, consecutive_gateway_errors=3), TEN)
    assert errors(detection, BAD, [503] * 3, 0.0)[-1]
    assert errors(detection, BAD, [500] * 4, 30.0) == [False] * 4


@pytest.mark.parametrize(
    ("percent", "bad", "avoided"),
    [
        pytest.param(0.0, 5, 5, id="0 never panics"),
        pytest.param(50.0, 5, 5, id="half are enough"),
        pytest.param(60.0, 4, 4, id="six of ten are 60 %"),
        pytest.param(60.0, 5, 0, id="five are too few"),
    ],
)
def test_with_too_few_healthy_nobody_is_avoided(percent: float, bad: int, avoided: int) -> None:
    spec = OutlierSpec(max_ejection_percent=100.0, min_health_percent=percent)
    detection = OutlierDetection(spec, TEN)
    for endpoint in TEN[:bad]:
        errors(detection, endpoint, [500] * 5, 0.0)
    assert len(detection.avoided(0.0)) == avoided
    assert len(detection.ejected(0.0)) == bad


def test_whom_to_avoid_is_one_object_while_nothing_changes() -> None:
    detection = OutlierDetection(SPEC, TEN)
    errors(detection, BAD, [500] * 5, 0.0)
    before = detection.avoided(1.0)
    detection.answered(TEN[1], 500, 2.0)
    assert detection.avoided(29.0) is before
    assert detection.avoided(30.0) == frozenset()


def test_who_leaves_is_forgotten_and_strangers_are_ignored() -> None:
    detection = OutlierDetection(SPEC, TEN)
    errors(detection, BAD, [500] * 5, 0.0)
    errors(detection, TEN[1], [500] * 5, 0.0)
    detection.update(TEN[1:])
    assert detection.avoided(0.0) == {TEN[1]}
    assert errors(detection, BAD, [500] * 10, 0.0) == [False] * 10
    assert not detection.unreachable(BAD, 0.0)
    detection.connected(BAD)
    detection.update(TEN)
    assert errors(detection, BAD, [500] * 5, 0.0)[-1]
    assert detection.ejected(30.0) == frozenset()


@given(
    st.lists(st.tuples(st.sampled_from(TEN[:4]), st.sampled_from([200, 500]), st.integers(0, 20))),
    st.sampled_from([25.0, 50.0, 100.0]),
)
def test_a_simple_simulation_ejects_alike(
    answers: list[tuple[str, int, int]], percent: float
) -> None:
    spec = OutlierSpec(consecutive_5xx_errors=2, max_ejection_percent=percent)
    detection = OutlierDetection(spec, TEN[:4])
    row, times, ends, now = Counter[str](), Counter[str](), dict[str, float](), 0.0
    for endpoint, status, gap in answers:
        now += gap
        active = [each for each, end in ends.items() if end > now]
        expected = False
        if endpoint not in active:
            row[endpoint] = row[endpoint] + 1 if status == 500 else 0
            if row[endpoint] == 2:
                row[endpoint] = 0
                expected = 25.0 * (len(active) + 1) <= percent
        if expected:
            forgiven = int((now - ends.get(endpoint, 0.0)) / 10)
            times[endpoint] = max(times[endpoint] - forgiven, 0)
            times[endpoint] = min(times[endpoint] + 1, 11)
            ends[endpoint] = now + min(30.0 * times[endpoint], 300.0)
        assert detection.answered(endpoint, status, now) is expected
        assert detection.ejected(now) == {each for each, end in ends.items() if end > now}
