"""Whoever would wait for longer than a limit says is refused, and told when the wait would be short enough."""

import pytest

from tproxy.model.rate_limit import Counting, RateLimit
from tproxy.resilience.bucket import LeakyBucketSpec
from tproxy.resilience.grant import Grant

REFUSED = Grant(allowed=False, remaining=0, after=2.0)
CASES = [
    pytest.param(Grant(True, 3, 0.0, 1.5), Grant(True, 3, 0.0, 1.5), id="soon enough"),
    pytest.param(Grant(True, 3, 0.0, 4.0), Grant(False, 0, 2.5), id="too late"),
    pytest.param(REFUSED, REFUSED, id="refused anyhow"),
]


@pytest.mark.parametrize(("grant", "judged"), CASES)
def test_nobody_waits_for_longer_than_the_limit_says(grant: Grant, judged: Grant) -> None:
    counting = Counting(name="foo/bar/baz", spec=LeakyBucketSpec(1.0, 9))
    assert RateLimit(counting=counting, max_delay=1.5).judged(grant) == judged
