"""What is measured: every row of the results."""

import resource
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.loads import Load, bodies, bulk, connections, grpc, http1, http2, pings
from bench.many import HOST
from bench.options import Options
from bench.proxies import (
    ENVOY_BARE,
    ENVOY_EQUAL,
    ENVOY_MUTUAL,
    HAPROXY,
    MITMPROXY,
    NO_PROXY,
    OURS,
    OURS_1,
    OURS_1000,
    OURS_MUTUAL,
    OURS_ROUTED,
    Proxy,
)
from bench.turns import Entry, Row, Work
from bench.works import among, crowded, handshaken, loaded, rested, started

HTTP = (OURS, ENVOY_EQUAL, ENVOY_BARE, HAPROXY, MITMPROXY, NO_PROXY)
PROXIES = {"tproxy": OURS, "envoy": ENVOY_EQUAL, "haproxy": HAPROXY, "mitmproxy": MITMPROXY}
"""Where one Envoy is enough: with what our sidecar does."""
MUTUAL = {"tproxy": OURS_MUTUAL, "envoy": ENVOY_MUTUAL}
"""Two sidecars each."""
CROWD = 10_000
SPARE = 2000
"""Descriptors for everything but the connections of a crowd: more than any of the proxies wants."""


def rows(options: Options, site: Path) -> list[Row]:
    """All rows that are asked for."""
    return [row for row in _all(options, site) if options.only in row.id and options.takes(row.id)]


def crowd_size() -> int:
    """As many connections as leave a proxy two descriptors for each."""
    return min(CROWD, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE) // 2)


def _all(options: Options, site: Path) -> Iterator[Row]:
    yield from _http(options, site)
    yield from _tcp(options)
    yield from _mutual(options)
    yield from _memory()
    yield from _growth(options)
    yield _busy_few(options)


def _http(options: Options, site: Path) -> Iterator[Row]:
    row = partial(_every_http, seconds=options.seconds)
    yield row("h1_c1", "HTTP/1.1, 1 connection", http1(1))
    yield replace(row("h1_c32", "HTTP/1.1, 32 connections", http1(32)), bound=True)
    yield replace(row("h1_c256", "HTTP/1.1, 256 connections", http1(256)), bound=True)
    yield row("h1_bodies", "HTTP/1.1, 1 MiB bodies, 8 connections", bodies(8))
    # mitmproxy knows HTTP/2 only inside TLS.
    row = partial(_every_http, seconds=options.seconds, without=MITMPROXY)
    yield row("h2_1x32", "HTTP/2, 1 x 32 streams", http2(1, 32))
    yield replace(row("h2_8x32", "HTTP/2, 8 x 32 streams", http2(8, 32)), bound=True)
    yield row("grpc_4x8", "gRPC unary, 4 x 8 streams", grpc(4, 8, site))


def _every_http(
    id_: str, title: str, load: Load, *, seconds: float, without: Proxy | None = None
) -> Row:
    work = loaded(load, seconds)
    entries = [Entry(proxy.name, proxy, work) for proxy in HTTP if proxy is not without]
    return Row(id_, title, load.unit, entries)


def _tcp(options: Options) -> Iterator[Row]:
    proxies = PROXIES | {"none": NO_PROXY}

    def row(id_: str, title: str, load: Load) -> Row:
        return Row(id_, title, load.unit, _same(proxies, loaded(load, options.seconds)))

    yield row("tcp_bulk1", "TCP upload, 1 connection", bulk(1))
    yield row("tcp_bulk8", "TCP upload, 8 connections", bulk(8))
    yield replace(row("tcp_conn", "TCP connections, 32 at once", connections(32)), bound=True)
    yield row("tcp_ping", "TCP pings of 64 bytes", pings())


def _mutual(options: Options) -> Iterator[Row]:
    """From the client's sidecar to the server's, both proving who they are."""
    equal = {"tproxy": OURS_MUTUAL, "envoy_equal": ENVOY_MUTUAL}
    entries = _same(equal, loaded(http1(32), options.seconds))
    title = "mutual TLS, HTTP/1.1, 32 connections"
    naming = "mtls_h1_{figure}_vs_{other}"
    yield Row("mtls_h1_c32", title, "request", entries, bound=True, naming=naming)
    entries = _same(MUTUAL, loaded(bulk(1), options.seconds))
    yield Row("mtls_bulk", "mutual TLS, upload, 1 connection", "MiB", entries)
    entries = _same(MUTUAL, handshaken(connections(32), options.seconds))
    title = "mutual TLS, full handshakes, 32 at once"
    yield Row("mtls_handshakes", title, "connection", entries, bound=True, head="rate")
    yield Row("mtls_idle", "memory of both when idle", "start", _same(MUTUAL, rested))
    entries = _same(MUTUAL, crowded("tcp", 1000))
    yield Row("mtls_idle_conn", "1,000 idle connections in mutual TLS", "connection", entries)


def _memory() -> Iterator[Row]:
    most = crowd_size()
    yield Row("start", "start to first answer", "start", _same(PROXIES, started))
    yield Row("idle", "memory when idle", "start", _same(PROXIES, rested))
    for kind in ("tcp", "http"):
        work = _same(PROXIES, crowded(kind, 1000))
        yield Row(f"{kind}_idle_conn", f"1,000 idle {kind.upper()} connections", "connection", work)
    work = _same(PROXIES, crowded("tcp", most))
    title = f"{most:,} idle TCP connections"
    yield Row("tcp_idle_most", title, "connection", work, turns=1)


def _same(proxies: dict[str, Proxy], work: Work) -> Sequence[Entry]:
    return [Entry(label, proxy, work) for label, proxy in proxies.items()]


def _growth(options: Options) -> Iterator[Row]:
    """How much more of something makes a request of ours cost."""

    def row(id_: str, title: str, entries: dict[str, tuple[Proxy, Load]]) -> Row:
        taking_part = [
            Entry(label, proxy, loaded(load, options.seconds))
            for label, (proxy, load) in entries.items()
        ]
        naming = f"h1_{{figure}}_{{first}}_{id_.removeprefix('h1_')}_vs_{{other}}"
        return Row(id_, title, "request", taking_part, naming=naming, compared=("cpu",))

    headers = {"4k": 4096, "1k": 1024, "0": 0}
    yield row(
        "h1_policies",
        "policies in force",
        {"1000": (OURS_1000, http1(32)), "1": (OURS_1, http1(32))},
    )
    yield row(
        "h1_routes",
        "routes of a host",
        {str(count): (proxy, http1(32, host=HOST)) for count, proxy in OURS_ROUTED.items()},
    )
    yield row(
        "h1_headers",
        "header bytes",
        {label: (OURS, http1(32, headers=size)) for label, size in headers.items()},
    )
    yield row(
        "h1_connections",
        "connections",
        {str(count): (OURS, http1(count)) for count in (256, 32, 1)},
    )


def _busy_few(options: Options) -> Row:
    most = crowd_size()
    entries = [
        replace(entry, beside=among("http", most))
        for entry in _same(PROXIES, loaded(http1(8), options.seconds))
    ]
    title = f"HTTP/1.1, 8 connections among {most:,} idle ones"
    return Row("h1_c8_among_idle", title, "request", entries, turns=3)
