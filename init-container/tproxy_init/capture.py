"""What a pod's owner asks to have captured: one record, one option per field.

OPTIONS is the only place where an option is spelt. The command line, the environment, the
record's fields and the users' page all follow from it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from typing import Any

from tproxy_init.errors import BadInput
from tproxy_init.values import (
    MAX_PORT,
    Address,
    Network,
    Span,
    addresses,
    at_least_one,
    choice,
    cidrs,
    every_or,
    flag,
    ids,
    interfaces,
    number,
    ports,
)


class InboundMode(StrEnum):
    """How a connection from outside reaches the proxy."""

    REDIRECT = "redirect"
    TPROXY = "tproxy"


class Ipv6(StrEnum):
    """What to do about IPv6."""

    AUTO = "auto"
    """Capture it wherever it exists; refuse to go on when a usable address would stay open."""
    CAPTURE = "capture"
    """Capture it, or fail."""
    BLOCK = "block"
    """Make everything beyond the pod unreachable over IPv6."""


@dataclass(frozen=True, slots=True)
class Capture:
    """Everything the plan is made from. None in an include field stands for everything."""

    outbound_port: int
    inbound_port: int
    dns_port: int
    proxy_uid: tuple[Span, ...]
    proxy_gid: tuple[Span, ...]
    proxy_ports: tuple[Span, ...]
    inbound_mode: InboundMode
    tproxy_mark: int
    tproxy_table: int
    include_inbound_ports: tuple[Span, ...] | None
    exclude_inbound_ports: tuple[Span, ...]
    exclude_inbound_cidrs: tuple[Network, ...]
    include_outbound_ports: tuple[Span, ...]
    exclude_outbound_ports: tuple[Span, ...]
    include_outbound_cidrs: tuple[Network, ...] | None
    exclude_outbound_cidrs: tuple[Network, ...]
    include_interfaces: tuple[str, ...] | None
    exclude_interfaces: tuple[str, ...]
    include_uids: tuple[Span, ...] | None
    exclude_uids: tuple[Span, ...]
    include_gids: tuple[Span, ...] | None
    exclude_gids: tuple[Span, ...]
    dns: bool
    dns_servers: tuple[Address, ...] | None
    ipv6: Ipv6


@dataclass(frozen=True, slots=True)
class Option:
    """One field of Capture: how it is spelt, read, and explained."""

    name: str
    """The long flag without its dashes."""
    default: str
    read: Callable[[str], object]
    help: str
    aliases: tuple[str, ...] = ()
    """Istio's spellings of the same option."""

    @property
    def field(self) -> str:
        """The name of the field in Capture."""
        return self.name.replace("-", "_")

    @property
    def environment(self) -> str:
        """The variable that is asked when the flag is absent."""
        return f"TPROXY_{self.field.upper()}"


_port = number(highest=MAX_PORT)
_some_ids = at_least_one(every_or(ids))

OPTIONS: tuple[Option, ...] = (
    Option(
        "outbound-port",
        "15001",
        _port,
        "port where the proxy takes the application's connections",
        ("-p", "--envoy-port"),
    ),
    Option(
        "inbound-port",
        "15006",
        _port,
        "port where the proxy takes connections from outside",
        ("-z", "--inbound-capture-port"),
    ),
    Option("dns-port", "15053", _port, "port where the proxy answers DNS, with --dns"),
    Option(
        "proxy-uid",
        "1337",
        ids,
        "UIDs of the proxy; what they send is not captured again",
        ("-u",),
    ),
    Option(
        "proxy-gid",
        "1337",
        ids,
        "GIDs of the proxy, likewise",
        ("-g",),
    ),
    Option(
        "proxy-ports",
        "15000,15020,15021,15090",
        ports,
        "the proxy's own admin, metrics and health ports: never captured inbound",
    ),
    Option(
        "inbound-mode",
        "redirect",
        choice(InboundMode),
        "redirect, or tproxy (keeps the destination address; the proxy needs CAP_NET_ADMIN)",
        ("-m", "--istio-inbound-interception-mode"),
    ),
    Option(
        "tproxy-mark",
        "1337",
        number(highest=0xFFFFFFFF),
        "packet mark of the tproxy mode",
        ("-t", "--inbound-tproxy-mark"),
    ),
    Option(
        "tproxy-table",
        "133",
        # 253 to 255 are the kernel's own: default, main and local.
        number(highest=252),
        "routing table of the tproxy mode",
        ("-r", "--inbound-tproxy-route-table"),
    ),
    Option(
        "include-inbound-ports",
        "*",
        every_or(ports),
        "inbound ports to capture, * for all, empty for none",
        ("-b", "--istio-inbound-ports"),
    ),
    Option(
        "exclude-inbound-ports",
        "",
        ports,
        "inbound ports to leave alone, besides --proxy-ports",
        ("-d", "--istio-local-exclude-ports"),
    ),
    Option(
        "exclude-inbound-cidrs",
        "",
        cidrs,
        "networks whose connections to this pod are left alone",
    ),
    Option(
        "include-outbound-ports",
        "",
        ports,
        "outbound ports to capture whatever the address, even in an excluded network",
        ("-q", "--istio-outbound-ports"),
    ),
    Option(
        "exclude-outbound-ports",
        "",
        ports,
        "outbound ports to leave alone",
        ("-o", "--istio-local-outbound-ports-exclude"),
    ),
    Option(
        "include-outbound-cidrs",
        "*",
        every_or(cidrs),
        "destination networks to capture, * for all, empty for none; "
        "empty by default when --include-outbound-ports is given",
        ("-i", "--istio-service-cidr"),
    ),
    Option(
        "exclude-outbound-cidrs",
        "",
        cidrs,
        "destination networks to leave alone",
        ("-x", "--istio-service-exclude-cidr"),
    ),
    Option(
        "include-interfaces",
        "*",
        at_least_one(every_or(interfaces)),
        "capture only what comes in or goes out by these interfaces (eth+ is any eth)",
    ),
    Option(
        "exclude-interfaces",
        "",
        interfaces,
        "interfaces to leave alone, in and out",
        ("-c", "--istio-exclude-interfaces"),
    ),
    Option("include-uids", "*", _some_ids, "capture only what these UIDs (or --include-gids) send"),
    Option("exclude-uids", "", ids, "UIDs whose connections are left alone"),
    Option("include-gids", "*", _some_ids, "capture only what these GIDs (or --include-uids) send"),
    Option("exclude-gids", "", ids, "GIDs whose connections are left alone"),
    Option(
        "dns",
        "false",
        flag,
        "also capture DNS. Only with something answering on --dns-port: "
        "the proxy's own DNS listener is not part of this release",
        ("--redirect-dns",),
    ),
    Option(
        "dns-servers",
        "*",
        at_least_one(every_or(addresses)),
        "capture only queries to these resolvers, with --dns",
    ),
    Option(
        "ipv6",
        "auto",
        choice(Ipv6),
        "auto, capture (or fail), or block (no IPv6 beyond the pod)",
    ),
)


def parse(texts: Mapping[str, str]) -> Capture:
    """The capture that `texts`, keyed by option name, ask for; absent options take defaults."""
    asked = dict(texts)
    if asked.get("include-outbound-ports", "").strip():
        # Istio's own default for the networks: with ports named, those ports and nothing else.
        asked.setdefault("include-outbound-cidrs", "")
    fields: dict[str, Any] = {option.field: _read(option, asked) for option in OPTIONS}
    capture = Capture(**fields)
    _refuse_contradictions(capture)
    return capture


def _read(option: Option, texts: Mapping[str, str]) -> object:
    text = texts.get(option.name, option.default)
    try:
        return option.read(text)
    except ValueError as error:
        raise BadInput(f"--{option.name}: {error}") from None


def _refuse_contradictions(capture: Capture) -> None:
    listeners = {
        "outbound-port": capture.outbound_port,
        "inbound-port": capture.inbound_port,
        "dns-port": capture.dns_port,
    }
    for (one, port), (other, same) in combinations(listeners.items(), 2):
        if port == same:
            raise BadInput(
                f"--{other}: {port} is already --{one}; each listener needs its own port"
            )
    if not capture.proxy_uid and not capture.proxy_gid:
        raise BadInput(
            "--proxy-uid: empty, and so is --proxy-gid; "
            "the proxy's own connections would be captured again, for ever"
        )
