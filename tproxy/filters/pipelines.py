"""The order of features around the upstream, and why each stands where it does."""

from collections.abc import Mapping

from tproxy.filters.access_log import AccessLog
from tproxy.filters.filter import chained
from tproxy.filters.rescue import rescue
from tproxy.model.exchange import Handler
from tproxy.model.flow import Direction
from tproxy.stores.journal import Journal


def pipelines(journal: Journal, forward: Handler) -> Mapping[Direction, Handler]:
    """Build what every exchange passes, outermost first."""
    features = (
        AccessLog(journal),  # sees everything, the proxy's own replies included
        rescue,  # whatever the features below raise becomes a reply that the log has seen
    )
    handler = chained(features, forward)
    return {Direction.INBOUND: handler, Direction.OUTBOUND: handler}
