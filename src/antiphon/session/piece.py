"""A piece of an answer, on its way to the client."""

from __future__ import annotations

from msgspec import Struct


class Piece(Struct, eq=False):
    """A piece of the answer: mono PCM16 at `rate_hz`, and the text that is said from here on.

    `number` is that of the response it belongs to, `encoding` the MIME type it is encoded to, if any.
    `data` is what the client gets: the PCM itself, or what an encoder makes of it, and None until it has;
    empty where the piece was dropped before that. `last` is the end of an encoded response, without sound.
    """

    pcm: bytes
    rate_hz: int
    text: str
    number: int = 0
    encoding: str | None = None
    data: bytes | None = None
    last: bool = False

    @property
    def duration_s(self) -> float:
        return len(self.pcm) / 2 / self.rate_hz

    @property
    def duration_ms(self) -> float:
        return round(self.duration_s * 1000, 3)

    @property
    def format(self) -> str:
        return f"audio/pcm;rate={self.rate_hz}"
