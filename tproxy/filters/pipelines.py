"""The order of features around the upstream, and why each stands where it does."""

from collections.abc import Mapping

from tproxy.filters.access_log import AccessLog
from tproxy.filters.authorize import Authorize
from tproxy.filters.filter import chained
from tproxy.filters.overload import OverloadFilter
from tproxy.filters.peer_metadata import strip_peer_metadata
from tproxy.filters.rate_limit import RateLimits
from tproxy.filters.rescue import rescue
from tproxy.model.exchange import Handler
from tproxy.model.flow import Direction
from tproxy.model.limits import Limits
from tproxy.stores.journal import Journal
from tproxy.stores.limits import Ledger
from tproxy.stores.policy_store import PolicyStore


def pipelines(
    journal: Journal, forward: Handler, policies: PolicyStore, limits: Limits, ledger: Ledger
) -> Mapping[Direction, Handler]:
    """Build what every exchange passes, outermost first."""
    features = (
        AccessLog(journal),  # sees everything, the proxy's own replies included
        rescue,  # whatever the features below raise becomes a reply that the log has seen
        OverloadFilter(limits.exchanges),  # before anything that costs more than to say no
        Authorize(policies),  # before anything that another could make us do
        RateLimits(
            ledger
        ),  # after it, so that whoever is denied uses nothing up; before all that takes effort
        strip_peer_metadata,  # next to the upstream: what it says to proxies is for none of the above
    )
    handler = chained(features, forward)
    return {Direction.INBOUND: handler, Direction.OUTBOUND: handler}
