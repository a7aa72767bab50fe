"""What a codec tells, whichever way its bytes were cut."""

from collections.abc import Iterable, Sequence
from itertools import chain, pairwise

from tproxy.codec.codec import Codec
from tproxy.codec.events import Data, Ended, Event, ResponseStarted
from tproxy.model.http import NO_HEADERS


def joined(events: Iterable[Event]) -> list[Event]:
    """Join neighbouring parts of one body, apart from its head: where they were cut is nobody's business."""
    told: list[Event] = []
    for event in chain.from_iterable(map(_parted, events)):
        last = told[-1] if told else None
        if isinstance(event, Data) and isinstance(last, Data) and last.stream == event.stream:
            told[-1] = Data(event.stream, last.data + event.data, credit=last.credit + event.credit)
        else:
            told.append(event)
    return told


def _parted(event: Event) -> tuple[Event, ...]:
    """Tell a response that came whole as one that came in parts."""
    if not isinstance(event, ResponseStarted) or not event.content:
        return (event,)
    assert event.ended, "content comes with a head only if it is all of it"
    stream = event.stream
    part = Data(stream, event.content, credit=len(event.content))
    return ResponseStarted(stream, event.head, ended=False), part, Ended(stream, NO_HEADERS)


def feed(codec: Codec, data: bytes, cuts: Sequence[int] = ()) -> list[Event]:
    """Hand `data` to the codec, cut at the given places, and return all that it told."""
    places = sorted({0, *(cut for cut in cuts if 0 < cut < len(data)), len(data)})
    events: list[Event] = []
    for start, end in pairwise(places):
        events += codec.receive(data[start:end])
    return joined(events)
