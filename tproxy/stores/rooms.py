"""How many connections clusters may have, and who waits for one."""

import trio

from tproxy.model.cluster import UNBOUNDED, Bounds
from tproxy.model.outcome import ProxyError, ResponseFlag, UpstreamError

OVERFLOW = "upstream_reset_before_response_started{overflow}"


def overflow() -> UpstreamError:
    """Build the error for what a cluster's bounds have no room for."""
    return UpstreamError(ResponseFlag.OVERFLOW, OVERFLOW)


class Room:
    """One cluster's. What changes: the bounds, how many connections there are, who uses them and who waits to.

    A user holds a connection that nobody else may use meanwhile, as HTTP/1's are; one that leaves hands its place to
    whoever waits longest.
    """

    __slots__ = ("_queued", "_waiting", "bounds", "connections", "users")

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.connections = 0
        self.users = 0
        self._waiting = trio.lowlevel.ParkingLot()
        self._queued = 0
        """Those that wait for a share in a connection."""

    @property
    def waiting(self) -> int:
        """Count those that wait."""
        return len(self._waiting) + self._queued

    @property
    def full(self) -> bool:
        """Whether one more connection would be too many."""
        return self.connections >= self.bounds.connections

    @property
    def empty(self) -> bool:
        """Whether nobody knows of it any more."""
        return not (self.connections or self.users or self.waiting)

    async def enter(self) -> None:
        """Become a user, as soon as there is a place; `leave` is owed for it."""
        if self.users < self.bounds.connections:
            self.users += 1
            return
        self._refuse_more()
        await self._waiting.park()

    async def queue(self, lot: trio.lowlevel.ParkingLot) -> None:
        """Wait in `lot` for a share in a connection that others use too."""
        self._refuse_more()
        self._queued += 1
        try:
            await lot.park()
        finally:
            self._queued -= 1

    def _refuse_more(self) -> None:
        if self.waiting >= self.bounds.pending:
            raise overflow()

    def leave(self) -> None:
        """Be a user no more."""
        if self.users > self.bounds.connections or not self._waiting.unpark():
            self.users -= 1

    def left(self, _: ProxyError | None) -> None:
        """Be a user no more, whatever an exchange came to."""
        self.leave()

    def vacate(self) -> None:
        """Have one connection less."""
        self.connections -= 1

    def resize(self, bounds: Bounds) -> None:
        """Take other bounds, and let in who has room now."""
        self.bounds = bounds
        while self.users < bounds.connections and self._waiting.unpark():
            self.users += 1


class Rooms:
    """Those of all clusters that have a bound, by name. What changes: which there are."""

    def __init__(self) -> None:
        self._rooms: dict[str, Room] = {}

    def of(self, cluster: str, bounds: Bounds) -> Room | None:
        """Find or make a cluster's, of the bounds that hold now; None where connections have no bound."""
        room = self.find(cluster, bounds)
        if room is not None and room.bounds is not bounds:
            room.resize(bounds)
        return room

    def find(self, cluster: str, bounds: Bounds) -> Room | None:
        """Find or make a cluster's for what may follow earlier policies: one that is there stays as it is."""
        room = self._rooms.get(cluster)
        if room is None:
            if bounds.connections >= UNBOUNDED:
                return None
            self._forget_empty()
            room = self._rooms[cluster] = Room(bounds)
        return room

    def waiting(self, cluster: str) -> int:
        """Count the requests that wait for a connection of the cluster's."""
        room = self._rooms.get(cluster)
        return room.waiting if room else 0

    def _forget_empty(self) -> None:
        for name in [name for name, room in self._rooms.items() if room.empty]:
            del self._rooms[name]
