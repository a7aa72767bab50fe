"""The clusters at work: who their endpoints are at the moment, and what their machines remember over reloads.

No source that fails ever takes an endpoint away: what was found last holds until something else is found.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping

import trio

from tproxy.model.address import Address
from tproxy.model.cluster import UNBOUNDED, Cluster, Dns, Endpoint, Static
from tproxy.resilience.balance import Balancer
from tproxy.resilience.breaker import Breaker
from tproxy.resilience.concurrency import Concurrency, ConcurrencySpec
from tproxy.resilience.fraction import Random
from tproxy.resilience.outlier import OutlierDetection
from tproxy.resilience.retry_budget import RetryBudget
from tproxy.stores.picked import Judges, Load, Member, Picked
from tproxy.stores.rooms import Rooms, overflow

UNUSED_SECONDS = 900.0
"""How long a cluster is kept that nothing is sent to: longer than ejections last that policies commonly ask for."""

MOST_CLUSTERS = 4096
"""Clusters that are kept though nothing is under way in them: policies name fewer, and each holds some KiB."""

MOST_DESTINATIONS = 1024
"""Original destinations of one cluster whose health is remembered while nothing is under way to them."""

NOBODY: frozenset[Address] = frozenset()


class LiveCluster:
    """One cluster. What changes: what is said of it, its endpoints, and what its machines remember."""

    def __init__(self, spec: Cluster, random: Random) -> None:
        self.spec = spec
        self.generation = 0
        """Of the policies that say so."""
        self.known = trio.Event()
        """Whether its endpoints have been looked for once."""
        self.failure = ""
        """Why the last look failed, if it did."""
        self.used = 0.0
        self.budget = RetryBudget(spec.retry_budget)
        self.retries = _retries(spec)
        """How many are under way."""
        self._random = random
        self._load = Load()
        self._found: tuple[Endpoint, ...] = ()
        self._members: dict[Address, Member] = {}
        self._shut: dict[Address, Breaker] = {}
        """Those that are not closed."""
        self._balancer: Balancer[Address] = Balancer(spec.balancer, random)
        self._outlier = self._detection()

    @property
    def endpoints(self) -> Mapping[Address, Endpoint]:
        """Who they are at the moment."""
        return {address: member.endpoint for address, member in self._members.items()}

    def has(self, address: Address) -> bool:
        """Whether an address is one of them."""
        return address in self._members

    @property
    def members(self) -> Collection[Member]:
        """The endpoints at work."""
        return self._members.values()

    @property
    def active(self) -> int:
        """How many requests and connections are under way."""
        return self._load.active

    def adopt(self, spec: Cluster, now: float) -> None:
        """Do as another spec says from now on; a machine that it says nothing new to goes on as it was."""
        before, self.spec = self.spec, spec
        if spec == before:
            return
        self._adopt_machines(before, spec)
        if spec.origin != before.origin:
            known, self.known = self.known, trio.Event()
            known.set()
        self._settle(now)

    def _adopt_machines(self, before: Cluster, spec: Cluster) -> None:
        if spec.balancer != before.balancer:
            self._balancer = Balancer(spec.balancer, self._random)
        if spec.outlier != before.outlier:
            self._outlier = self._detection()
        if spec.breaker != before.breaker:
            self._shut = {}
            for member in self._members.values():
                member.breaker = self._breaker()
        if spec.retry_budget != before.retry_budget:
            self.budget = RetryBudget(spec.retry_budget)
        if spec.bounds.retries != before.bounds.retries:
            self.retries = _retries(spec)

    def update(self, endpoints: Iterable[Endpoint], now: float) -> None:
        """Take the present endpoints of the host; those that stay keep what is known of them."""
        self.failure = ""
        before, self._found = self._found, tuple(endpoints)
        # Servers may give the same in another order each time.
        if not self.known.is_set() or set(before) != set(self._found):
            self._settle(now)
        self.known.set()

    def fail(self, why: str, now: float) -> None:
        """Take it that endpoints could not be looked for: those that were found last stay."""
        self.failure = why
        if not self.known.is_set():
            # They are what an earlier spec led to, which policies name no more.
            self._found = ()
            self._settle(now)
            self.known.set()

    def _settle(self, now: float) -> None:
        before = self._members
        self._members = {}
        # Nothing is known of an original destination but its address.
        chosen = self._found if self.spec.origin is None else filter(self.spec.has, self._found)
        for endpoint in chosen:
            member = before.get(endpoint.address) or Member(endpoint, self._breaker())
            member.endpoint = endpoint
            self._members[endpoint.address] = member
        self._shut = {each: self._shut[each] for each in self._shut if each in self._members}
        if self._outlier:
            self._outlier.update(self._members)
        weights = {address: each.endpoint.weight for address, each in self._members.items()}
        self._balancer.update(weights, now)

    def pick(
        self, now: float, *, tried: Collection[Address] = (), key: int | None = None
    ) -> Picked | None:
        """Choose an endpoint; None when there is none that may be asked. `done` is owed for it."""
        self.used = now
        balancer, unhealthy = self._balancer, self.unhealthy(now)
        refused: list[Address] = []
        # More than one turn only where the balancer, in need, makes use of those that breakers refuse.
        while True:
            avoided = (*tried, *refused) if refused else tried
            address = balancer.pick(now, unhealthy=unhealthy, tried=avoided, key=key)
            if address is None:
                return None
            picked = self._picked(self._members[address], balancer, now)
            if picked is not None:
                return picked
            balancer.done(address)
            if address in refused:
                return None
            refused.append(address)

    def ask(self, endpoint: Endpoint, now: float) -> Picked | None:
        """Ask the one endpoint that there is to choose, the original destination; None when it may not be asked."""
        self.used = now
        if endpoint.address not in self._members:
            kept = (each.endpoint for each in self._members.values() if self._keeps(each))
            self.update((*kept, endpoint), now)
        if endpoint.address in self.unhealthy(now):
            return None
        member = self._members[endpoint.address]
        # How it is secured may depend on what is asked of it.
        member.endpoint = endpoint
        return self._picked(member, None, now)

    def _keeps(self, member: Member) -> bool:
        """Whether to remember an original destination when there is another one."""
        return member.active > 0 or len(self._members) < MOST_DESTINATIONS

    def _picked(
        self, member: Member, balancer: Balancer[Address] | None, now: float
    ) -> Picked | None:
        breaker = member.breaker
        term = 0 if breaker is None else breaker.admit(now)
        if term is None:
            return None
        if breaker is not None:
            self._look(member, breaker)
        return Picked(member, Judges(balancer, self._outlier, self._load, self._look), term)

    def admit(self) -> None:
        """Refuse one more request than the bounds allow."""
        if self._load.active >= self.spec.bounds.requests:
            raise overflow()

    def unhealthy(self, now: float) -> frozenset[Address]:
        """Name those that get nothing: the ejected, and those whose breaker lets nothing through."""
        ejected = self._outlier.avoided(now) if self._outlier else NOBODY
        if not self._shut:
            return ejected
        return ejected | {each for each, breaker in self._shut.items() if breaker.refuses(now)}

    def ejected(self, now: float) -> frozenset[Address]:
        """Name those that outlier detection has taken out."""
        return self._outlier.ejected(now) if self._outlier else NOBODY

    def _look(self, member: Member, breaker: Breaker) -> None:
        """Note whether a breaker is closed, if it still stands before a present endpoint."""
        address = member.endpoint.address
        if self._members.get(address) is member and member.breaker is breaker:
            if breaker.closed:
                self._shut.pop(address, None)
            else:
                self._shut[address] = breaker

    def _breaker(self) -> Breaker | None:
        return Breaker(self.spec.breaker, self._random) if self.spec.breaker else None

    def _detection(self) -> OutlierDetection[Address] | None:
        return OutlierDetection(self.spec.outlier, self._members) if self.spec.outlier else None


def _retries(spec: Cluster) -> Concurrency:
    """Bound the retries at once; Istio takes 0 for no bound."""
    return Concurrency(ConcurrencySpec(spec.bounds.retries or UNBOUNDED))


class Clusters:
    """All of them, by name. What changes: which there are, and what was found under names."""

    def __init__(self, random: Random) -> None:
        self.rooms = Rooms()
        """How many connections each may have."""
        self._random = random
        self._live: dict[str, LiveCluster] = {}
        self._answers: dict[Dns, tuple[Endpoint, ...]] = {}
        self._failures: dict[Dns, str] = {}
        """Why the last looks that failed did."""
        self._changed = trio.Event()

    def __iter__(self) -> Iterator[LiveCluster]:
        """Give all of them."""
        return iter(self._live.values())

    def of(self, spec: Cluster, now: float, generation: int = 0) -> LiveCluster:
        """Return the cluster that does what `spec` says, with all that is remembered of its name.

        A spec of policies before those that it follows already changes nothing.
        """
        live = self._live.get(spec.name)
        if live is not None and live.spec is spec:
            return live
        return self._adopted(live, spec, now, generation)

    def _adopted(
        self, live: LiveCluster | None, spec: Cluster, now: float, generation: int
    ) -> LiveCluster:
        if live is None:
            live = self._live[spec.name] = LiveCluster(spec, self._random)
            live.used = now
        elif generation < live.generation:
            return live
        else:
            live.adopt(spec, now)
        live.generation = generation
        if not live.known.is_set():
            self._look_for_endpoints(live, now)
        return live

    def _look_for_endpoints(self, live: LiveCluster, now: float) -> None:
        origin = live.spec.origin
        if isinstance(origin, Static):
            live.update(origin.endpoints, now)
        elif origin is None:
            live.update((), now)
        else:
            found, failure = self._answers.get(origin), self._failures.get(origin)
            if found is not None:
                live.update(found, now)
            if failure is not None:
                live.fail(failure, now)
        self._tell_change()

    def get(self, name: str) -> LiveCluster | None:
        """Return the cluster of a name, if it is at work."""
        return self._live.get(name)

    def serves(self, name: str, address: Address) -> bool:
        """Whether an address is an endpoint of a cluster."""
        live = self._live.get(name)
        return live is not None and live.has(address)

    @property
    def origins(self) -> set[Dns]:
        """What endpoints have to be looked for under."""
        return {each.spec.origin for each in self if isinstance(each.spec.origin, Dns)}

    async def changed(self) -> None:
        """Wait until `origins` may be others."""
        await self._changed.wait()

    def found(self, origin: Dns, endpoints: tuple[Endpoint, ...], now: float) -> None:
        """Take what was found under names."""
        self._answers[origin] = endpoints
        self._failures.pop(origin, None)
        for live in self:
            if live.spec.origin == origin:
                live.update(endpoints, now)

    def fail(self, origin: Dns, why: str, now: float) -> None:
        """Take it that nothing could be found out about names; what was found last holds."""
        self._failures[origin] = why
        for live in self:
            if live.spec.origin == origin:
                live.fail(why, now)

    def sweep(self, now: float) -> None:
        """Drop clusters that nothing has been sent to for long, and those that are too many."""
        many = len(self._live) - MOST_CLUSTERS
        resting = sorted((each for each in self if not each.active), key=lambda each: each.used)
        dropped = [
            live.spec.name
            for order, live in enumerate(resting)
            if order < many or now - live.used > UNUSED_SECONDS
        ]
        for name in dropped:
            del self._live[name]
        if dropped:
            origins = self.origins
            for remembered in (self._answers, self._failures):
                for origin in remembered.keys() - origins:
                    del remembered[origin]
            self._tell_change()

    def _tell_change(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()
