"""The names by which sidecars know each other, and what is inside, before anything of it is read."""

from collections.abc import Iterable, Sequence

from tproxy.model.flow import Detection, Protocol, Sniffed

OPAQUE = Sniffed(Protocol.OPAQUE, Detection.ALPN)
HTTP1 = Sniffed(Protocol.HTTP1, Detection.ALPN)
HTTP2 = Sniffed(Protocol.HTTP2, Detection.ALPN)

INSIDE = {
    "tproxy-h2": HTTP2,
    "tproxy-http/1.1": HTTP1,
    "tproxy-tcp": OPAQUE,
    "istio-h2": HTTP2,
    "istio-http/1.1": HTTP1,
    "istio-http/1.0": HTTP1,
    "istio": None,
    "h2": HTTP2,
    "http/1.1": HTTP1,
}
"""What we agree on, the most telling first, and what is inside then; None: whatever its first bytes say."""

MESH = frozenset(
    (*(name for name in INSIDE if name.startswith(("tproxy", "istio"))), "istio-peer-exchange")
)
"""What only sidecars offer. `istio-peer-exchange` is never agreed on: who has it agreed on speaks first of itself."""

OFFERS = {
    Protocol.HTTP1: ("tproxy-http/1.1", "istio-http/1.1", "istio", "http/1.1"),
    Protocol.HTTP2: ("tproxy-h2", "istio-h2", "istio", "h2"),
    Protocol.TLS: ("istio",),
    Protocol.OPAQUE: ("tproxy-tcp", "istio"),
}
"""What we offer for what is inside: nothing that would have us speak something else. An application's own TLS tells of
itself."""


def from_mesh(offered: Iterable[str]) -> bool:
    """Whether whoever offers this is a sidecar, not an application with TLS of its own."""
    return not MESH.isdisjoint(offered)


def chosen(offered: Sequence[bytes]) -> bytes | None:
    """Choose from a client's offer; None where nothing suits: then nothing is agreed on."""
    names = {name.decode("latin-1") for name in offered}
    found = next((name for name in INSIDE if name in names), None)
    return None if found is None else found.encode()
