"""Faults meet the percentage of requests that they are for, the same ones each time, and only so many at once."""

import pytest

from tproxy.resilience.fault import (
    ACTIVE_FAULTS,
    Abort,
    Delay,
    Faults,
    FaultSpec,
    Injection,
    Throttle,
    choose,
)

IDS = [b"request %d" % number for number in range(5000)]
LATE = Delay(2.0, percent=100.0)
BROKEN = Abort(status=503, percent=100.0)


@pytest.mark.parametrize("percent", [0.0, 0.1, 10.0, 50.0, 100.0])
def test_so_many_percent_are_delayed(percent: float) -> None:
    spec, share = FaultSpec("slow", Delay(2.0, percent)), percent / 100
    found = sum(choose(spec, each) is not None for each in IDS) / len(IDS)
    assert abs(found - share) <= 5 * (share * (1 - share) / len(IDS)) ** 0.5


@pytest.mark.parametrize(
    ("delay", "abort", "expected"),
    [
        pytest.param(None, None, None, id="nothing asked for"),
        pytest.param(Delay(2.0), None, None, id="a delay without a percentage"),
        pytest.param(None, Abort(503), None, id="an abort without a percentage"),
        pytest.param(LATE, None, Injection(2.0), id="a delay"),
        pytest.param(None, BROKEN, Injection(abort=BROKEN), id="an abort"),
        pytest.param(LATE, BROKEN, Injection(2.0, BROKEN), id="both happen"),
        pytest.param(Delay(2.0), BROKEN, Injection(abort=BROKEN), id="only the one with a percentage"),
        pytest.param(LATE, Abort(503), Injection(2.0), id="only the other"),
        pytest.param(None, Abort(grpc_status=14, percent=100.0), Injection(abort=Abort(grpc_status=14, percent=100.0)), id="a gRPC status"),
    ],
)  # fmt: skip
def test_delay_and_abort_are_each_for_themselves(
    delay: Delay | None, abort: Abort | None, expected: Injection | None
) -> None:
    assert choose(FaultSpec("faults", delay, abort), b"a request") == expected


def test_without_a_percentage_nobody_at_all_is_affected() -> None:
    spec = FaultSpec("none", Delay(2.0), Abort(503))
    assert not any(choose(spec, each) for each in IDS)


def test_delay_and_abort_do_not_meet_the_same_requests() -> None:
    spec = FaultSpec("both", Delay(1.0, 50.0), Abort(503, percent=50.0))
    found = [choose(spec, each) for each in IDS]
    both = sum(each is not None and each.delay > 0 and each.abort is not None for each in found)
    assert abs(both / len(IDS) - 0.25) < 5 * (0.25 * 0.75 / len(IDS)) ** 0.5


def test_the_same_request_meets_the_same_fault_and_another_policys_not() -> None:
    one, two = FaultSpec("one", Delay(1.0, 50.0)), FaultSpec("two", Delay(1.0, 50.0))
    found = [choose(one, each) for each in IDS]
    assert found == [choose(one, each) for each in IDS]
    alike = sum(a == choose(two, each) for a, each in zip(found, IDS, strict=True)) / len(IDS)
    assert abs(alike - 0.5) < 5 * (0.25 / len(IDS)) ** 0.5


def test_beyond_the_most_at_once_requests_go_unharmed_and_are_counted() -> None:
    faults = Faults(FaultSpec("slow", LATE, max_active=2))
    assert [faults.begin(each) is not None for each in IDS[:4]] == [True, True, False, False]
    faults.ended()
    assert faults.begin(IDS[0]) == Injection(2.0)
    assert (faults.active, faults.overflowed) == (2, 2)
    assert FaultSpec("any").max_active == ACTIVE_FAULTS


def test_what_is_not_affected_takes_no_place() -> None:
    faults = Faults(FaultSpec("none", Delay(1.0), max_active=0))
    assert faults.begin(b"a request") is None
    assert (faults.active, faults.overflowed) == (0, 0)
    with pytest.raises(AssertionError):
        faults.ended()


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(FaultSpec("f", reset=100.0), Injection(reset=True), id="a reset"),
        pytest.param(FaultSpec("f", throttle=Throttle(9, 100.0)), Injection(bytes_per_second=9), id="slow"),
        pytest.param(FaultSpec("f", throttle=Throttle(9)), None, id="slow without a percentage"),
        pytest.param(FaultSpec("f", LATE, reset=100.0), Injection(2.0, reset=True), id="late and reset"),
    ],
)  # fmt: skip
def test_resets_and_slow_answers_are_chosen_alike(
    spec: FaultSpec, expected: Injection | None
) -> None:
    assert choose(spec, b"a request") == expected


def test_an_answer_that_never_comes_is_no_slow_one() -> None:
    with pytest.raises(AssertionError):
        Throttle(0, 100.0)
