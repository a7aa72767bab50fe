"""Limit a rate by buckets: tokens that allow bursts, or a leak that puts what comes in a row."""

from dataclasses import dataclass

from tproxy.resilience.grant import Grant, State


@dataclass(frozen=True, slots=True)
class TokenBucketSpec:
    """So many tokens at every fill, kept up to so many; each one let through takes one."""

    tokens_per_fill: int
    fill_interval: float
    max_tokens: int

    def __post_init__(self) -> None:
        assert min(self.tokens_per_fill, self.fill_interval, self.max_tokens) > 0, "a bucket fills"

    def machine(self, now: float) -> "TokenBucket":
        """Make a full bucket; its fills are counted from now."""
        return TokenBucket(self, now)

    def restored(self, state: State) -> "TokenBucket":
        """Make one that goes on from what another has remembered."""
        made, fills, tokens = state
        return TokenBucket(self, made, int(fills), int(tokens))


class TokenBucket:
    """Lets bursts through up to the bucket's size. What changes: the tokens, and how many fills there were.

    Tokens come all at once at each fill, as Envoy documents its local rate limit, so that a fill of 1 in a minute is one
    request in a minute.
    """

    __slots__ = ("_fills", "_made", "_spec", "_tokens")

    def __init__(
        self, spec: TokenBucketSpec, made: float, fills: int = 0, tokens: int | None = None
    ) -> None:
        self._spec = spec
        self._made = made
        self._fills = fills
        self._tokens = spec.max_tokens if tokens is None else tokens

    def saved(self) -> State:
        """Give what it remembers."""
        return self._made, self._fills, self._tokens

    def take(self, now: float) -> Grant:
        """Take a token, if there is one."""
        self._fill(now)
        allowed = self._tokens > 0
        self._tokens -= allowed
        return self._grant(now, allowed=allowed)

    def look(self, now: float) -> Grant:
        """Say whether there is a token."""
        self._fill(now)
        return self._grant(now, allowed=self._tokens > 0)

    def _fill(self, now: float) -> None:
        # Counted from one moment, so that no error adds up.
        fills = int((now - self._made) / self._spec.fill_interval)
        if fills > self._fills:
            gained = (fills - self._fills) * self._spec.tokens_per_fill
            self._tokens = min(self._spec.max_tokens, self._tokens + gained)
            self._fills = fills

    def _grant(self, now: float, *, allowed: bool) -> Grant:
        if self._tokens:
            return Grant(allowed, self._tokens, 0.0)
        next_fill = self._made + (self._fills + 1) * self._spec.fill_interval
        return Grant(allowed, 0, max(next_fill - now, 0.0))


@dataclass(frozen=True, slots=True)
class LeakyBucketSpec:
    """Lets one through at a time, evenly; so many may wait for their turn."""

    rate: float
    """So many in a second."""
    queue: int
    """How many may wait: each holds a connection and what it has sent."""

    def __post_init__(self) -> None:
        assert self.rate > 0, "a bucket leaks"
        assert self.queue >= 0, "a queue has room for some, or for none"

    def machine(self, now: float) -> "LeakyBucket":
        """Make an empty queue."""
        return LeakyBucket(self, now)

    def restored(self, state: State) -> "LeakyBucket":
        """Make one that goes on from what another has remembered."""
        return LeakyBucket(self, state[0], int(state[1]))


class LeakyBucket:
    """Gives everyone a turn, no two closer than the rate says. What changes: when the row began, and how many turns were given.

    Whoever goes before its turn leaves its turn unused, so the rate out is never above the one asked for.
    """

    __slots__ = ("_began", "_given", "_spec")

    def __init__(self, spec: LeakyBucketSpec, began: float, given: int = 0) -> None:
        self._spec = spec
        self._began = began
        self._given = given

    def saved(self) -> State:
        """Give what it remembers."""
        return self._began, self._given, 0.0

    def take(self, now: float) -> Grant:
        """Take the next turn; the grant's `delay` is how long to wait for it."""
        waiting = self._waiting(now)
        if waiting >= self._spec.queue:
            return self._grant(now, waiting, allowed=False)
        if waiting < 0:
            self._began, self._given = now, 0
        turn = self._began + self._given / self._spec.rate
        self._given += 1
        return self._grant(now, waiting + 1, delay=max(turn - now, 0.0))

    def look(self, now: float) -> Grant:
        """Say whether there is room to wait; `delay` is that of the next turn."""
        waiting = self._waiting(now)
        turn = self._began + self._given / self._spec.rate
        allowed = waiting < self._spec.queue
        return self._grant(now, waiting, allowed=allowed, delay=max(turn - now, 0.0) * allowed)

    def _waiting(self, now: float) -> int:
        """Count those whose turn is to come; -1 when one would not have to wait at all."""
        if now >= self._began + self._given / self._spec.rate:
            return -1
        return self._given - 1 - int((now - self._began) * self._spec.rate)

    def _grant(
        self, now: float, waiting: int, *, allowed: bool = True, delay: float = 0.0
    ) -> Grant:
        remaining = self._spec.queue - waiting
        if remaining > 0:
            return Grant(allowed, remaining, 0.0, delay)
        turns = int((now - self._began) * self._spec.rate) + 1
        after = self._began + turns / self._spec.rate - now
        return Grant(allowed, 0, max(after, 0.0), delay)
