"""Ask for names as the pod's resolv.conf and hosts file say; dnspython is imported by the first question."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import trio

from tproxy.discovery.hosts import host_names, is_address
from tproxy.discovery.source import NotFound, Result

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver as Asking
    from dns.resolver import Answer as Answered

RESOLV_CONF = Path("/etc/resolv.conf")
HOSTS = Path("/etc/hosts")
LOCAL = "127.0.0.1"
HOSTS_BYTES = 1048576
"""As much of the hosts file as is read."""
HOSTS_SECONDS = 5.0
"""How long its answers hold: Kubernetes writes it when the pod begins, and people by hand."""
LOOK_SECONDS = 5.0
"""A whole look for one name, all servers and attempts together."""
MOST_QUESTIONS = 64
"""Questions at once: each takes a descriptor, and after new policies all names are looked up together."""
MOST_RECORDS = 1000
"""Records of one answer that are used: each becomes an endpoint."""


class Service(msgspec.Struct, frozen=True):
    """Where an SRV record leads."""

    priority: int
    weight: int
    port: int
    target: str


class Answer(msgspec.Struct, frozen=True):
    """Addresses, and how long they hold."""

    addresses: tuple[str, ...]
    seconds: float


class Services(msgspec.Struct, frozen=True):
    """Where to go instead, and how long that holds."""

    services: tuple[Service, ...]
    seconds: float


class Resolver:
    """Asks the servers that resolv.conf names at the moment."""

    def __init__(
        self, resolv_conf: Path = RESOLV_CONF, hosts: Path = HOSTS, *, port: int = 53
    ) -> None:
        self._resolv_conf = resolv_conf
        self._hosts = hosts
        self._port = port
        self._turns = trio.CapacityLimiter(MOST_QUESTIONS)

    async def addresses(self, name: str, kind: str) -> Answer:
        """Find a name's addresses; `kind` is A or AAAA."""
        known = (name,) if is_address(name) else self._in_hosts_file(name)
        if known:
            chosen = tuple(each for each in known if (":" in each) is (kind == "AAAA"))
            if not chosen:
                raise NotFound(Result.EMPTY, f"no {kind} for {name} in {self._hosts}")
            return Answer(chosen, HOSTS_SECONDS)
        answer = await self._asked(name, kind)
        found = tuple(str(each.address) for each in answer)[:MOST_RECORDS]
        return Answer(found, answer.chaining_result.minimum_ttl)

    async def services(self, name: str) -> Services:
        """Find the SRV records of a name."""
        answer = await self._asked(name, "SRV")
        found = (
            Service(each.priority, each.weight, each.port, each.target.to_text()) for each in answer
        )
        return Services(tuple(found)[:MOST_RECORDS], answer.chaining_result.minimum_ttl)

    def _in_hosts_file(self, name: str) -> tuple[str, ...]:
        text = ""
        with suppress(OSError), self._hosts.open("rb") as file:  # whoever has none asks the servers
            text = file.read(HOSTS_BYTES).decode("utf-8", "replace")
        return host_names(text).get(name.rstrip(".").lower(), ())

    async def _asked(self, name: str, kind: str) -> "Answered":
        try:
            import dns.exception  # noqa: PLC0415  (2 MiB that only those pay for who ask)
            import dns.resolver  # noqa: PLC0415
        except ImportError as missing:
            why = f"{missing}: is dnspython installed where the sidecar's user can read it?"
            raise NotFound(Result.FAILED, why) from missing
        try:
            # By trio's clock: dnspython's own measure is the wall's, which may jump.
            async with self._turns:
                with trio.fail_after(LOOK_SECONDS):
                    return await self._asking().resolve(
                        name, kind, search=True, lifetime=LOOK_SECONDS
                    )
        except dns.resolver.NXDOMAIN as absent:
            raise NotFound(Result.ABSENT, f"{name}: no such name") from absent
        except dns.resolver.NoAnswer as empty:
            raise NotFound(Result.EMPTY, f"{name}: no {kind}") from empty
        except (dns.exception.Timeout, trio.TooSlowError) as late:
            raise NotFound(Result.TIMEOUT, f"{name}: no answer in time") from late
        except (dns.exception.DNSException, OSError, ValueError) as failure:
            # The last for a resolv.conf, or a name, that is no text of DNS's.
            raise NotFound(Result.FAILED, f"{name}: {failure}") from failure

    def _asking(self) -> "Asking":
        import dns.asyncresolver  # noqa: PLC0415

        asking = dns.asyncresolver.Resolver(configure=False)
        try:
            asking.read_resolv_conf(str(self._resolv_conf))
        except dns.resolver.NoResolverConfiguration:
            # A file that names no server, or is not there, means the one of this machine: resolv.conf(5).
            asking.nameservers = [LOCAL]
        asking.port = self._port
        return asking
