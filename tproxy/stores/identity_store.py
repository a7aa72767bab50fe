"""The one cell that holds the identity that this workload shows."""

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:  # OpenSSL takes 11 MiB, which only a workload with an identity is to pay for
    from tproxy.tls.credentials import Credentials


class BadIdentity(Exception):
    """Why files are no identity: which one, what is wrong with it, what to do."""


class IdentityStore:
    """Only `swap` changes it: handshakes that have begun go on with what they began with."""

    def __init__(self, credentials: "Credentials") -> None:
        self.current = credentials
        self.issue = 1
        """Counts the identities there were; connections that were made under another are told apart by it."""
        self._swapped = trio.Event()

    def swap(self, credentials: "Credentials") -> None:
        """Show another issue from now on, and wake whoever waits for that."""
        self.current = credentials
        self.issue += 1
        swapped, self._swapped = self._swapped, trio.Event()
        swapped.set()

    async def superseded(self) -> None:
        """Wait until `current` is another one."""
        await self._swapped.wait()
