"""What comes of the bytes of an HTTP/2 connection: frames, and what they mean to a client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

Headers = Sequence[tuple[str, str]]


class Frame(Struct, frozen=True, gc=False):
    """A frame as it came."""

    kind: int
    flags: int
    stream: int
    payload: bytes


class HeadersCame(NamedTuple):
    """A block of headers, or trailers where `ends`."""

    stream: int
    headers: Headers
    ends: bool


class DataCame(Struct, frozen=True, gc=False):
    """Bytes of a stream. `size` counts against its window, padding included; see `consumed()`."""

    stream: int
    data: bytes
    size: int
    ends: bool


class StreamReset(NamedTuple):
    """The stream is over before its end; `is_ours`: since what came on it broke the protocol."""

    stream: int
    code: int
    is_ours: bool = False
    sentence: str = ""


class Flushed(NamedTuple):
    """What waited on a stream for the peer's window is on its way."""

    stream: int


class PingAnswered(NamedTuple):
    """The peer has read all that was written before the ping."""

    payload: bytes


class GoingAway(NamedTuple):
    """The peer takes no more streams; those above `last_stream` it has not looked at."""

    last_stream: int
    code: int
    debug: bytes


class SettingsCame(NamedTuple):
    """The peer's settings hold."""


Event = HeadersCame | DataCame | StreamReset | Flushed | PingAnswered | GoingAway | SettingsCame
