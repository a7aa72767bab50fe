"""The one cell that holds the policies in force."""

import trio

from tproxy.policy.snapshot import Snapshot


class PolicyStore:
    """Only `swap` changes it, by one assignment: whoever took `current` keeps a whole snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.current = snapshot
        """Take it once per decision and pass it on."""
        self._swapped = trio.Event()

    def swap(self, snapshot: Snapshot) -> None:
        """Put `snapshot` in force, and wake whoever waits for that."""
        self.current = snapshot
        swapped, self._swapped = self._swapped, trio.Event()
        swapped.set()

    async def superseded(self) -> None:
        """Wait until `current` is another one."""
        await self._swapped.wait()
