"""The form of `ResiliencePolicy`: what Istio has no word for."""

from typing import Annotated

import msgspec

from tproxy.policy.schema.traffic_policy import Count, Percent, Times
from tproxy.policy.schema.words import Form, Metadata


class FailureRate(Form, frozen=True):
    """So many percent of the requests to an endpoint, once there were enough to tell."""

    percent: Annotated[float, msgspec.Meta(gt=0, le=100)] = 50.0
    min_requests: Count = 20
    """In the window, before anything is concluded."""
    window: str = "10s"
    """A duration."""


class Penalty(Form, frozen=True):
    """How long an endpoint gets nothing; it doubles after each probe that fails."""

    min: str = "1s"
    """At first: a duration."""
    max: str = "60s"
    """At most."""
    jitter: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    """Up to this share of it is added, by lot."""


class CircuitBreaker(Form, frozen=True):
    """When an endpoint gets nothing any more, until one request to it has succeeded.

    Failures are statuses from 500 on, and connections that fail.
    """

    consecutive_failures: Count | None = None
    """In a row; 7 when `failureRate` is left out too."""
    failure_rate: FailureRate | None = None
    """Instead of that."""
    penalty: Penalty = Penalty()


class MinRetryRate(Form, frozen=True):
    """Retries that are always allowed."""

    count: Times = 10
    interval: str = "1s"
    """A duration."""


class BoundedRetries(Form, frozen=True):
    """How many retries there may be beside the requests, as in GEP-3388."""

    percent: Percent = 20.0
    """Of the requests in the interval."""
    interval: str = "10s"
    """A duration."""
    min_retry_rate: MinRetryRate = MinRetryRate()


class ResiliencePolicySpec(Form, frozen=True):
    """How requests to one destination, or several, survive its failures."""

    host: str
    """A name, `*.suffix` or `*`; one without a dot is a service of the policy's own namespace."""
    breaker: CircuitBreaker | None = None
    """Without it, none."""
    retry_budget: BoundedRetries | None = None
    """It wins over that of a DestinationRule."""


class ResiliencePolicy(Form, frozen=True, tag_field="kind", tag="ResiliencePolicy"):
    """`tproxy.io/v1alpha1`: circuit breakers and retry budgets, by what Istio has no word for."""

    api_version: str
    spec: ResiliencePolicySpec
    metadata: Metadata
