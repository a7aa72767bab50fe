"""A real h2 machine in the opposite role of a codec, joined to it in memory."""

from collections.abc import Iterable, Mapping

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event as Heard
from h2.settings import SettingCodes, Settings

from tproxy.codec.codec import Codec
from tproxy.codec.events import Event
from tproxy.model.http import Field

GET: tuple[Field, ...] = (
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":authority", b"shop.example"),
    (b":path", b"/"),
)
POST: tuple[Field, ...] = ((b":method", b"POST"), *GET[1:])
OK: tuple[Field, ...] = ((b":status", b"200"),)


class H2Peer:
    """What changes: both machines, and what this one has heard."""

    def __init__(
        self,
        codec: Codec,
        *,
        client: bool,
        settings: Mapping[SettingCodes, int] | None = None,
        greet: bool = True,
    ) -> None:
        self.codec = codec
        self.heard: list[Heard] = []
        # It neither checks nor mends what a test has it say.
        self.h2 = H2Connection(
            H2Configuration(
                client_side=client,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.h2.local_settings = Settings(client=client, initial_values=dict(settings or {}))
        self.h2.initiate_connection()
        if greet:
            self.pump()

    def pump(self) -> list[Event]:
        """Carry bytes both ways until both are silent, and return what the codec told."""
        told: list[Event] = []
        while True:
            said, answer = self.h2.data_to_send(), self.codec.outbox()
            if not said and not answer:
                return told
            if answer:
                self.heard += self.h2.receive_data(answer)
            if said:
                told += self.codec.receive(said)

    def listen(self) -> list[Heard]:
        """Take what the codec says without saying anything, and return that alone."""
        heard = self.h2.receive_data(self.codec.outbox())
        self.heard += heard
        return heard

    def request(self, fields: Iterable[Field] = GET, *, ended: bool = True) -> int:
        """Open a stream; the bytes leave with the next pump."""
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, list(fields), end_stream=ended)
        return number


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Write any frame at all."""
    return (
        len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
    )


def block(fields: Iterable[Field]) -> bytes:
    """Write a field block in literals only, so that it means the same wherever it stands."""
    return b"".join(
        b"\0" + len(name).to_bytes() + name + len(value).to_bytes() + value
        for name, value in fields
    )
