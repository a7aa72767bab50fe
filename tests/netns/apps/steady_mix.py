"""Ask one server in HTTP/1.1, in HTTP/2 and over one TCP stream, each on connections that stay, until SIGTERM.

    steady_mix.py HOST EVERY

HOST answers HTTP/1.1 on 8080 and HTTP/2 (`/short`) on 8081, and echoes on 7000; each is asked again EVERY seconds. Says `begun`
once each was answered, and at the end in one line of JSON how often each was, and what failed.
"""

import json
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable

import httpx
import trio

PATIENCE = 10.0
MOST_SECONDS = 120.0

Ask = Callable[[], Awaitable[object]]


class Mix:
    """What is asked. What changes: what was answered, and what failed."""

    def __init__(self, host: str, every: float) -> None:
        self._host = host
        self._every = every
        self.answered: Counter[str] = Counter()
        self.failed: list[str] = []
        self.all_begun = trio.Event()
        self.over = trio.Event()

    async def run(self) -> None:
        """Ask all of it until it is over; what was begun is completed."""
        async with trio.open_nursery() as nursery:
            for work in (self._http1, self._http2, self._bytes):
                nursery.start_soon(work)

    async def _http1(self) -> None:
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            await self._go_on("http1", lambda: _post(client, f"http://{self._host}:8080/asked"))

    async def _http2(self) -> None:
        async with httpx.AsyncClient(http1=False, http2=True, timeout=PATIENCE) as client:
            await self._go_on("http2", lambda: _post(client, f"http://{self._host}:8081/short"))

    async def _bytes(self) -> None:
        async with await trio.open_tcp_stream(self._host, 7000) as stream:
            await self._go_on("bytes", lambda: _echo(stream, self.answered["bytes"]))

    async def _go_on(self, name: str, ask: Ask) -> None:
        while not self.over.is_set():
            try:
                with trio.fail_after(PATIENCE):
                    await ask()
            except (httpx.HTTPError, OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
                self.failed.append(f"{name}: {error!r}")
            else:
                self.answered[name] += 1
            if len(self.answered) == 3:
                self.all_begun.set()
            with trio.move_on_after(self._every):
                await self.over.wait()


async def _post(client: httpx.AsyncClient, url: str) -> None:
    # What nobody on the way may send twice: one that is lost is told.
    (await client.post(url)).raise_for_status()


async def _echo(stream: trio.SocketStream, number: int) -> None:
    said = b"\0%011d" % number
    await stream.send_all(said)
    heard = b""
    while len(heard) < len(said):
        part = await stream.receive_some(len(said) - len(heard))
        if not part:
            raise OSError("the stream has ended")
        heard += part
    if heard != said:
        raise OSError(f"another echo: {heard!r}")


async def main(host: str, every: float) -> None:
    """Run until told to stop, and print the account."""
    mix = Mix(host, every)
    with trio.open_signal_receiver(signal.SIGTERM) as signals, trio.move_on_after(MOST_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mix.run)
            await mix.all_begun.wait()
            print("begun", flush=True)
            await anext(signals)
            mix.over.set()
    print(json.dumps({"answered": mix.answered, "failed": mix.failed}), flush=True)


trio.run(main, sys.argv[1], float(sys.argv[2]))
