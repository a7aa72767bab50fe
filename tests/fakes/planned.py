"""Routes whose plan a test says, and origins that answer each request in another way."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from fakes.path import Path
from fakes.talk import Call, Heard, whole
from fakes.talk_h1 import Http1Talk
from fakes.talk_h2 import Http2Talk
from tproxy.model.cluster import Cluster, Endpoint, Static
from tproxy.model.flow import Direction, Flow, Protocol
from tproxy.model.http import RequestHead
from tproxy.model.route import Plan, Route
from tproxy.policy.routes import RouteBook
from tproxy.policy.traffic import NO_ROUTES, Traffic

across = pytest.mark.parametrize(
    ("protocol", "upstream"),
    [
        pytest.param(one, other, id=f"{one} to {other}")
        for one in (Protocol.HTTP1, Protocol.HTTP2)
        for other in (Protocol.HTTP1, Protocol.HTTP2)
    ],
)
both = pytest.mark.parametrize(
    "protocol",
    [pytest.param(Protocol.HTTP1, id="http1"), pytest.param(Protocol.HTTP2, id="http2")],
)


@dataclass(frozen=True)
class Planned:
    """A `Traffic` that sends all one way."""

    plan: Plan
    routes: RouteBook = NO_ROUTES

    def route(self, flow: Flow, head: RequestHead | None, protocol: Protocol | None) -> Route:
        """Choose it."""
        del flow, head
        return Route("planned", "outbound|80||shop.example", protocol, plan=self.plan)


def follow(path: Path, plan: Plan) -> None:
    """Have the proxy do what `plan` says with what the application asks from now on."""
    path.direction = Direction.OUTBOUND
    path.policies.swap(replace(path.policies.current, traffic=cast("Traffic", Planned(plan))))


def cluster(*paths: Path, name: str = "outbound|80||shop.example", **more: object) -> Cluster:
    """Name the origins of some paths together."""
    endpoints = tuple(Endpoint(path.origin.address) for path in paths)
    return Cluster(name=name, host="shop.example", port=80, origin=Static(endpoints), **more)  # type: ignore[arg-type]


Turn = Callable[[Call], Awaitable[None]]


@dataclass
class Turns:
    """An app that takes its turns one after the other, the last one for ever. What changes: whom it has heard."""

    turns: list[Turn]
    heads: list[Heard] = field(default_factory=list)

    async def __call__(self, call: Call) -> None:
        """Take the next turn."""
        turn = self.turns[min(len(self.heads), len(self.turns) - 1)]
        self.heads.append(await call.head())
        await turn(call)

    def said(self, name: bytes) -> list[list[bytes]]:
        """Give a field's values in each request."""
        return [head.get(name) for head in self.heads]


def status(code: int, body: bytes = b"", *fields: tuple[bytes, bytes]) -> Turn:
    """Answer with a status once the request is whole."""

    async def turn(call: Call) -> None:
        await whole(call)
        await call.say(code, [(b"content-length", b"%d" % len(body)), *fields])
        await call.send(body)
        await call.end()

    return turn


async def interrupted(talk: Http1Talk | Http2Talk, path: bytes = b"/") -> Heard:
    """Begin a request with a body that never ends, and hear the answer."""
    call = await talk.call()
    await call.say((b"POST", path), [(b"content-length", b"1000")])
    await call.send(b"some of it")
    return await whole(call)


async def giving_up(call: Call) -> None:
    """Read the request, and break off."""
    await whole(call)
    await call.give_up()


def counted(path: Path, name: str) -> dict[str, float]:
    """Read a counter with one label from what the proxy exposes."""
    text = path.metrics.exposition()[0].decode()
    lines = [line for line in text.splitlines() if line.startswith(name + "{")]
    return {line.split('"')[1]: float(line.rpartition(" ")[2]) for line in lines}
