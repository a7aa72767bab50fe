"""Connections carried as bytes: whole, both ways, and never ended where they were cut."""

import pytest
import trio

from fakes.path import reset, to_script
from tproxy.model.flow import Direction
from tproxy.policy.clusters import ClusterBook
from tproxy.policy.egress import Egress
from tproxy.policy.snapshot import Snapshot
from tproxy.policy.traffic import Traffic


async def shout(stream: trio.SocketStream) -> None:
    """Answer in capitals until the other side ends."""
    while data := await stream.receive_some(65536):
        await stream.send_all(data.upper())
    await stream.aclose()


async def test_bytes_pass_both_ways_and_are_counted() -> None:
    async with to_script(shout) as path:
        near = path.relay()
        await near.send_all(b"hello")
        assert await near.receive_some(65536) == b"HELLO"
        await near.send_eof()
        assert await near.receive_some(65536) == b""
        (line,) = await path.logged()
        assert (line["response_code"], line["response_flags"]) == (0, "-")
        assert (line["bytes_received"], line["bytes_sent"]) == (5, 5)
        assert line["upstream_host"] == str(path.origin.address)
        assert line["upstream_cluster"] == f"inbound|{path.origin.address.port}||"
        text, _ = path.metrics.exposition(openmetrics=False)
        counted = [
            each.split("{")[0]
            for each in text.decode().splitlines()
            if each.startswith("istio_tcp_") and each.endswith(" 5")
        ]
        assert counted == ["istio_tcp_sent_bytes_total", "istio_tcp_received_bytes_total"]


@pytest.mark.parametrize("by", ["downstream", "upstream"])
async def test_a_reset_passes_to_the_other_side(by: str) -> None:
    begun, broken = trio.Event(), trio.Event()

    async def script(stream: trio.SocketStream) -> None:
        await stream.receive_some(1)
        begun.set()
        if by == "upstream":
            reset(stream)
            return
        try:
            await stream.receive_some(1)
        except trio.BrokenResourceError:
            broken.set()

    async with to_script(script) as path:
        near = path.relay()
        await near.send_all(b"x")
        await begun.wait()
        if by == "upstream":
            with pytest.raises(trio.BrokenResourceError):
                await near.receive_some(1)
        else:
            near.reset()
            await broken.wait()
        (line,) = await path.logged()
        assert line["response_flags"] == ("UR" if by == "upstream" else "DR")


async def test_a_refused_connection_is_reset_downstream() -> None:
    async with to_script(shout) as path:
        taken = await trio.open_tcp_listeners(0, host="127.0.0.1")
        path.origin.address = type(path.origin.address).of(*taken[0].socket.getsockname()[:2])
        await taken[0].aclose()
        with pytest.raises(trio.BrokenResourceError):
            await path.relay().receive_some(1)
        (line,) = await path.logged()
        assert line["response_flags"] == "UF"
        assert line["upstream_transport_failure_reason"] == "Connection refused"


async def test_a_connection_to_where_nothing_may_be_reached_is_reset_and_told() -> None:
    async with to_script(shout) as path:
        path.direction = Direction.OUTBOUND
        egress = Traffic(ClusterBook(), None, "web", egress=Egress(registry_only=True))
        path.policies.swap(Snapshot(2, traffic=egress))
        with pytest.raises(trio.BrokenResourceError):
            await path.relay().receive_some(1)
        (line,) = await path.logged()
        assert (line["response_flags"], line["response_code_details"]) == ("NR", "block_all")
        assert line["upstream_cluster"] == "BlackHoleCluster"
        assert line["upstream_host"] is None
        assert path.origin.accepted == []


async def test_a_connection_that_outlasts_the_proxy_is_cut_and_not_ended() -> None:
    broken = trio.Event()

    async def script(stream: trio.SocketStream) -> None:
        await stream.receive_some(1)
        await stream.send_all(b"half of it")
        try:
            await stream.receive_some(1)
        except trio.BrokenResourceError:
            broken.set()

    async with to_script(script) as path:
        near = path.relay()
        await near.send_all(b"x")
        assert await near.receive_some(65536) == b"half of it"
        path.stop()
        with pytest.raises(trio.BrokenResourceError):
            await near.receive_some(1)
        await broken.wait()
        (line,) = await path.logged()
        assert (line["response_flags"], line["response_code_details"]) == ("-", "proxy_left")
