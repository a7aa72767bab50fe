"""Endpoints that names lead to, looked up again when answers have served their time.

What a name led to last holds until it leads elsewhere: servers that fail, and names that vanish, change nothing.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Protocol

import trio

from tproxy.discovery.resolver import Answer, Service, Services
from tproxy.discovery.source import NotFound, Result
from tproxy.model.address import Address
from tproxy.model.cluster import Dns, DnsName, Endpoint
from tproxy.resilience.fraction import Random

LEAST_SECONDS = 1.0
"""A TTL of 0 is no reason to ask with every request."""
MOST_SECONDS = 300.0
"""However long a TTL is: people who move a service wait for no longer."""
JITTER = 0.1
"""Of the time between two looks: sidecars that began together do not ask together for ever."""
FIRST_BACK_OFF, LONGEST_BACK_OFF = 1.0, 60.0
"""Between looks that fail: doubled each time."""
KINDS = ("A", "AAAA")
MOST_TARGETS = 100
"""Names of one SRV answer that are looked up."""
MOST_ENDPOINTS = 1000
"""Of one origin: answers may name a hundred times as many, and each look at them would hold up all that is carried."""
CERTAIN = (Result.ABSENT, Result.EMPTY)
"""What says that there is nothing, and not that nobody knows."""


class Asks(Protocol):
    """Whoever knows names."""

    async def addresses(self, name: str, kind: str) -> Answer:
        """Find a name's addresses of one family, or raise NotFound."""

    async def services(self, name: str) -> Services:
        """Find the SRV records of a name, or raise NotFound."""


class DnsSource:
    """One origin's names. What changes: what each led to last, and when to look again."""

    def __init__(self, origin: Dns, asks: Asks, random: Random) -> None:
        self._origin = origin
        self._asks = asks
        self._random = random
        self._last: dict[DnsName, tuple[Endpoint, ...]] = {}
        self._families: dict[str, dict[str, Answer]] = {}
        """What each host had last, by family."""
        self._wait = 0.0
        self._failures = 0

    async def endpoints(self) -> tuple[Endpoint, ...]:
        """Wait until the last answers have served their time, and look again."""
        await trio.sleep(self._wait)
        looks = await self._look_all()
        failed = [each for each in looks.values() if isinstance(each, NotFound)]
        times = [each for each in looks.values() if not isinstance(each, NotFound)]
        self._failures = self._failures + 1 if failed else 0
        if failed:
            back_off = FIRST_BACK_OFF * 2 ** min(self._failures - 1, 10)
            times.append(min(back_off, LONGEST_BACK_OFF))
        seconds = min(max(min(times), LEAST_SECONDS), MOST_SECONDS)
        self._wait = seconds * (1 + JITTER * self._random())
        if len(failed) == len(looks):
            raise failed[0]
        found = (each for name in self._origin.names for each in self._last.get(name, ()))
        return tuple(islice(found, MOST_ENDPOINTS))

    async def _look_all(self) -> Mapping[DnsName, float | NotFound]:
        looks: dict[DnsName, float | NotFound] = {}

        async def look(name: DnsName) -> None:
            try:
                looks[name] = await self._look(name)
            except NotFound as failure:
                looks[name] = failure

        async with trio.open_nursery() as nursery:
            for name in self._origin.names:
                nursery.start_soon(look, name)
        return looks

    async def _look(self, name: DnsName) -> float:
        """Find where a name leads, and say how long that holds."""
        find = self._find_services if name.name.startswith("_") else self._find_addresses
        found, seconds = await find(name)
        self._last[name] = found[:1] if self._origin.first_only else found
        return seconds

    async def _find_addresses(self, name: DnsName) -> tuple[tuple[Endpoint, ...], float]:
        answer = await self._host(name.name)
        addresses = answer.addresses[:MOST_ENDPOINTS]
        return tuple(name.at(Address.of(each, name.port)) for each in addresses), answer.seconds

    async def _find_services(self, name: DnsName) -> tuple[tuple[Endpoint, ...], float]:
        """Follow the SRV records of the lowest priority: others are for when there is none of these."""
        answer = await self._asks.services(name.name)
        lowest = min(each.priority for each in answer.services)
        chosen = [each for each in answer.services if each.priority == lowest][:MOST_TARGETS]
        hosts: dict[str, Answer] = {}
        failures: list[NotFound] = []

        async def look(target: str) -> None:
            try:
                hosts[target] = await self._host(target)
            except NotFound as failure:
                failures.append(failure)
                if failure.result not in CERTAIN and target in self._families:
                    hosts[target] = _joined(self._families[target], LEAST_SECONDS)

        async with trio.open_nursery() as nursery:
            for target in {each.target for each in chosen}:
                nursery.start_soon(look, target)
        if not hosts:
            raise failures[0]
        self._families = {each: self._families[each] for each in hosts}
        seconds = min(answer.seconds, *(each.seconds for each in hosts.values()))
        return tuple(islice(_served(name, chosen, hosts), MOST_ENDPOINTS)), seconds

    async def _host(self, host: str) -> Answer:
        """Find the addresses of a host, both families together.

        A family of which nobody knows keeps what it had; one that is certainly not there has nothing.
        """
        answers: dict[str, Answer] = {}
        failures: dict[str, NotFound] = {}

        async def ask(kind: str) -> None:
            try:
                answers[kind] = await self._asks.addresses(host, kind)
            except NotFound as failure:
                failures[kind] = failure

        async with trio.open_nursery() as nursery:
            for kind in KINDS:
                nursery.start_soon(ask, kind)
        if not answers:
            uncertain = [each for each in failures.values() if each.result not in CERTAIN]
            raise (uncertain or [failures["A"]])[0]
        before = self._families.get(host, {})
        for kind, failure in failures.items():
            if failure.result not in CERTAIN and kind in before:
                answers[kind] = before[kind]
        self._families[host] = answers
        return _joined(answers, min(each.seconds for each in answers.values()))


def _joined(answers: Mapping[str, Answer], seconds: float) -> Answer:
    both = (each for kind in KINDS if kind in answers for each in answers[kind].addresses)
    return Answer(tuple(both), seconds)


def _served(
    name: DnsName, services: list[Service], hosts: Mapping[str, Answer]
) -> Iterator[Endpoint]:
    for each in services:
        if each.target in hosts:
            for address in hosts[each.target].addresses:
                # A weight of 0 gets little beside others (RFC 2782); a balancer's least is 1.
                yield name.at(Address.of(address, each.port), max(each.weight, 1))
