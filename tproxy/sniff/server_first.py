"""Ports whose protocol begins with the server's greeting: waiting there for the client's first bytes is a stall."""

from collections.abc import Mapping
from types import MappingProxyType

SERVER_FIRST_PORTS: Mapping[int, str] = MappingProxyType(
    {
        25: "SMTP",
        53: "DNS over TCP: binary, and answered in one round trip",
        587: "SMTP submission",
        3306: "MySQL",
        4444: "Galera replication",
        5432: "PostgreSQL: the client asks for TLS in PostgreSQL's own words before any ClientHello",
        6379: "Redis: the client speaks first, but pub/sub connections may stay silent",
        9300: "Elasticsearch transport",
        11211: "memcached: its text commands look like the beginning of a request line",
        27017: "MongoDB",
    }
)
"""Port to protocol: what Istio and Linkerd leave unsniffed by default, taken together."""
