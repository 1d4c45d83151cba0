"""What goes to the model: what waits for it, bounded in seconds of audio, and the ring of what was given.

When it is full the client is not read, so nothing is dropped. When its head has not moved for the same
number of seconds, `deadline` passes and the model is given up as too slow. A renewed connection is given
again, before what waits, what the model may not have.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import chain
from typing import Any, ClassVar, Final, NamedTuple

from msgspec.structs import replace

from antiphon import live
from antiphon.session.item import Item, dump_item, load_item, told
from antiphon.session.loudness import is_loud
from antiphon.session.ring import BYTES_A_SECOND, LEAST_MARGIN_BYTES, Ring

IN_FLIGHT_S: Final = 0.7
"""Audio that may be on its way: no more is given until some of it has arrived, since a renewed connection may
hear it twice. It may be more where the way is long."""
IN_FLIGHT_MORE_S: Final = 0.4
"""So much more than a round trip's worth may be on its way, up to `IN_FLIGHT_MOST_S`."""
IN_FLIGHT_MOST_S: Final = 0.9
"""With what has arrived and is said again all the same that is a second."""
IN_FLIGHT_UNSAVED_S: Final = 0.5
"""In place of `IN_FLIGHT_S` where only the client knows what has arrived, and learns that a moment later."""
IN_FLIGHT_LEAST_MORE_S: Final = 0.25
"""So much more than a round trip's worth may be on its way in any case, or speech would fall behind: it is
asked after up to 0.1 s later, and has settled another 0.1 s after the answer."""

_IN_FLIGHT_LEAST_BYTES: Final = int(IN_FLIGHT_UNSAVED_S * BYTES_A_SECOND)
"""The least of these bounds: where no more is on its way, none of them has to be asked for."""

GATHER_BYTES: Final = int(0.06 * BYTES_A_SECOND)
"""Audio that is given at once, where smaller pieces are gathered."""
_MESSAGE_BYTES: Final = int(0.1 * BYTES_A_SECOND)
"""What is gathered in a message at most."""

_MOST_UNSAVED: Final = 300 * BYTES_A_SECOND
"""No client keeps more than five minutes of audio to send again: what says that it does is not believed."""
_LEAST_COST: Final = 64
_TURN_COST: Final = BYTES_A_SECOND
"""A typed turn or a tool's result counts as a second of audio: both are bounded by the frame size."""


class Again(NamedTuple):
    """What a renewed connection hears again, and never, in milliseconds of audio."""

    replayed_ms: float
    lost_ms: float


class Uplink:
    """Items for the model, in order."""

    KEPT: ClassVar[dict[str, Any]] = {
        "_count": int,
        "_audio_end": int,
        "taken_number": int,
        "_marks": tuple[int, int, list[int]],
    }

    def __init__(self, limit_s: float, gather_s: float = 0.0) -> None:
        self._limit_s = limit_s
        self._limit_bytes = limit_s * BYTES_A_SECOND
        self._gather_s = gather_s
        self._gather_until = 0.0
        self._waiting: deque[Item] = deque()
        self._ring = Ring()
        self._count = 0
        self._cost = 0
        self._audio_bytes = 0
        self._moved_at = 0.0
        self.taken_number = 0
        """The number of what was taken last."""
        self.waiting = 0
        """How many items wait."""
        self.full = False
        """Whether no more is to be added for now."""
        self._doubtful_bytes = 0
        self._audio_end = 0
        self._skip_end = 0
        self._recovers = False
        """Whether a node that is gone may have given more to the model than is known here."""
        self.trip_s = 0.0
        """How long it takes to the model's machine and back."""
        self.is_careful = False
        """Whether what is said again cannot be told from what the store says."""
        self._changed = False
        self._restored: tuple[int, int, list[int]] = (0, 0, [])
        self.results = 0
        """Results of calls that wait. The model causes them, so it is the model that must not be read."""

    # ---- written down

    @property
    def _marks(self) -> tuple[int, int, list[int]]:
        return self._ring.kept

    @_marks.setter
    def _marks(self, marks: tuple[int, int, list[int]]) -> None:
        self._restored = marks

    @property
    def first(self) -> int:
        """The number of the first item that may be wanted again."""
        if (first := self._ring.first) is not None:
            return first
        return self._waiting[0].number if self._waiting else self._count + 1

    @property
    def end(self) -> int:
        """The number of the next item."""
        return self._count + 1

    def entries(self, begin: int) -> list[bytes]:
        """Return the items from a number on, as they are written down; "" for those that are not wanted."""
        kept = chain(self._ring.items, self._waiting)
        items = {entry.number: entry for entry in kept if entry.number >= begin}
        return [dump_item(items[number]) if number in items else b"" for number in range(begin, self.end)]

    def restore(self, entries: Iterable[bytes]) -> None:
        """Take what was written down."""
        items = [load_item(entry) for entry in entries if entry]
        self._ring.restore(self._restored, [item for item in items if item.number <= self.taken_number])
        self._await([item for item in items if item.number > self.taken_number])
        # The node that is gone may have given some of it to the model since.
        self._doubtful_bytes = self._audio_bytes
        self._recovers = True

    def heard(self, heard_ms: float) -> None:
        """Take the client's word for what the model has heard, which the node that is gone told it.

        The client sends again what was not saved; of that, what the model has heard is not given again.
        """
        end = int(heard_ms * BYTES_A_SECOND / 1000) & ~1
        if not self._recovers or not self._ring.heard_end < end <= self._audio_end + _MOST_UNSAVED:
            return
        self._skip_end = end - LEAST_MARGIN_BYTES
        self._ring.skip(self._skip_end)
        self._await([left for entry in self._waiting if (left := entry.after(self._skip_end))])
        # Nobody knows how much more the model was given meanwhile than had arrived when that was told.
        self._doubtful_bytes = LEAST_MARGIN_BYTES + int(IN_FLIGHT_S * BYTES_A_SECOND)

    def doubt(self) -> None:
        """Note that the client does not send again what it did: nothing of it is left out any more."""
        self._skip_end = 0

    @property
    def changed(self) -> bool:
        """Whether items that were written down are others now; asking is taking note."""
        changed, self._changed = self._changed, False
        return changed

    # ---- what waits

    def add(self, item: live.LiveInput, now: float) -> float:
        """Let an item wait; return how much of its audio does not, since the model has heard it, in ms."""
        entry = Item(self._count + 1, item)
        size = entry.size
        self._audio_end += size
        entry.end = self._audio_end
        if self._skip_end:
            left = entry.after(self._skip_end)
            if left is None:
                return _ms(size)
            entry = left
        if not self._waiting:
            self._moved_at = now
            self._gather_until = now + self._gather_s
        self._count += 1
        if isinstance(entry.item, live.Audio):
            entry.loud = is_loud(entry.item.pcm)
        self._waiting.append(entry)
        self._weigh(entry, 1)
        return 0.0 if entry.size == size else _ms(size - entry.size)

    @property
    def gathers_until(self) -> float:
        """When the small pieces of audio that wait are given, if no more come until then; infinity where
        nothing waits for that.
        """
        if not self._gather_s or not 0 < self._audio_bytes < GATHER_BYTES:
            return float("inf")
        if not isinstance(self._waiting[-1].item, live.Audio):
            return float("inf")  # what comes after the audio is not to wait
        return self._gather_until

    def take(self, now: float) -> Item | None:
        """Take the next item; None where none waits, too much is on its way, or small pieces are gathered."""
        if not self._waiting:
            return None
        if 0 < self._audio_bytes < GATHER_BYTES and now < self.gathers_until < float("inf"):
            return None
        entry = self._take(now)
        if entry is None or entry.size >= GATHER_BYTES or not self._gather_s:
            return entry
        if not isinstance(entry.item, live.Audio):
            return entry
        parts = [entry.item.pcm]
        size = entry.size
        while size < GATHER_BYTES and self._waiting:
            following = self._waiting[0].item
            if not isinstance(following, live.Audio) or size + len(following.pcm) > _MESSAGE_BYTES:
                break
            more = self._take(now)
            if more is None:
                break
            size += len(following.pcm)
            parts.append(following.pcm)
            entry = replace(more, loud=entry.loud or more.loud)
        return entry if len(parts) == 1 else replace(entry, item=live.Audio(b"".join(parts)))

    def _take(self, now: float) -> Item | None:
        entry = self._waiting[0]
        flight = self._ring.flight_bytes + entry.size
        if flight > _IN_FLIGHT_LEAST_BYTES and entry.size and self._is_far(flight, entry.size):
            return None
        self._waiting.popleft()
        self._weigh(entry, -1)
        self._moved_at = now
        self.taken_number = entry.number
        self._ring.add(entry)
        return entry

    def discard(self, *kinds: type) -> None:
        """Forget the items of these kinds, those that were taken too."""
        kept = [entry for entry in self._waiting if not isinstance(entry.item, kinds)]
        self._await(kept)
        self._ring.forget(*kinds)

    def touch(self, now: float) -> None:
        """Count the wait of what is queued from `now`."""
        self._moved_at = now

    @property
    def audio_ms(self) -> float:
        """Audio that waits, in milliseconds."""
        return _ms(self._audio_bytes)

    @property
    def heard_ms(self) -> float:
        """How much of the session's audio has reached the model's machine, in milliseconds."""
        return _ms(self._ring.heard_end)

    @property
    def room_ms(self) -> float:
        """Audio that can be added before it is full, in milliseconds."""
        return max(0.0, self._limit_s * 1000 - _ms(self._cost))

    @property
    def deadline(self) -> float:
        return self._moved_at + self._limit_s if self._waiting else float("inf")

    # ---- what was taken

    @property
    def in_flight(self) -> bool:
        """Whether something that was taken is not known to have arrived."""
        return self._ring.arrived_number < self.taken_number

    @property
    def unanswered(self) -> bool:
        """Whether the model was given a turn and has not begun to answer it."""
        return self._ring.unanswered

    def arrived(self, number: int) -> None:
        """Note that what was taken up to this number has reached the model's machine."""
        self._ring.arrived(number)

    def reacted(self) -> None:
        """Note that the model is at work."""
        self._ring.reacted()

    def answered(self) -> None:
        """Note that the model begins to answer."""
        self._ring.answered()

    def continued(self) -> None:
        """Note that the model goes on with an answer."""
        self._ring.continued()

    def rewind(
        self,
        now: float,
        *,
        mute: bool = False,
        refused: bool = False,
        restored: bool = True,
        manual: bool = False,
    ) -> Again:
        """Put before what waits what a renewed connection is to be given again; see `Ring.rewind`.

        With `manual` activity detection nothing is said outside of an activity.
        """
        rewound = self._ring.rewind(mute=mute, refused=refused, restored=restored)
        waiting = self._waiting if restored else [told(entry) for entry in self._waiting]
        entries = [*rewound.items, *waiting]
        self._await(_enclosed(entries) if manual else entries)
        self.taken_number = self._ring.arrived_number
        self._moved_at = now
        doubtful, self._doubtful_bytes = self._doubtful_bytes, 0
        self._recovers = False
        return Again(_ms(rewound.audio_bytes + doubtful), _ms(rewound.lost_bytes))

    def _is_far(self, flight_bytes: int, size: int) -> bool:
        """Whether too much would be on its way, with audio of this size; not where that is all."""
        if flight_bytes == size:
            return False
        if self.is_careful:
            least_s = IN_FLIGHT_UNSAVED_S
        else:
            least_s = max(IN_FLIGHT_S, min(IN_FLIGHT_MOST_S, self.trip_s + IN_FLIGHT_MORE_S))
        limit_s = max(least_s, self.trip_s + IN_FLIGHT_LEAST_MORE_S)
        return flight_bytes > limit_s * BYTES_A_SECOND

    def _await(self, entries: list[Item]) -> None:
        self._changed = True
        self._waiting = deque(entries)
        self._cost = self._audio_bytes = self.results = self.waiting = 0
        self.full = False
        for entry in entries:
            self._weigh(entry, 1)

    def _weigh(self, entry: Item, sign: int) -> None:
        size = entry.size
        self.waiting += sign
        if size:
            self._audio_bytes += sign * size
            self._cost += sign * (size if size > _LEAST_COST else _LEAST_COST)
        else:
            self._cost += sign * _cost(entry.item)
            self.results += sign * isinstance(entry.item, live.ToolResult)
        self.full = self._cost >= self._limit_bytes


def _enclosed(entries: list[Item]) -> list[Item]:
    """Leave out the sound outside of an activity, and an end or a start that is one too many."""
    kept = []
    active = False
    for entry in entries:
        match entry.item:
            case live.ActivityStart() | live.ActivityEnd():
                fits = active is isinstance(entry.item, live.ActivityEnd)
                active = isinstance(entry.item, live.ActivityStart)
            case live.Audio():
                fits = active
            case _:
                fits = True
        if fits:
            kept.append(entry)
    return kept


def _cost(item: live.LiveInput) -> int:
    match item:
        case live.Text() | live.ToolResult():
            return _TURN_COST
        case _:
            return _LEAST_COST


def _ms(size: int) -> float:
    return size * 1000 / BYTES_A_SECOND
