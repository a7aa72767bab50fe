"""What tests say and hear in HTTP, whichever version: real h11 and h2 machines, in either role, over any stream."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from tproxy.model.http import Field


class Broken(Exception):
    """A message ended before it was whole."""


@dataclass
class Heard:
    """One message as it arrived. What changes: it grows."""

    start: tuple[bytes, bytes] | int
    """A request's method and path, or a response's status."""
    fields: list[Field]
    body: bytes = b""
    trailers: list[Field] = field(default_factory=list)

    def get(self, name: bytes) -> list[bytes]:
        """All values of a field."""
        return [value for each, value in self.fields if each.lower() == name]


class Call(Protocol):
    """One exchange, seen from one of its sides."""

    informed: list[int]
    """Statuses of informational responses."""

    @property
    def heard(self) -> Heard:
        """The other side's message, once `head` has returned."""

    async def head(self) -> Heard:
        """Wait for the head of the other side's message."""

    async def part(self) -> bytes:
        """Wait for a part of its body; empty when it is complete. Broken when it never will be."""

    async def say(self, start: tuple[bytes, bytes] | int, fields: Iterable[Field]) -> None:
        """Begin our message: a request, a response or an informational response."""

    async def send(self, data: bytes) -> None:
        """Send a part of our body."""

    async def end(self, trailers: Iterable[Field] = ()) -> None:
        """Complete our message."""

    async def give_up(self) -> None:
        """End the exchange as rudely as the version allows."""


App = Callable[[Call], Awaitable[None]]


async def whole(call: Call) -> Heard:
    """Wait for the other side's whole message."""
    await call.head()
    while await call.part():
        pass
    return call.heard


async def answer(
    call: Call, body: bytes = b"", *, status: int = 200, fields: Iterable[Field] = ()
) -> None:
    """Answer with a body of known length."""
    await call.say(status, [(b"content-length", b"%d" % len(body)), *fields])
    await call.send(body)
    await call.end()


async def echo(call: Call) -> None:
    """Answer with the request's body and trailers, part by part as they come."""
    await call.head()
    await call.say(200, [(b"content-type", b"application/octet-stream")])
    while part := await call.part():
        await call.send(part)
    await call.end(call.heard.trailers)
