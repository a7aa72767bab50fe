"""The one shape that every feature has, and how features stand around a handler."""

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from tproxy.model.exchange import Exchange, Handler, Scope
from tproxy.model.http import Request, Response


class Filter(Protocol):
    """A feature that an exchange passes on its way in, and its response on the way out.

    A *deciding* filter raises or returns `forward(...)`; a *holding* one keeps the scope open around it; a *repeating*
    one may open several, one after the other.
    """

    def __call__(
        self, exchange: Exchange, request: Request, forward: Handler
    ) -> Scope[Response]: ...


def chained(filters: Sequence[Filter], handler: Handler) -> Handler:
    """Put `filters`, outermost first, around `handler`."""
    for each in reversed(filters):
        handler = partial(_through, each, handler)
    return handler


def _through(
    each: Filter, forward: Handler, exchange: Exchange, request: Request
) -> Scope[Response]:
    return each(exchange, request, forward)
