"""What either side says first about how much it takes (RFC 9113, 3.4)."""

from h2.settings import SettingCodes

from tproxy.codec import h2_frames as frames
from tproxy.codec.h2_window import DEFAULT_WINDOW, LARGEST_WINDOW, OPENING_WINDOW
from tproxy.model.limits import Limits

MIN_FRAME_BYTES = 16384
"""What MAX_FRAME_SIZE may not be below (RFC 9113, 6.5.2)."""


def connection_window(limits: Limits, *, client: bool) -> int:
    """Say how much all streams together may send us.

    An upstream's connection is shared by downstreams that know nothing of each other: one whose reader is slow must not
    take the others' share. What all of them together can hold is bounded by what their windows open with and may grow.
    """
    shared = limits.streams * limits.stream_window if client else limits.connection_window
    return min(max(DEFAULT_WINDOW, shared), LARGEST_WINDOW)


def opening_window(limits: Limits, *, client: bool) -> int:
    """Say how much a stream may send us to begin with."""
    return min(limits.stream_window, OPENING_WINDOW) if client else limits.stream_window


def frame_bytes(limits: Limits) -> int:
    """Say how large a frame we take."""
    return max(MIN_FRAME_BYTES, limits.part_bytes)


def settings(limits: Limits, *, client: bool) -> dict[SettingCodes, int]:
    """Return our settings."""
    common = {
        SettingCodes.INITIAL_WINDOW_SIZE: opening_window(limits, client=client),
        SettingCodes.MAX_FRAME_SIZE: frame_bytes(limits),
        SettingCodes.MAX_HEADER_LIST_SIZE: limits.head_bytes,
    }
    if client:
        return common | {SettingCodes.ENABLE_PUSH: 0}
    return common | {
        SettingCodes.MAX_CONCURRENT_STREAMS: limits.streams,
        SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,
    }


def greeting(limits: Limits, *, client: bool) -> bytes:
    """Write the preface, the settings, and what the connection's window is to be."""
    said = settings(limits, client=client)
    payload = b"".join(frames.SETTING.pack(code, value) for code, value in said.items())
    greeting = (frames.PREFACE if client else b"") + frames.write(frames.SETTINGS, 0, 0, payload)
    more = connection_window(limits, client=client) - DEFAULT_WINDOW
    return greeting + (frames.window_update(0, more) if more else b"")
