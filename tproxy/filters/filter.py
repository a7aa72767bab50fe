"""The one shape that every feature has, and how features stand around a handler."""

from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Protocol

from tproxy.model.exchange import Exchange, Handler
from tproxy.model.http import Request, Response


class Filter(Protocol):
    """A feature that an exchange passes on its way in, and its response's head on the way out.

    A *deciding* filter raises or awaits `forward(...)`; a *holding* one asks the request's life to be told of its end;
    a *repeating* one may forward several times, one after the other.
    """

    def __call__(
        self, forward: Handler, exchange: Exchange, request: Request
    ) -> Awaitable[Response]: ...


def chained(filters: Sequence[Filter], handler: Handler) -> Handler:
    """Put `filters`, outermost first, around `handler`."""
    for each in reversed(filters):
        handler = partial(each, handler)
    return handler
