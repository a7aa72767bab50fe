"""One request and its response, and the shape of everything that answers one."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from tproxy.model.decision import ALLOWED, Decision
from tproxy.model.flow import Flow
from tproxy.model.http import Request, Response
from tproxy.model.route import Route


@dataclass(frozen=True, slots=True)
class Exchange:
    """The facts that a request's handlers share."""

    flow: Flow
    route: Route
    decision: Decision = ALLOWED
    """What the policies said as it began."""
    path: bytes | None = None
    """The path that they read, and that is sent on, where it is not the one that was received."""
    generation: int = 0
    """Of those policies."""


Scope = AbstractAsyncContextManager
"""A value that lives as long as the `async with` block that holds it."""

Handler = Callable[[Exchange, Request], Scope[Response]]
"""Answer a request. The response lives as long as the scope is open."""
