"""What the soak's server pod adds to nginx and nghttpd: an echo of bytes, and one behind an HTTP upgrade."""

import contextlib
from functools import partial

import trio

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"


async def echo(stream: trio.SocketStream) -> None:
    """Give back what comes until the caller's end, then end."""
    async with stream:
        with contextlib.suppress(trio.BrokenResourceError):
            async for part in stream:
                await stream.send_all(part)


async def upgrade(stream: trio.SocketStream) -> None:
    """Take the head of a request for whatever it is, and echo from then on."""
    with contextlib.suppress(trio.BrokenResourceError):
        head = b""
        while not head.endswith(b"\r\n\r\n") and (part := await stream.receive_some()):
            head += part
        await stream.send_all(SWITCH)
    await echo(stream)


async def main() -> None:
    """Serve both, on every IPv4 address."""
    async with trio.open_nursery() as nursery:
        for service, port in ((echo, 7000), (upgrade, 8082)):
            serve = partial(trio.serve_tcp, service, port, host="0.0.0.0")  # noqa: S104  (the pod's own)
            nursery.start_soon(serve)


trio.run(main)
