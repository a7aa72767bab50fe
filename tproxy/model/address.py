"""Where a TCP connection comes from or goes to."""

from ipaddress import IPv6Address
from typing import Self

import msgspec


class Address(msgspec.Struct, frozen=True):
    """A numeric IP address and a port; IPv4 is always written as IPv4, never v4-mapped."""

    host: str
    port: int

    @classmethod
    def of(cls, host: str, port: int) -> Self:
        """Take `host` as a socket reports it: scope ids are dropped, `::ffff:192.0.2.1` becomes `192.0.2.1`."""
        if host.startswith("::ffff:") and "." in host:
            host = host[7:]
        elif ":" in host:
            parsed = IPv6Address(host.partition("%")[0])
            host = str(parsed.ipv4_mapped or parsed)
        return cls(host, port)

    @property
    def is_ipv6(self) -> bool:
        """Whether the address needs an AF_INET6 socket."""
        return ":" in self.host

    def __str__(self) -> str:
        """`192.0.2.1:80` or `[2001:db8::1]:80`, as logs write it."""
        return f"[{self.host}]:{self.port}" if self.is_ipv6 else f"{self.host}:{self.port}"
