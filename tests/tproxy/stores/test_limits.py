"""All limits are asked as one: what one of them refuses has used nothing up of the others."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from fakes.policies import rate_limit, snapshot
from tproxy.model.rate_limit import Applied, Counting, LimitSpec, RateLimit, Result
from tproxy.policy.snapshot import Snapshot
from tproxy.resilience.bucket import LeakyBucketSpec, TokenBucketSpec
from tproxy.resilience.concurrency import ConcurrencySpec
from tproxy.resilience.windows import FixedWindowSpec
from tproxy.stores.limits import OwnLedger, ask, described
from tproxy.stores.policy_store import PolicyStore

specs = st.one_of(
    st.integers(1, 5).map(lambda most: FixedWindowSpec(most, 3600.0)),
    st.integers(1, 5).map(lambda most: TokenBucketSpec(1, 3600.0, most)),
    st.integers(0, 4).map(lambda queue: LeakyBucketSpec(0.001, queue)),
    st.integers(1, 5).map(ConcurrencySpec),
)


def room(spec: LimitSpec) -> int:
    """How many a machine lets through before time passes."""
    match spec:
        case FixedWindowSpec():
            return spec.requests
        case TokenBucketSpec():
            return spec.max_tokens
        case LeakyBucketSpec():
            return spec.queue + 1
        case ConcurrencySpec():
            return spec.limit
    raise AssertionError(spec)


@given(
    st.lists(st.tuples(specs, st.booleans()), min_size=1, max_size=4),
    st.lists(st.integers(1, 15), max_size=15),
)
def test_as_many_are_let_through_as_all_that_match_have_room_for(
    limits: list[tuple[LimitSpec, bool]], asked: list[int]
) -> None:
    ledger = OwnLedger(PolicyStore(Snapshot(1)))
    counted = [
        RateLimit(counting=Counting(name=str(number), spec=spec), shadow=shadow)
        for number, (spec, shadow) in enumerate(limits)
    ]
    left = [room(spec) for spec, _ in limits]

    async def run() -> None:
        for mask in asked:
            chosen = [number for number in range(len(limits)) if mask & (1 << number)]
            applied = [Applied(counted[number], ()) for number in chosen]
            refusing = [each for each in chosen if not left[each] and not limits[each][1]]
            assert ask(ledger, applied).allowed is not bool(refusing)
            for each, number in zip(applied, chosen, strict=True):
                if refusing:
                    assert each.result is (Result.LIMITED if number in refusing else None)
                else:
                    assert each.result is (Result.OK if left[number] else Result.SHADOW)
                    left[number] -= bool(left[number])

    trio.run(run, clock=MockClock())


async def test_a_leaky_bucket_that_is_tried_makes_nobody_wait() -> None:
    ledger = OwnLedger(PolicyStore(Snapshot(1)))
    spec = LeakyBucketSpec(0.001, 5)
    tried = RateLimit(counting=Counting(name="a", spec=spec), shadow=True)
    enforced = RateLimit(counting=Counting(name="b", spec=spec))
    assert [ask(ledger, [Applied(tried, ())]).delay for _ in range(3)] == [0.0] * 3
    delays = [ask(ledger, [Applied(enforced, ()), Applied(tried, ())]).delay for _ in range(2)]
    assert delays == [0.0, pytest.approx(1000.0, abs=1)]


BOTH = rate_limit(
    "{name: a, key: source.ip, algorithm: FIXED_WINDOW, requests: 3, window: 90s},"
    " {name: b, per: CONNECTION, algorithm: BANDWIDTH, bytesPerSecond: 1KiB}",
    more="mode: ENFORCE, ",
)


async def test_the_limits_in_force_are_shown_with_how_many_keys_each_remembers() -> None:
    policies = PolicyStore(snapshot(BOTH))
    ledger = OwnLedger(policies)
    book = policies.current.rate_limits
    assert book is not None
    (_, _, first), (_, _, _) = book.every()
    assert isinstance(first.limit, RateLimit)
    for key in "xyx":
        ask(ledger, [Applied(first.limit, (key,))])
    a, b = described(policies, ledger)
    assert (a["name"], a["place"], a["algorithm"]) == ("web/p/a", "policies.yaml:4", "FixedWindow")
    assert (a["mode"], a["keys"], a["keys_remembered"]) == ("ENFORCE", 10_000, 2)
    assert a["spec"] == FixedWindowSpec(3, 90.0)
    assert (b["algorithm"], b["per"], "keys" in b) == ("Bandwidth", "CONNECTION", False)
    assert described(PolicyStore(Snapshot(1)), ledger) == []


async def test_counts_that_no_policy_asks_for_are_dropped_unless_something_is_under_way() -> None:
    policies = PolicyStore(Snapshot(1))
    ledger = OwnLedger(policies)
    old = Applied(RateLimit(counting=Counting(name="old", spec=FixedWindowSpec(1, 1.0))), ())
    held = Applied(RateLimit(counting=Counting(name="held", spec=ConcurrencySpec(2))), ())
    verdict = ask(ledger, [old, held])
    assert ledger.keys() == {"old": 1, "held": 1}
    policies.swap(Snapshot(2))
    ask(ledger, [])
    assert ledger.keys() == {"held": 1}
    verdict.release()
    policies.swap(Snapshot(3))
    ask(ledger, [])
    assert ledger.keys() == {}
