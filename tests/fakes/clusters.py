"""Clusters of origins on loopback, and policies that send everything to one of them."""

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import trio

from fakes.path import Path
from fakes.talk import App, Call, answer, whole
from fakes.talk_h1 import Http1Talk
from fakes.talk_h2 import Http2Talk
from tproxy.model.address import Address
from tproxy.model.cluster import Cluster, Endpoint, Origin, Static
from tproxy.model.flow import Direction, Flow, Protocol
from tproxy.model.http import RequestHead
from tproxy.model.route import Plan, Route
from tproxy.policy.routes import RouteBook
from tproxy.policy.snapshot import Snapshot
from tproxy.policy.traffic import NO_ROUTES, Traffic
from tproxy.resilience.retry import RetryPolicy

NAME = "outbound|80||shop.example"


def at(*addresses: Address) -> Static:
    """Endpoints at these addresses."""
    return Static(tuple(Endpoint(each) for each in addresses))


def endpoints(*numbers: int) -> Static:
    """Endpoints at documentation addresses."""
    return at(*(address(each) for each in numbers))


def address(number: int) -> Address:
    """One of the addresses that no one has."""
    return Address(f"192.0.2.{number}", 80)


def cluster(origin: Origin | None = None, **said: object) -> Cluster:
    """A cluster of which more may be said."""
    return Cluster(name=NAME, host="shop.example", port=80, origin=origin, **said)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Fixed:
    """Sends everything to one cluster, once."""

    cluster: Cluster
    routes: RouteBook = NO_ROUTES

    def route(self, flow: Flow, head: RequestHead | None, protocol: Protocol | None) -> Route:
        """Choose the only way there is."""
        del flow, head
        plan = Plan(destination=self.cluster, retry=RetryPolicy(attempts=0))
        return Route("default", self.cluster.name, protocol, plan=plan)


def send_to(path: Path, spec: Cluster) -> None:
    """Have all that leaves the application go to a cluster from now on."""
    generation = path.policies.current.generation + 1
    path.policies.swap(Snapshot(generation, traffic=cast("Traffic", Fixed(spec))))
    path.direction = Direction.OUTBOUND


@dataclass
class Instance:
    """One origin. What changes: how often it was asked, and what it answers."""

    address: Address
    app: App | None = None
    asked: int = 0
    status: int = 200
    connections: list[trio.SocketStream] = field(default_factory=list)
    news: trio.Event = field(default_factory=trio.Event)

    def changed(self) -> None:
        """Tell whoever waits."""
        news, self.news = self.news, trio.Event()
        news.set()

    async def met(self, *, asked: int = 0, connections: int = 0) -> None:
        """Wait until it was asked, and connected to, so often."""
        while self.asked < asked or len(self.connections) < connections:
            await self.news.wait()

    async def answer(self, call: Call) -> None:
        """Say who answers."""
        self.asked += 1
        self.changed()
        if self.app is not None:
            await self.app(call)
            return
        await whole(call)
        await answer(call, str(self.address).encode(), status=self.status)


@asynccontextmanager
async def instances(
    count: int, protocol: Protocol = Protocol.HTTP1, app: App | None = None
) -> AsyncIterator[list[Instance]]:
    """Run so many origins on loopback."""
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        found = []
        for _ in range(count):
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            instance = Instance(Address.of(*listener.socket.getsockname()[:2]), app)

            async def serve(stream: trio.SocketStream, instance: Instance = instance) -> None:
                instance.connections.append(stream)
                instance.changed()
                try:
                    if protocol is Protocol.HTTP1:
                        await Http1Talk(stream, client=False).serve(instance.answer)
                    else:
                        await Http2Talk(stream, client=False).serve(instance.answer)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    stream.socket.close()

            nursery.start_soon(trio.serve_listeners, serve, [listener])
            found.append(instance)
        yield found
        for instance in found:
            for stream in instance.connections:
                stream.socket.close()
        nursery.cancel_scope.cancel()


def addresses(found: Iterable[Instance]) -> Static:
    """The endpoints that these are."""
    return at(*(each.address for each in found))
