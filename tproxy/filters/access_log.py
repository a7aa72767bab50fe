"""Name each exchange and tell the journal about it, whatever becomes of it."""

import os
from functools import partial

import trio
from msgspec.structs import replace

from tproxy.filters.grpc_messages import MessageCounts
from tproxy.model.exchange import Exchange, Handler
from tproxy.model.http import Request, Response
from tproxy.model.outcome import ProxyError
from tproxy.stores.journal import Journal, Told
from tproxy.telemetry.trace import traced

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
        told = Told(exchange, request, trace)
        request.life.when_over(partial(self._over, told, trio.current_time(), messages))
        told.response = response = await forward(exchange, request)
        return response if messages is None else messages.answered(response)

    def _over(
        self, told: Told, began: float, messages: MessageCounts | None, failure: ProxyError | None
    ) -> None:
        told.failure = failure
        told.seconds = trio.current_time() - began
        told.messages = None if messages is None else messages.so_far
        self._journal.exchange(told)
