"""What is measured."""

from collections.abc import Sequence

from bench.loads import Load, http1
from bench.options import Options
from bench.proxies import ENVOY_BARE, ENVOY_EQUAL, HAPROXY, MITMPROXY, NO_PROXY, OURS, Proxy
from bench.turns import Entry, Row, loaded

ALL = (OURS, ENVOY_EQUAL, ENVOY_BARE, HAPROXY, MITMPROXY, NO_PROXY)


def rows(options: Options) -> list[Row]:
    """All rows that are asked for."""
    return [row for row in _all(options) if options.only in row.id]


def _all(options: Options) -> Sequence[Row]:
    return [
        _compared("h1_c1", "HTTP/1.1, 1 connection", http1(1), options),
        _compared("h1_c32", "HTTP/1.1, 32 connections", http1(32), options, bound=True),
        _compared("h1_c256", "HTTP/1.1, 256 connections", http1(256), options, bound=True),
    ]


def _compared(id_: str, title: str, load: Load, options: Options, *, bound: bool = False) -> Row:
    """The same load for every proxy."""
    work = loaded(load, options.seconds)
    entries = [Entry(proxy.name, proxy, work) for proxy in ALL]
    return Row(id_, title, load.unit, entries, bound)
