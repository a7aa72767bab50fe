"""One request and its response, and the shape of everything that answers one."""

from collections.abc import Awaitable, Callable

import msgspec

from tproxy.model.address import Address
from tproxy.model.cluster import Endpoint
from tproxy.model.decision import ALLOWED, Decision
from tproxy.model.flow import Flow
from tproxy.model.http import Request, Response
from tproxy.model.rate_limit import Applied
from tproxy.model.route import Route


class Exchange(msgspec.Struct, frozen=True):
    """The facts that a request's handlers share."""

    flow: Flow
    route: Route
    decision: Decision = ALLOWED
    """What the policies said as it began."""
    path: bytes | None = None
    """The path that they read, and that is sent on, where it is not the one that was received."""
    generation: int = 0
    """Of those policies."""
    limits: tuple[Applied, ...] = ()
    """The rate limits that are about it, and what came of them."""
    attempt: int = 1
    """2 for the first retry."""
    tried: tuple[Address, ...] = ()
    """The endpoints that earlier attempts met."""
    endpoint: Endpoint | None = None
    """Who was chosen; None: where the connection was going."""


Handler = Callable[[Exchange, Request], Awaitable[Response]]
"""Answer a request. The response can be read until the request's life is over."""
