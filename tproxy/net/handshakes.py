"""Bound the TLS handshakes that are under way: each holds memory for somebody who is not known yet."""

from types import TracebackType

import trio


class Handshakes:
    """Those of one worker. What changes: which there are.

    One too many ends the oldest: an honest peer takes milliseconds, so that is somebody who takes his time on purpose, and
    as many of those as there are places keep nobody else out.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._scopes: dict[trio.CancelScope, None] = {}

    def under_way(self, seconds: float) -> "UnderWay":
        """Have a handshake end after `seconds`, or earlier for another's sake; the scope tells whether that happened."""
        return UnderWay(self, trio.move_on_after(seconds))

    def begin(self, scope: trio.CancelScope) -> None:
        """Make room for one, and take it in."""
        if len(self._scopes) >= self._most:
            oldest = next(iter(self._scopes))
            del self._scopes[oldest]
            oldest.cancel()
        self._scopes[scope] = None

    def end(self, scope: trio.CancelScope) -> None:
        """Be done with one, if it was not ended already."""
        self._scopes.pop(scope, None)


class UnderWay:
    """One handshake among those: a block of its own, since a generator's takes twice the calls."""

    __slots__ = ("_handshakes", "_scope")

    def __init__(self, handshakes: Handshakes, scope: trio.CancelScope) -> None:
        self._handshakes = handshakes
        self._scope = scope

    def __enter__(self) -> trio.CancelScope:
        scope = self._scope.__enter__()
        self._handshakes.begin(scope)
        return scope

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._handshakes.end(self._scope)
        return self._scope.__exit__(kind, error, trace)
