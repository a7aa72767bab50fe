"""Have what traffic policies ask for done where they ask for anything, and nothing elsewhere."""

from collections.abc import Awaitable

from tproxy.model.exchange import Exchange, Handler
from tproxy.model.http import Request, Response


def by_plan(
    planned: Handler, forward: Handler, exchange: Exchange, request: Request
) -> Awaitable[Response]:
    """Carry a request by the features of its plan, if it has one (deciding)."""
    handler = forward if exchange.route.plan is None else planned
    return handler(exchange, request)
