"""Answer at once what would be one request too many, instead of letting all of them wait."""

from collections.abc import Awaitable

from tproxy.model.exchange import Exchange, Handler
from tproxy.model.http import Request, Response
from tproxy.model.outcome import ProxyError, overloaded


class OverloadFilter:
    """Bounds the exchanges that are open at once (holding). What changes: how many are."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open = 0

    def __call__(
        self, forward: Handler, exchange: Exchange, request: Request
    ) -> Awaitable[Response]:
        """Carry the exchange if there is room for it."""
        if self._open >= self._most:
            raise overloaded()
        self._open += 1
        request.life.when_over(self._over)
        return forward(exchange, request)

    def _over(self, _: ProxyError | None) -> None:
        self._open -= 1


def turn_away(_exchange: Exchange, _request: Request) -> Awaitable[Response]:
    """Be the handler of connections that are one too many."""
    raise overloaded()
