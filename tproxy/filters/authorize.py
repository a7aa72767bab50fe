"""Enforce what the policies decided: refuse, or send on in the one form of the path that they read."""

from collections.abc import Awaitable
from functools import partial

from msgspec.structs import replace

from tproxy.model.decision import UNPROVEN
from tproxy.model.exchange import Exchange, Handler
from tproxy.model.http import Request, RequestHead, Response
from tproxy.model.outcome import refusal
from tproxy.stores.policy_store import PolicyStore


class Authorize:
    """Refuses what policies deny (deciding); a tunnel that later policies deny ends with them (holding)."""

    def __init__(self, policies: PolicyStore) -> None:
        self._policies = policies

    def __call__(
        self, forward: Handler, exchange: Exchange, request: Request
    ) -> Awaitable[Response]:
        """Carry the request if it may go on."""
        if not exchange.decision.allowed:
            raise refusal(exchange.decision)
        if exchange.path is not None:
            request = replace(request, head=replace(request.head, path=exchange.path))
        if request.head.asks_tunnel:
            return self._held(forward, exchange, request)
        return forward(exchange, request)

    async def _held(self, forward: Handler, exchange: Exchange, request: Request) -> Response:
        response = await forward(exchange, request)
        if response.head.status == 101 or request.head.method == b"CONNECT":
            request.beside(partial(self._end_when_denied, exchange, request.head))
        return response

    async def _end_when_denied(self, exchange: Exchange, head: RequestHead) -> None:
        """Raise once later policies deny what opened a tunnel."""
        judged_by = exchange.generation
        while True:
            current = self._policies.current
            if current.generation != judged_by:
                judged_by = current.generation
                if current.must_prove_itself(exchange.flow):
                    raise refusal(UNPROVEN)
                decision, _ = current.judge(exchange.flow, head)
                if not decision.allowed:
                    raise refusal(decision)
            await self._policies.superseded()
