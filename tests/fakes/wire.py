"""What a codec tells, whichever way its bytes were cut."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from tproxy.codec.codec import Codec
from tproxy.codec.events import Data, Event


def joined(events: Iterable[Event]) -> list[Event]:
    """Join neighbouring parts of one body: where they were cut is nobody's business."""
    told: list[Event] = []
    for event in events:
        last = told[-1] if told else None
        if isinstance(event, Data) and isinstance(last, Data) and last.stream == event.stream:
            told[-1] = Data(event.stream, last.data + event.data, credit=last.credit + event.credit)
        else:
            told.append(event)
    return told


def feed(codec: Codec, data: bytes, cuts: Sequence[int] = ()) -> list[Event]:
    """Hand `data` to the codec, cut at the given places, and return all that it told."""
    places = sorted({0, *(cut for cut in cuts if 0 < cut < len(data)), len(data)})
    events: list[Event] = []
    for start, end in pairwise(places):
        events += codec.receive(data[start:end])
    return joined(events)
