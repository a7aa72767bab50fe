"""Bound the TLS handshakes that are under way: each holds memory for somebody who is not known yet."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio


class Handshakes:
    """Those of one worker. What changes: which there are.

    One too many ends the oldest: an honest peer takes milliseconds, so that is somebody who takes his time on purpose, and
    as many of those as there are places keep nobody else out.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._scopes: dict[trio.CancelScope, None] = {}

    @contextmanager
    def under_way(self, seconds: float) -> Iterator[trio.CancelScope]:
        """Have a handshake end after `seconds`, or earlier for another's sake; the scope tells whether that happened."""
        with trio.move_on_after(seconds) as scope:
            if len(self._scopes) >= self._most:
                self._evict(next(iter(self._scopes)))
            self._scopes[scope] = None
            try:
                yield scope
            finally:
                self._scopes.pop(scope, None)

    def _evict(self, scope: trio.CancelScope) -> None:
        del self._scopes[scope]
        scope.cancel()
