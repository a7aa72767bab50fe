"""HTTP messages as the pipeline sees them, whatever version carried them."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from math import inf
from typing import Protocol, Self

import msgspec

from tproxy.model.address import Address
from tproxy.model.identity import Peer
from tproxy.model.outcome import ProxyError, ResponseFlag
from tproxy.model.upstream_tls import UpstreamTls


class HttpVersion(StrEnum):
    """As access logs write it."""

    HTTP10 = "HTTP/1.0"
    HTTP11 = "HTTP/1.1"
    HTTP2 = "HTTP/2"


Field = tuple[bytes, bytes]


class Headers:
    """Header fields in wire order, names in the case they came in, looked up without regard to it. Immutable."""

    __slots__ = ("_index", "fields")

    def __init__(
        self, fields: Iterable[Field] = (), index: dict[bytes, bytes] | None = None
    ) -> None:
        self.fields: tuple[Field, ...] = tuple(fields)
        self._index = index
        """What `get` gives; made when it is first asked."""

    def get(self, name: bytes) -> bytes | None:
        """Return the value of `name` (written in lower case); several are joined by a comma (RFC 9110, 5.3)."""
        # Without a call of `by_name`: this is asked several times for every request.
        index = self._index
        return (self.by_name() if index is None else index).get(name)

    def by_name(self) -> Mapping[bytes, bytes]:
        """Return what `get` gives, for whoever asks for several."""
        if self._index is None:
            self._index = _indexed(self.fields)
        return self._index

    def __contains__(self, name: bytes) -> bool:
        """Whether the field `name` (written in lower case) is there."""
        return name in self.by_name()

    def without(self, names: frozenset[bytes]) -> Self:
        """Return the fields whose lower-case names are not in `names`."""
        return type(self)(item for item in self.fields if item[0].lower() not in names)

    def plus(self, *fields: Field) -> Self:
        """Return these fields followed by `fields`."""
        return type(self)(self.fields + fields)

    def with_value(self, name: bytes, value: bytes) -> Self:
        """Return these fields with `name` (written in lower case) set to `value`, at the end."""
        index = self.by_name()
        fields = self.without(frozenset((name,))) if name in index else self.fields
        return type(self)((*fields, (name, value)), {**index, name: value})

    def with_values(self, values: Mapping[bytes, bytes]) -> Self:
        """Return these fields with several set, by their names in lower case, at the end."""
        index = self.by_name()
        new = index.keys().isdisjoint(values)
        fields = self.fields if new else self.without(frozenset(values))
        return type(self)((*fields, *values.items()), {**index, **values})

    def __iter__(self) -> Iterator[Field]:
        """Give the fields in order."""
        return iter(self.fields)

    def __len__(self) -> int:
        """Count the fields."""
        return len(self.fields)

    def __eq__(self, other: object) -> bool:
        """Compare field by field, order and case included."""
        return isinstance(other, Headers) and self.fields == other.fields

    def __hash__(self) -> int:
        """Hash what `==` compares."""
        return hash(self.fields)

    def __repr__(self) -> str:
        """Name the fields, never their values: they may be secrets."""
        return f"Headers({', '.join(name.decode('latin-1') for name, _ in self.fields)})"


def _indexed(fields: tuple[Field, ...]) -> dict[bytes, bytes]:
    index: dict[bytes, bytes] = {}
    for raw, value in fields:
        name = raw.lower()
        index[name] = index[name] + b", " + value if name in index else value
    return index


NO_HEADERS = Headers()


GRPC_GOES_ON = frozenset((b"", b"+", b";"))
"""What may follow in a content type that begins with `application/grpc`."""


class RequestHead(msgspec.Struct, frozen=True):
    """A request without its body; fields that belong to one connection only are already gone.

    This and what follows are msgspec structs, since some are made for every request: they cost a fifth of a frozen
    dataclass.
    """

    method: bytes
    scheme: bytes
    authority: bytes
    """Host or `:authority` or an absolute target's; empty when an HTTP/1.0 request names none."""
    path: bytes
    """Path with query, or `*`; empty for CONNECT."""
    headers: Headers
    version: HttpVersion
    upgrade: bytes = b""
    """The protocol that HTTP/1's Upgrade or HTTP/2's `:protocol` asks for; empty for an ordinary request."""
    absolute: bool = False
    """Whether an HTTP/1 request names scheme and authority in its first line, as one to a forward proxy must."""

    @property
    def asks_tunnel(self) -> bool:
        """Whether the connection, or the stream, may stop being HTTP after the answer."""
        return bool(self.upgrade) or self.method == b"CONNECT"

    @property
    def awaits_continue(self) -> bool:
        """Whether the body may be held back until the upstream asks for it (RFC 9110, 10.1.1)."""
        expected = self.headers.get(b"expect")
        return expected is not None and expected.lower() == b"100-continue"

    @property
    def is_grpc(self) -> bool:
        """Whether failures must be told as gRPC status."""
        kind = self.headers.get(b"content-type")
        if kind is None or kind[:16] != b"application/grpc":
            return False
        # With CONNECT, the status 200 that comes with it would open a tunnel.
        return kind[16:17] in GRPC_GOES_ON and self.method != b"CONNECT"


def opens_tunnel(head: RequestHead, status: int) -> bool:
    """Whether a final answer says that what follows is a tunnel's (RFC 9110, 7.8 and 9.3.6)."""
    return status == 101 or (status < 300 and head.method == b"CONNECT")


class ResponseHead(msgspec.Struct, frozen=True):
    """A response without its body; also an informational one (1xx)."""

    status: int
    headers: Headers
    version: HttpVersion
    reason: bytes = b""
    """HTTP/1's reason phrase; HTTP/2 has none."""


class Body(Protocol):
    """A message's content, pulled part by part; whoever pulls sets the pace of whoever sends."""

    @property
    def size(self) -> int:
        """Bytes pulled so far."""

    @property
    def trailers(self) -> Headers:
        """Complete when the body has ended."""

    @property
    def failure(self) -> ProxyError | None:
        """Why it will never be whole, once that is so."""

    @property
    def ready(self) -> bool:
        """Whether the next part, or the end, is at hand without waiting."""

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more, and nothing waits to be pulled."""

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> bytes: ...


class Content:
    """A body that is all there: empty ones, and the proxy's own replies."""

    __slots__ = ("_parts", "failure", "size", "trailers")

    def __init__(self, data: bytes = b"", trailers: Headers = NO_HEADERS) -> None:
        self._parts = [data] if data else []
        self.size = 0
        self.trailers = trailers
        self.failure: ProxyError | None = None

    @property
    def ready(self) -> bool:
        """Always: nothing has to arrive."""
        return True

    @property
    def ended(self) -> bool:
        """Whether the content has been pulled."""
        return not self._parts

    def __aiter__(self) -> Self:
        """Give the parts."""
        return self

    async def __anext__(self) -> bytes:
        """Give the one part there is."""
        if not self._parts:
            raise StopAsyncIteration
        part = self._parts.pop()
        self.size += len(part)
        return part


async def _unheard(_: ResponseHead) -> None:
    """Drop an informational response that nobody waits for."""


class Life:
    """How long one exchange lasts, and what is noted of it meanwhile. What changes: that, and who is told of its end."""

    __slots__ = ("_told", "attempts", "ends", "marks", "response")

    def __init__(self) -> None:
        self._told: list[Callable[[ProxyError | None], None]] = []
        self.ends = inf
        """When it has to be over."""
        self.attempts = 0
        """How often an upstream was asked, where that is counted."""
        self.marks: tuple[ResponseFlag, ...] = ()
        """What holds of it beside how it ended."""
        self.response: Response | None = None
        """What was answered, once it was; so whoever only records it need not stand in its way."""

    def when_over(self, tell: Callable[[ProxyError | None], None]) -> None:
        """Have `tell` called at the end, with what ended the exchange early, if something did; the last one first."""
        self._told.append(tell)

    def end(self, failure: ProxyError | None) -> None:
        """Tell everybody, even if telling one of them goes wrong."""
        try:
            while self._told:
                self._told.pop()(failure)
        finally:
            if self._told:
                self.end(failure)


Work = Callable[[], Awaitable[None]]


class Beside(Protocol):
    """Work that goes on beside an exchange."""

    async def wait(self) -> None:
        """Wait until it is done."""

    def cancel(self) -> None:
        """Have it end."""


def _nothing_beside(_: Work) -> Beside:
    raise AssertionError("a request that is whole and asks for no tunnel has nothing beside it")


class Request(msgspec.Struct, frozen=True):
    """A request on its way through the pipeline."""

    head: RequestHead
    body: Body
    life: Life = msgspec.field(default_factory=Life)
    """Of the exchange that it opens."""
    inform: Callable[[ResponseHead], Awaitable[None]] = _unheard
    """Pass an informational response (1xx) on to whoever asked."""
    beside: Callable[[Work], Beside] = _nothing_beside
    """Have work done beside the exchange, which ends with it; a ProxyError of either ends the other."""


class Response(msgspec.Struct, frozen=True):
    """A response on its way back, and where it came from."""

    head: ResponseHead
    body: Body
    flag: ResponseFlag = ResponseFlag.NONE
    details: str = "via_upstream"
    cause: str = ""
    upstream: Address | None = None
    """The endpoint that answered; None for the proxy's own replies that reached nobody."""
    upstream_local: Address | None = None
    """Our end of that connection."""
    upstream_identity: Peer | None = None
    """Who that endpoint has proven to be; None on plaintext."""
    upstream_tls: UpstreamTls | None = None
    """How the connection to it is secured; None: what is carried goes as it is."""
    upstream_seconds: float | None = None
    """How long that endpoint took, from the request's last byte sent to the response's first byte."""
    until: Beside | None = None
    """What else must be over before the exchange is: the other direction of a tunnel."""
