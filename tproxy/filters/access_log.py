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
        return watch.answered(await forward(exchange, request))


class _Watch:
    """One exchange being watched. What changes: what is known of its response."""

    __slots__ = ("_answered", "_began", "_exchange", "_journal", "_messages", "_request", "_response", "_trace")  # fmt: skip

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
        self._answered: float | None = None
        self._response: Response | None = None

    def answered(self, response: Response) -> Response:
        """Take note of the response, whose content is still to come."""
        self._answered = trio.current_time()
        self._response = response
        return response if self._messages is None else self._messages.answered(response)

    def over(self, failure: ProxyError | None) -> None:
        """Tell the journal."""
        began, answered = self._began, self._answered
        self._journal.exchange(
            Told(
                self._exchange,
                self._request,
                self._response,
                failure,
                self._trace,
                trio.current_time() - began,
                None if answered is None else answered - began,
                None if self._messages is None else self._messages.so_far,
            )
        )
