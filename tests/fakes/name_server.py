"""A DNS server on loopback, over UDP and TCP, that knows what a test tells it."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import trio

from tproxy.discovery.resolver import Resolver


@dataclass
class NameServer:
    """What changes: what it knows, how it behaves, and what it was asked."""

    port: int
    records: dict[tuple[str, str], tuple[int, list[str]]] = field(default_factory=dict)
    """TTL and values, by name without its last dot, and kind."""
    aliases: dict[str, str] = field(default_factory=dict)
    silent: bool = False
    refuses: set[str] = field(default_factory=set)
    """Kinds of which it says that it cannot say."""
    truncates: bool = False
    asked: Counter[str] = field(default_factory=Counter)
    over_tcp: int = 0
    news: trio.Event = field(default_factory=trio.Event)

    def knows(self, name: str, kind: str, *values: str, ttl: int = 30) -> None:
        """Have it know records."""
        self.records[name, kind] = (ttl, list(values))

    def answer(self, wire: bytes, *, tcp: bool) -> bytes:
        """Answer a question as servers do, the end of a chain of names with it."""
        query = dns.message.from_wire(wire)
        response = dns.message.make_response(query)
        (question,) = query.question
        kind = dns.rdatatype.to_text(question.rdtype)
        name = question.name.to_text(omit_final_dot=True)
        self.asked[f"{name} {kind}"] += 1
        news, self.news = self.news, trio.Event()
        news.set()
        if kind in self.refuses:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif self.truncates and not tcp:
            response.flags |= dns.flags.TC
        else:
            self._fill(response, name, kind)
        return response.to_wire()

    def _fill(self, response: dns.message.Message, name: str, kind: str) -> None:
        while name in self.aliases:
            to = self.aliases[name]
            response.answer.append(dns.rrset.from_text(f"{name}.", 30, "IN", "CNAME", f"{to}."))
            name = to
        found = self.records.get((name, kind))
        if found:
            response.answer.append(dns.rrset.from_text(f"{name}.", found[0], "IN", kind, *found[1]))
        elif name not in {each for each, _ in self.records}:
            response.set_rcode(dns.rcode.NXDOMAIN)

    async def serve_udp(self, bound: trio.socket.SocketType) -> None:
        """Answer datagrams."""
        while True:
            wire, peer = await bound.recvfrom(4096)
            if not self.silent:
                await bound.sendto(self.answer(wire, tcp=False), peer)

    async def serve_tcp(self, stream: trio.SocketStream) -> None:
        """Answer what comes with a length before it."""
        self.over_tcp += 1
        head = await stream.receive_some(2)
        wire = self.answer(await stream.receive_some(int.from_bytes(head)), tcp=True)
        await stream.send_all(len(wire).to_bytes(2) + wire)

    def resolver(self, directory: Path, said: str = "", hosts: str = "") -> Resolver:
        """Make one that asks it, with more lines of resolv.conf and of the hosts file."""
        (directory / "resolv.conf").write_text(f"nameserver 127.0.0.1\n{said}\n")
        (directory / "hosts").write_text(hosts)
        return Resolver(directory / "resolv.conf", directory / "hosts", port=self.port)


@asynccontextmanager
async def name_server() -> AsyncIterator[NameServer]:
    """Run one."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as bound:
        await bound.bind(("127.0.0.1", port))
        async with trio.open_nursery() as nursery:
            server = NameServer(port)
            nursery.start_soon(server.serve_udp, bound)
            nursery.start_soon(trio.serve_listeners, server.serve_tcp, [listener])
            yield server
            nursery.cancel_scope.cancel()
