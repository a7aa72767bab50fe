"""Names of services: which are sound, how short ones are completed, and which of several patterns is nearest to one."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from tproxy.model.identity import SCHEME, UNKNOWN, Peer
from tproxy.policy.match import is_address
from tproxy.policy.rules import host_and_port

T = TypeVar("T")

EVERYTHING = "*"
SERVICES = ".svc.cluster.local"
"""The end of all names of a cluster's services."""
LONGEST = 253
"""Characters of a name (RFC 1035, 2.3.4, without the root's dot)."""

_LABEL = r"[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"\*|(\*\.)?{_LABEL}(\.{_LABEL})*")


def is_host(text: str) -> bool:
    """Whether it is a name, `*.suffix` or `*`, in whichever case."""
    return len(text) <= LONGEST and text.isascii() and _HOST.fullmatch(text.lower()) is not None


def is_open(host: str) -> bool:
    """Whether it stands for many names."""
    return host.startswith("*")


def is_name(text: str) -> bool:
    """Whether it can be asked for and be proven: one DNS name, and no address."""
    return is_host(text) and not is_open(text) and not is_address(text)


def is_identity(text: str) -> bool:
    """Whether it is a workload's SPIFFE id."""
    if not text.startswith(SCHEME):
        return False
    try:
        Peer.of_uri(text)
    except ValueError:
        return False
    return True


def qualified(host: str, namespace: str) -> str:
    """Complete the name of a service of `namespace`; what has a dot, or is `*`, is complete."""
    host = host.lower()
    if "." in host or host == EVERYTHING:
        return host
    return f"{host}.{namespace}{SERVICES}"


def asked_for(authority: bytes, namespace: str) -> str:
    """Return the name that an authority means to a workload of `namespace`; an address means itself."""
    host = host_and_port(authority)[0].decode("ascii", "replace")
    if host.endswith(".svc") and host.count(".") == 2:
        return host.removesuffix(".svc") + SERVICES
    known = namespace != UNKNOWN and is_name(host)
    return qualified(host, namespace) if known else host


def namespace_of(host: str) -> str:
    """Return the namespace of a cluster's service; nothing for other names."""
    labels = host.removesuffix(SERVICES).split(".")
    return labels[1] if host.endswith(SERVICES) and len(labels) == 2 else ""


def covers(pattern: str, host: str) -> bool:
    """Whether a pattern is about a name, or about all that another pattern is about."""
    if pattern in (host, EVERYTHING):
        return True
    return pattern.startswith("*.") and host.endswith(pattern[1:])


def by_pattern(named: Iterable[tuple[Iterable[str], T]]) -> Mapping[str, Sequence[T]]:
    """Put things under each name and each pattern that is about one of their own, where `covers` would find them."""
    found: dict[str, list[T]] = {}
    for hosts, thing in named:
        for pattern in {each for host in hosts for each in patterns(host)}:
            found.setdefault(pattern, []).append(thing)
    return found


def patterns(host: str) -> Iterator[str]:
    """Give what `covers` a name, or all that a pattern is about, itself included."""
    yield from (host, EVERYTHING)
    at = host.find(".")
    while at >= 0:
        yield f"*{host[at:]}"
        at = host.find(".", at + 1)


@dataclass(frozen=True, slots=True)
class HostTable(Generic[T]):
    """Things by the name, or the pattern of names, that they are about."""

    by_host: Mapping[str, T]

    def find(self, hosts: Sequence[str]) -> T | None:
        """Return what is about one of several names of the same thing."""
        return self.by_host.get(self.nearest(hosts))

    def nearest(self, hosts: Sequence[str]) -> str:
        """Return by which key it is found: a whole name, else the longest pattern, else everything, be there none."""
        for host in hosts:
            if host in self.by_host:
                return host
        found = [pattern for host in hosts if (pattern := self._pattern(host))]
        return max(found, key=len) if found else EVERYTHING

    def _pattern(self, host: str) -> str:
        """Return the longest `*.suffix` that a name meets; nothing when it meets none."""
        at = host.find(".")
        while at >= 0:
            if (pattern := f"*{host[at:]}") in self.by_host:
                return pattern
            at = host.find(".", at + 1)
        return ""


def in_full(host: str, tables: Sequence[HostTable[Any]]) -> str:
    """Complete `reviews.default`, a service of another namespace, where only its whole name is known."""
    if host.count(".") != 1 or any(table.find((host,)) is not None for table in tables):
        return host
    # No pattern: `*.svc.cluster.local` would make a service of every name on the Internet.
    full = host + SERVICES
    return full if any(full in table.by_host for table in tables) else host
