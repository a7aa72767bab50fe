"""The form of `FaultPolicy`: what is made late or fails on purpose."""

from enum import IntEnum
from typing import Annotated

import msgspec

from tproxy.policy.schema.proxy_config import PortDirection
from tproxy.policy.schema.words import Form, Metadata, Selector, Values

Percentage = Annotated[float, msgspec.Meta(ge=0, le=100)]
"""0 to 100 of the requests; `0.1` is one of a thousand."""


class GrpcStatus(IntEnum):
    """gRPC's statuses, by name."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class FaultMatch(Form, frozen=True):
    """What a rule is about. Several fields are all meant."""

    methods: Values | None = None
    """In upper case; gRPC is POST."""
    paths: Values | None = None
    """Normalised and without their query; `{*}` is one segment, `{**}` any number at the end."""
    hosts: Values | None = None
    """Without regard to case, and to the port unless one is given."""
    headers: dict[str, Values] = {}
    """By name; each must have one of its values."""


class DelayFault(Form, frozen=True):
    """Requests that are held back before anybody is asked."""

    percentage: Percentage
    fixed_delay: str
    """A duration: `500ms`."""


class AbortFault(Form, frozen=True):
    """Requests that are answered in place of the upstream, in one of the two ways."""

    percentage: Percentage
    http_status: Annotated[int, msgspec.Meta(ge=200, le=599)] | None = None
    grpc_status: str | None = None
    """By name: `UNAVAILABLE`."""


class ResetFault(Form, frozen=True):
    """Requests without an answer: their connection, or their stream of HTTP/2, is reset."""

    percentage: Percentage


class ThrottleFault(Form, frozen=True):
    """Requests whose response is slow."""

    percentage: Percentage
    bytes_per_second: int | str
    """A size: `10KiB`."""


class FaultRule(Form, frozen=True):
    """Faults that are drawn each for itself, by the request's id: a delay comes first, then a reset or an abort."""

    match: FaultMatch | None = None
    """Without it, every request of the direction."""
    delay: DelayFault | None = None
    abort: AbortFault | None = None
    reset: ResetFault | None = None
    throttle: ThrottleFault | None = None


class FaultPolicySpec(Form, frozen=True):
    """Which requests are late or fail."""

    direction: PortDirection
    rules: Annotated[tuple[FaultRule, ...], msgspec.Meta(min_length=1)]
    """The first that matches holds; of several policies, in the order of their names."""
    selector: Selector | None = None
    """Without one, all workloads of the namespace; of the root namespace, all of the mesh."""
    max_active: Annotated[int, msgspec.Meta(ge=1, le=16384)] = 1000
    """How many of a rule's faults may be under way at once in one worker: what is more goes unharmed."""


class FaultPolicy(Form, frozen=True, tag_field="kind", tag="FaultPolicy"):
    """Faults in HTTP, to see what callers do; requests to which a VirtualService has faults suffer those instead."""

    api_version: str
    spec: FaultPolicySpec
    metadata: Metadata
