"""Name each exchange and tell the journal about it, whatever becomes of it."""

import os

import trio
from msgspec.structs import replace

from tproxy.filters.grpc_messages import MessageCounts
from tproxy.model.exchange import Exchange, Handler
from tproxy.model.http import Request, Response
from tproxy.model.outcome import ProxyError
from tproxy.stores.journal import Journal, Told
from tproxy.telemetry.trace import Trace, traced

ID_BYTES = 16
RANDOM_BYTES = 4096
"""What is asked of the kernel at once: a system call for each request would be a fifth of all."""


class RandomIds:
    """Gives 128 random bits at a time. What changes: which of the kernel's are left."""

    __slots__ = ("_at", "_octets")

    def __init__(self) -> None:
        self._octets = b""
        self._at = 0

    def next(self) -> int:
        """Return bits that were not given before."""
        at = self._at
        if at == len(self._octets):
            self._octets, at = os.urandom(RANDOM_BYTES), 0
        self._at = at + ID_BYTES
        return int.from_bytes(self._octets[at : self._at])


class AccessLog:
    """Watches an exchange from its request's head to its response's last byte (holding)."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._new_id = RandomIds().next

    async def __call__(self, forward: Handler, exchange: Exchange, request: Request) -> Response:
        """Give the request an id and a trace, and record the exchange when its life is over."""
        head = request.head
        headers, trace = traced(head.headers, self._new_id)
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
