"""Limits of what is let through, as policies describe them, and what came of one when it was asked."""

import math
from enum import StrEnum

import msgspec

from tproxy.resilience.bandwidth import BandwidthSpec
from tproxy.resilience.bucket import LeakyBucketSpec, TokenBucketSpec
from tproxy.resilience.concurrency import ConcurrencySpec
from tproxy.resilience.grant import Grant
from tproxy.resilience.keyed import KEYS, Overflow
from tproxy.resilience.windows import FixedWindowSpec, SlidingWindowSpec

LimitSpec = (
    TokenBucketSpec | LeakyBucketSpec | FixedWindowSpec | SlidingWindowSpec | ConcurrencySpec
)
"""How is counted."""

Key = tuple[str | None, ...]
"""Whose count it is; None for a value that is absent."""


class Advertise(StrEnum):
    """Which responses tell of limits."""

    REFUSED = "REFUSED"
    """Those that refuse."""
    ALWAYS = "ALWAYS"
    """Those of the upstream, too."""
    NEVER = "NEVER"
    """None."""


class Counting(msgspec.Struct, frozen=True, cache_hash=True, kw_only=True):
    """What a limit counts and how: counts go on over a reload that leaves this alone."""

    name: str
    """`foo/httpbin/per-client`."""
    spec: LimitSpec
    key: tuple[str, ...] = ()
    """What tells callers apart, as it is written; nothing where all of them share one count."""
    keys: int = KEYS
    overflow: Overflow = Overflow.SHARE


class RateLimit(msgspec.Struct, frozen=True, cache_hash=True, kw_only=True):
    """One limit."""

    counting: Counting
    shadow: bool = False
    """Whether it is only tried."""
    max_delay: float = math.inf
    """The longest that one may wait for its turn."""
    advertise: Advertise = Advertise.REFUSED

    @property
    def name(self) -> str:
        """`foo/httpbin/per-client`."""
        return self.counting.name

    @property
    def short_name(self) -> str:
        """`per-client`, as clients may read it."""
        return self.counting.name.rpartition("/")[2]

    def judged(self, grant: Grant) -> Grant:
        """Refuse what would have to wait for too long."""
        if not grant.allowed or grant.delay <= self.max_delay:
            return grant
        return Grant(allowed=False, remaining=0, after=grant.delay - self.max_delay)


class Bandwidth(msgspec.Struct, frozen=True, kw_only=True):
    """How many bytes a connection may carry."""

    name: str
    spec: BandwidthSpec


class Result(StrEnum):
    """What a limit said; the `result` label of `tproxy_ratelimit_total`."""

    OK = "ok"
    LIMITED = "limited"
    SHADOW = "shadow"
    """It would have refused, were it enforced."""

    __hash__ = str.__hash__


class Applied(msgspec.Struct):
    """A limit that is about a request, and the request's key. What changes: what the limit says, once it is asked."""

    limit: RateLimit
    key: Key
    result: Result | None = None
    """None while it was not asked, or where another one's refusal left nothing to count."""
    grant: Grant | None = None
