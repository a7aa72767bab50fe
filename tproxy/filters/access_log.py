"""Name each exchange and tell the journal about it, whatever becomes of it."""

import random
from functools import partial

import trio
from msgspec.structs import replace

from tproxy.filters.grpc_messages import MessageCounts
from tproxy.model.exchange import Exchange, Handler
from tproxy.model.http import Request, Response
from tproxy.model.outcome import ProxyError
from tproxy.stores.journal import Journal, Told
from tproxy.telemetry.trace import Trace, traced

NEW_ID = partial(random.SystemRandom().getrandbits, 128)


class AccessLog:
    """Watches an exchange from its request's head to its response's last byte (holding)."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def __call__(self, forward: Handler, exchange: Exchange, request: Request) -> Response:
        """Give the request an id and a trace, and record the exchange when its life is over."""
        head = request.head
        headers, trace = traced(head.headers, NEW_ID)
        if headers is not head.headers:
            request = replace(request, head=replace(head, headers=headers))
        messages = MessageCounts() if head.is_grpc else None
        if messages is not None:
            request = messages.asked(request)
        watch = _Watch(self._journal, exchange, request, trace, messages)
        request.life.when_over(watch.over)
        watch.response = response = await forward(exchange, request)
        return response if messages is None else messages.answered(response)


class _Watch:
    """One exchange being watched. What changes: whether it has its response."""

    __slots__ = ("_began", "_exchange", "_journal", "_messages", "_request", "_trace", "response")

    def __init__(
        self,
        journal: Journal,
        exchange: Exchange,
        request: Request,
        trace: Trace,
        messages: MessageCounts | None,
    ) -> None:
        self._journal = journal
        self._exchange = exchange
        self._request = request
        self._trace = trace
        self._messages = messages
        self._began = trio.current_time()
        self.response: Response | None = None

    def over(self, failure: ProxyError | None) -> None:
        """Tell the journal."""
        self._journal.exchange(
            Told(
                self._exchange,
                self._request,
                self.response,
                failure,
                self._trace,
                trio.current_time() - self._began,
                None if self._messages is None else self._messages.so_far,
            )
        )
