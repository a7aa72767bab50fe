"""The fields of one HTTP/1 head, parted as its parser tells them: those that go on, and those that are read here."""

from typing import Final

from tproxy.codec.headers import HOP_BY_HOP, list_of, withdrawn
from tproxy.model.http import Field, Headers

_READ_HERE: Final = HOP_BY_HOP | {b"content-length", b"host"}
_TAKES_NOTHING: Final = HOP_BY_HOP | {b"close"}
"""What Connection may list without taking a field away that would go on."""
_USUAL: Final = {
    value: list_of(value)
    for value in (b"keep-alive", b"Keep-Alive", b"close", b"Close", b"upgrade", b"Upgrade")
}
"""What Connection lists nearly always."""


class Fields:
    """What a head says below its first line. What changes: which fields were told so far."""

    __slots__ = ("ended", "here", "index", "onward")

    def __init__(self) -> None:
        self.onward: list[Field] = []
        """Those that may go on to the next hop, in order."""
        self.index: dict[bytes, bytes] = {}
        """The same by their names in lower case, as `Headers` looks them up."""
        self.here: dict[bytes, bytes] = {}
        """Those that are read here, by their names in lower case; several of one name are joined by a comma."""
        self.ended = 0
        """How many end here."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one more field. The name is llhttp's, which leaves the blanks behind a value to us.

        No control byte but a tab is left in a head, so nothing else is stripped.
        """
        value = value.rstrip()
        lower = name.lower()
        if lower in _READ_HERE:
            here = self.here
            here[lower] = here[lower] + b", " + value if lower in here else value
            if lower in HOP_BY_HOP:
                self.ended += 1
                return
        self.onward.append((name, value))
        index = self.index
        index[lower] = index[lower] + b", " + value if lower in index else value

    def options(self) -> frozenset[bytes]:
        """Return what Connection lists, in lower case."""
        connection = self.here.get(b"connection")
        return _USUAL.get(connection or b"") or list_of(connection)

    def end_to_end(self, options: frozenset[bytes]) -> Headers:
        """Return what goes on to the next hop; of TE only `trailers`, which gRPC needs."""
        headers = Headers(self.onward, self.index)
        if not options <= _TAKES_NOTHING:
            headers = headers.without(withdrawn(options))
        if b"te" in self.here and b"trailers" in list_of(self.here[b"te"]):
            headers = headers.with_value(b"te", b"trailers")
        return headers
