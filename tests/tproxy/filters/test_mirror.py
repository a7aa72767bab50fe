"""Whatever goes wrong with a copy stays with it."""

import pytest
import trio

from fakes.planned import cluster
from tproxy.filters.mirror import Mirroring
from tproxy.model.address import Address
from tproxy.model.exchange import Exchange
from tproxy.model.flow import Direction, Flow
from tproxy.model.http import (
    Content,
    Headers,
    HttpVersion,
    Request,
    RequestHead,
    Response,
    ResponseHead,
)
from tproxy.model.limits import Limits
from tproxy.model.route import Mirror, Plan, Route

HERE = Address("192.0.2.1", 80)
HEAD = RequestHead(b"GET", b"http", b"shop", b"/", Headers(), HttpVersion.HTTP11)
EXCHANGE = Exchange(
    Flow(Direction.OUTBOUND, HERE, HERE, HERE),
    Route("r", "c", plan=Plan(mirrors=(Mirror(cluster(name="shadow")),))),
)


async def forward(_: Exchange, request: Request) -> Response:
    """Answer, but make a mistake about copies."""
    if b"x-tproxy-shadow" in request.head.headers:
        raise RuntimeError("a mistake")
    return Response(ResponseHead(200, Headers(), HttpVersion.HTTP11), Content())


async def test_a_mistake_about_a_copy_ends_that_copy_and_is_told(
    caplog: pytest.LogCaptureFixture, nursery: trio.Nursery
) -> None:
    counted: list[str] = []
    mirroring = Mirroring(Limits(mirrored=1), counted.append)
    nursery.start_soon(mirroring.run)
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(2):
        response = await mirroring(forward, EXCHANGE, Request(HEAD, Content()))
        assert response.head.status == 200
        await trio.testing.wait_all_tasks_blocked()
    assert counted == ["failed", "failed"]
    assert "a copy for shadow ended by a mistake of the proxy's" in caplog.text


async def test_nothing_is_copied_while_nobody_carries_copies() -> None:
    counted: list[str] = []
    await Mirroring(Limits(), counted.append)(forward, EXCHANGE, Request(HEAD, Content()))
    assert counted == ["overflow"]
