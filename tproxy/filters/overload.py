"""Answer at once what would be one request too many, instead of letting all of them wait."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tproxy.model.exchange import Exchange, Handler, Scope
from tproxy.model.http import Request, Response
from tproxy.model.outcome import overloaded


class OverloadFilter:
    """Bounds the exchanges that are open at once (holding). What changes: how many are."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open = 0

    @asynccontextmanager
    async def __call__(
        self, exchange: Exchange, request: Request, forward: Handler
    ) -> AsyncIterator[Response]:
        """Carry the exchange if there is room for it."""
        if self._open >= self._most:
            raise overloaded()
        self._open += 1
        try:
            async with forward(exchange, request) as response:
                yield response
        finally:
            self._open -= 1


def turn_away(_exchange: Exchange, _request: Request) -> Scope[Response]:
    """Be the handler of connections that are one too many."""
    raise overloaded()
