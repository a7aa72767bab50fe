"""The order of features around the upstream, and why each stands where it does."""

from collections.abc import Mapping, Sequence
from functools import partial

from tproxy.filters.access_log import AccessLog
from tproxy.filters.answer import answer
from tproxy.filters.authorize import Authorize
from tproxy.filters.by_plan import by_plan
from tproxy.filters.deadline import deadline
from tproxy.filters.edits import edit
from tproxy.filters.fault import Fault
from tproxy.filters.filter import Filter, chained
from tproxy.filters.mirror import Mirroring
from tproxy.filters.overload import OverloadFilter
from tproxy.filters.rate_limit import RateLimits
from tproxy.filters.rescue import rescue
from tproxy.filters.retry import Retry
from tproxy.filters.steering import steer
from tproxy.model.exchange import Handler
from tproxy.model.flow import Direction
from tproxy.model.limits import Limits
from tproxy.resilience.fraction import Random
from tproxy.stores.clusters import Clusters
from tproxy.stores.journal import Journal
from tproxy.stores.limits import Ledger
from tproxy.stores.policy_store import PolicyStore
from tproxy.telemetry.features import FeatureMetrics


def by_traffic_policies(
    mirroring: Mirroring,
    clusters: Clusters,
    *,
    limits: Limits,
    counts: FeatureMetrics,
    random: Random,
) -> tuple[Filter, ...]:
    """Build what an exchange passes whose route has a plan, outermost first."""
    return (
        steer,  # before whatever the application may ask about
        Fault(counts.fault),  # before anything that would hide it
        answer,  # before all that is for an upstream
        edit,  # once, whoever is asked and how often
        mirroring,  # once, too, and what is sent on
        deadline,  # around all attempts and the pauses between them
        Retry(clusters, limits.replay_bytes, random, count=counts.retry),
    )


def towards_upstream(forward: Handler, planned: Sequence[Filter] = ()) -> Handler:
    """Put what traffic policies may ask for around the upstream: one question where they ask for nothing."""
    return partial(by_plan, chained(planned, forward), forward)


def pipelines(
    journal: Journal, forward: Handler, policies: PolicyStore, limits: Limits, ledger: Ledger
) -> Mapping[Direction, Handler]:
    """Build what every exchange passes, outermost first."""
    features: tuple[Filter, ...] = (
        AccessLog(journal),  # sees everything, the proxy's own replies included
        rescue,  # whatever the features below raise becomes a reply that the log has seen
        OverloadFilter(limits.exchanges),  # before anything that costs more than to say no
        Authorize(policies),  # before anything that another could make us do
        # After it, so that whoever is denied uses nothing up; before all that takes effort.
        RateLimits(ledger),
    )
    handler = chained(features, forward)
    return {Direction.INBOUND: handler, Direction.OUTBOUND: handler}
