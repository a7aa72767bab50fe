"""Name each exchange and tell the journal about it, whatever becomes of it."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import trio

from tproxy.filters.grpc_messages import MessageCounts
from tproxy.model.exchange import Exchange, Handler
from tproxy.model.http import Request, Response
from tproxy.model.outcome import ProxyError, downstream_gone
from tproxy.stores.journal import Journal, Told
from tproxy.telemetry.trace import traced

NEW_ID = partial(random.SystemRandom().getrandbits, 128)


class AccessLog:
    """Watches an exchange from its request's head to its response's last byte (holding)."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @asynccontextmanager
    async def __call__(
        self, exchange: Exchange, request: Request, forward: Handler
    ) -> AsyncIterator[Response]:
        """Give the request an id and a trace, and record the exchange when its scope ends."""
        headers, trace = traced(request.head.headers, NEW_ID)
        request = replace(request, head=replace(request.head, headers=headers))
        messages = MessageCounts() if request.head.is_grpc else None
        if messages is not None:
            request = messages.asked(request)
        began = trio.current_time()
        answered: float | None = None
        response: Response | None = None
        failure: ProxyError | None = None
        try:
            async with forward(exchange, request) as response:
                answered = trio.current_time()
                yield response if messages is None else messages.answered(response)
        except ProxyError as error:
            failure = error
            raise
        except BaseException:  # cancelled: nobody is left to answer
            failure = request.body.failure or downstream_gone()
            raise
        finally:
            seconds = trio.current_time() - began
            upstream_seconds = None if answered is None else answered - began
            self._journal.exchange(
                Told(
                    exchange,
                    request,
                    response,
                    failure,
                    trace,
                    seconds,
                    upstream_seconds,
                    messages=None if messages is None else messages.so_far,
                )
            )
