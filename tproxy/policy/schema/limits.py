"""The form of `RateLimitPolicy`: how much of what is let through."""

from enum import StrEnum
from typing import Annotated

import msgspec

from tproxy.model.rate_limit import Advertise
from tproxy.policy.schema.proxy_config import PortDirection
from tproxy.policy.schema.words import Form, Metadata, Name, Port, Selector, Texts, Values
from tproxy.resilience.keyed import Overflow


class LimitMode(StrEnum):
    """What becomes of what is over a limit."""

    ENFORCE = "ENFORCE"
    """It is refused."""
    SHADOW = "SHADOW"
    """It goes on, counted and marked in the log."""


class LimitPer(StrEnum):
    """What is counted."""

    REQUEST = "REQUEST"
    """HTTP requests."""
    CONNECTION = "CONNECTION"
    """Connections, whatever they carry."""


class Algorithm(StrEnum):
    """How it is counted."""

    TOKEN_BUCKET = "TOKEN_BUCKET"  # noqa: S105
    """Each takes a token; `tokensPerFill` come at each `fillInterval`, and up to `maxTokens` are kept."""
    LEAKY_BUCKET = "LEAKY_BUCKET"
    """Each has to wait for its turn, `ratePerSecond` of them come evenly, and up to `queue` wait."""
    FIXED_WINDOW = "FIXED_WINDOW"
    """`requests` in each `window`, which opens with the first."""
    SLIDING_WINDOW = "SLIDING_WINDOW"
    """`requests` in any `window`, by an estimate from two counters."""
    CONCURRENCY = "CONCURRENCY"
    """`requests` at once."""
    BANDWIDTH = "BANDWIDTH"
    """`bytesPerSecond` in each direction of each connection that is carried as bytes, and up to `burst` at once."""


class LimitMatch(Form, frozen=True):
    """What a limit is about. Several fields are all meant."""

    methods: Values | None = None
    """In upper case; gRPC is POST."""
    paths: Values | None = None
    """Normalised and without their query; `{*}` is one segment, `{**}` any number at the end."""
    hosts: Values | None = None
    """Without regard to case, and to the port unless one is given."""
    headers: dict[str, Values] = {}
    """By name; each must have one of its values."""
    ports: Annotated[tuple[Port, ...], msgspec.Meta(min_length=1)] | None = None
    """Where the connection was going: of the workload for INBOUND, of the destination for OUTBOUND."""


class RateLimit(Form, frozen=True):
    """One limit. Each algorithm takes the fields that it names, and no others."""

    name: Name
    """In metrics, in the log and in `RateLimit` fields."""
    algorithm: Algorithm
    match: LimitMatch | None = None
    """Without it, everything of the direction."""
    per: LimitPer = LimitPer.REQUEST
    key: str | Texts = "all"
    """Whoever has the same key shares a count: `all`, `source.principal`, `source.ip`, `request.method`, `request.path`,
    `request.path[/users/{*}]` (what stands in place of the operators), `request.headers[NAME]`, or a list of them.
    Those that have no such value share one count."""
    tokens_per_fill: int | None = None
    fill_interval: str | None = None
    """A duration: `1s`."""
    max_tokens: int | None = None
    rate_per_second: int | float | None = None
    queue: int | None = None
    """How many may wait: each holds a connection and what it has sent."""
    max_delay: str | None = None
    """The longest wait, a duration; without it, as long as the queue is."""
    requests: int | None = None
    """Connections where they are counted."""
    window: str | None = None
    """A duration: `1m`."""
    bytes_per_second: int | str | None = None
    """A size: `512KiB`."""
    burst: int | str | None = None
    """A size; without it, what comes in a second."""
    keys: int | None = None
    """How many keys are remembered, 10,000 unless it is said and at most 16,384."""
    overflow: Overflow | None = None
    """What becomes of a stranger when all that are remembered are limited; `SHARE` unless it is said."""


class RateLimitPolicySpec(Form, frozen=True):
    """How much of what comes in, or goes out, is let through."""

    direction: PortDirection
    limits: Annotated[tuple[RateLimit, ...], msgspec.Meta(min_length=1)]
    """All that match are asked, and one refusal is enough."""
    selector: Selector | None = None
    """Without one, all workloads of the namespace; of the root namespace, all of the mesh."""
    mode: LimitMode = LimitMode.ENFORCE
    advertise: Advertise = Advertise.REFUSED
    """Which responses tell of the limits in `RateLimit-Policy` and `RateLimit` fields."""


class RateLimitPolicy(Form, frozen=True, tag_field="kind", tag="RateLimitPolicy"):
    """Limits of rates, of what is under way at once, and of bandwidth."""

    api_version: str
    spec: RateLimitPolicySpec
    metadata: Metadata
