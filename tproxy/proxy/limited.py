"""Hold connections to the limits that policies set for them: how many come, how many are open, how fast they carry."""

from collections.abc import Awaitable, Callable

import trio

from tproxy.filters.rate_limit import rate_limited
from tproxy.model.flow import Flow
from tproxy.model.rate_limit import Applied
from tproxy.net.pump import Meter, Pace, Traffic
from tproxy.net.stream import SocketStream
from tproxy.policy.limits import LimitBook
from tproxy.proxy.runtime import Runtime
from tproxy.stores.limits import ask

Carry = Callable[[], Awaitable[None]]
"""Carry a connection."""


def limits_of(flow: Flow, runtime: Runtime) -> tuple[Applied, ...]:
    """Find the limits that are about a connection."""
    book = runtime.policies.current.rate_limits
    return book.of_connection(flow) if book else ()


async def within_limits(
    downstream: SocketStream,
    flow: Flow,
    *,
    limits: tuple[Applied, ...],
    runtime: Runtime,
    carry: Carry,
) -> None:
    """Have a connection carried if its limits let it through, and count it for as long as that takes; reset it otherwise."""
    verdict = ask(runtime.ledger, limits)
    runtime.journal.limited(limits)
    if not verdict.allowed:
        runtime.journal.refused(flow, rate_limited(), limits=limits)
        downstream.reset()
        return
    try:
        if verdict.delay:
            await trio.sleep(verdict.delay)
        await carry()
    finally:
        verdict.release()


def paced(book: LimitBook | None, flow: Flow) -> Traffic:
    """Make the meters of a connection, which hold it to the bandwidth that policies allow as it begins."""
    specs = [each.spec for each in book.bandwidth_of(flow)] if book else []
    if not specs:
        return Traffic()
    now = trio.current_time()

    def meter() -> Meter:
        return Meter(pace=Pace([each.machine(now) for each in specs]))

    return Traffic(meter(), meter())
