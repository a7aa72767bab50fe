"""Watch each exchange and tell the journal about it, whatever becomes of it."""

from collections.abc import Awaitable
from functools import partial

import trio

from tproxy.filters.grpc_messages import MessageCounts
from tproxy.model.exchange import Exchange, Handler
from tproxy.model.http import Request, Response
from tproxy.model.outcome import ProxyError
from tproxy.stores.journal import Journal, Told
from tproxy.telemetry.trace import trace


class AccessLog:
    """Watches an exchange from its request's head to its response's last byte (holding)."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __call__(
        self, forward: Handler, exchange: Exchange, request: Request
    ) -> Awaitable[Response]:
        """Record the exchange when its life is over."""
        messages = MessageCounts() if request.head.is_grpc else None
        if messages is not None:
            request = messages.asked(request)
        told = Told(exchange, request, trace(request.head.headers))
        request.life.when_over(partial(self._over, told, trio.current_time(), messages))
        answer = forward(exchange, request)
        return answer if messages is None else _counted(messages, answer)

    def _over(
        self, told: Told, began: float, messages: MessageCounts | None, failure: ProxyError | None
    ) -> None:
        told.response = told.request.life.response
        told.failure = failure
        told.seconds = trio.current_time() - began
        told.messages = None if messages is None else messages.so_far
        self._journal.exchange(told)


async def _counted(messages: MessageCounts, answer: Awaitable[Response]) -> Response:
    return messages.answered(await answer)
