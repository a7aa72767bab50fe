"""Every bound of the data path, with its name and its reason."""

from dataclasses import dataclass, replace
from typing import Self

MOST_WORKERS = 64
"""More than one for each core gains nothing."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what peers can make us hold or wait for; bytes and seconds."""

    connections: int = 16384
    """Captured connections held at once; more are turned away, which is better than to let them hang."""
    exchanges: int = 16384
    """HTTP requests carried at once: each holds memory here and work at its upstream."""
    sniff_bytes: int = 8192
    """How much opening is looked at: a ClientHello with many extensions fits, a stall does not."""
    sniff_seconds: float = 3.0
    """Silence that makes a connection opaque: server-first protocols wait this long on undeclared ports."""
    head_bytes: int = 65536
    """One message head: Envoy's default is 60 KiB."""
    header_fields: int = 256
    """Fields in one head or trailer block: hashing and copying grow with it."""
    chunk_line_bytes: int = 256
    """One HTTP/1 chunk's size with its extensions, which nobody reads and a sender could make longer than the chunk."""
    informational_heads: int = 32
    """1xx heads before one response: each restarts the wait for it."""
    streams: int = 256
    """Concurrent HTTP/2 streams a downstream may open on one connection."""
    stream_window: int = 262144
    """HTTP/2 receive window per stream: the most that one slow consumer can make us hold. An upstream's streams begin with 16 KiB."""
    connection_window: int = 1048576
    """HTTP/2 receive window per downstream connection: the most that all its slow consumers can make us hold. An upstream's, which many downstreams share, has room for all its streams; this much they may have together beyond what they begin with."""
    control_frames: int = 1000
    """HTTP/2 frames without a message (PING, SETTINGS, empty DATA …) in one read: each can ask for an answer. Envoy's default."""
    resets: int = 500
    """HTTP/2 requests given up unanswered, less those completed: a rapid reset costs its sender nothing. Envoy's default."""
    replay_bytes: int = 65536
    """How much of a request's body is kept to be sent again: of more there is no retry. Linkerd's bound."""
    mirrored: int = 256
    """Copies of requests under way at once: each is one more exchange, for which nobody waits."""
    mirrored_bytes: int = 262144
    """What waits of a body for one copy's upstream: one that falls behind by more gets none."""
    mirrored_seconds: float = 60.0
    """How long a copy may take, answer included: nobody would notice one that hangs."""
    part_bytes: int = 65536
    """One read from a socket: larger ones gained nothing."""
    unsent_bytes: int = 262144
    """What may stand unsent for one connection before its writers wait."""
    connect_seconds: float = 10.0
    """Dialling an upstream: Envoy's default."""
    handshake_seconds: float = 10.0
    """A TLS handshake, from the ClientHello to its end: a tenth of a second is usual."""
    handshakes: int = 1024
    """TLS handshakes under way at once: each holds some 50 KiB for somebody who is not known yet. One more ends the oldest."""
    keepalive_seconds: int = 300
    """TCP silence after which the kernel asks whether the other machine is still there, on both sides: Istio's default."""
    head_seconds: float = 15.0
    """A request's head, from its first byte to its last; for HTTP/2 also its preface and its settings."""
    stream_idle_seconds: float = 3600.0
    """An exchange in which no byte moves either way. As for TCP: Envoy's 300 would cut WebSockets that are silent on purpose. 0 = no bound."""
    tcp_idle_seconds: float = 3600.0
    """A connection carried as bytes in which none moves either way: Envoy's default. 0 = no bound."""
    idle_seconds: float = 3600.0
    """A downstream HTTP connection without a request: Envoy's default."""
    pool_idle_seconds: float = 4.0
    """A pooled upstream connection without a request: less than the 5 s keep-alive of common application servers."""
    pool_connections: int = 1024
    """Idle upstream connections kept in all: each holds a descriptor here and there."""
    drain_seconds: float = 30.0
    """How long exchanges in flight may take to end after SIGTERM."""
    drain_least_seconds: float = 0.0
    """How long to stay after SIGTERM though no connection is open: an application that stops then too may still call out."""
    close_seconds: float = 2.0
    """How long a close may take to be polite (TLS close_notify, GOAWAY)."""

    def within(self, descriptors: int) -> Self:
        """Return limits that a process with so many descriptors can keep: each connection takes one here and one there."""
        idle = min(self.pool_connections, descriptors // 8)
        affordable = max(1, (descriptors - idle - RESERVED_DESCRIPTORS) // 2)
        return replace(self, pool_connections=idle, connections=min(self.connections, affordable))


RESERVED_DESCRIPTORS = 192
"""For listeners, desks, log and policy files, pipes to splice through, and connections that are turned away."""
