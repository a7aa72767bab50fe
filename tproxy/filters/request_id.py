"""Give every request an id before anything is decided about it, since some decisions are drawn from it."""

import os

from msgspec.structs import replace

from tproxy.model.http import Request
from tproxy.telemetry.trace import identified

ID_BYTES = 16
RANDOM_BYTES = 4096
"""What is asked of the kernel at once: a system call for each request would be a fifth of all."""


class RandomIds:
    """Gives 128 random bits at a time. What changes: which of the kernel's are left."""

    __slots__ = ("_at", "_octets")

    def __init__(self) -> None:
        self._octets = b""
        self._at = 0

    def next(self) -> int:
        """Return bits that were not given before."""
        at = self._at
        if at == len(self._octets):
            self._octets, at = os.urandom(RANDOM_BYTES), 0
        self._at = at + ID_BYTES
        return int.from_bytes(self._octets[at : self._at])


class RequestIds:
    """Gives ids to requests that have none."""

    def __init__(self) -> None:
        self._new_id = RandomIds().next

    def identified(self, request: Request) -> Request:
        """Return the request with its id."""
        head = request.head
        headers = identified(head.headers, self._new_id)
        if headers is head.headers:
            return request
        return replace(request, head=replace(head, headers=headers))
