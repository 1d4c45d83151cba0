"""What was given to the model and may have to be given again: a ring bounded in seconds of audio.

An item is kept until the model is known to have it. `arrived()` tells what has reached the model's machine;
of that audio up to `MARGIN_S` are kept longer, since what has reached the machine may not have reached the
model. Loud audio is kept until the model shows that it is at work (`reacted()`), and a turn until the model
begins to answer it (`answered()`): a model that goes mute is replaced, and the new one hears them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from msgspec.structs import replace

from antiphon import live
from antiphon.session.item import Item, told

RING_S: Final = 20.0
"""Audio that is kept; beyond it the oldest is dropped, and told of as lost where it had not arrived."""
MARGIN_S: Final = 0.3
"""Audio that is said again although it has arrived."""
LEAST_MARGIN_S: Final = 0.1
AGAIN_S: Final = 1.0
"""The margin shrinks to its least where with all of it more would be said again than this."""
MAX_TURNS: Final = 64
"""Turns, and results of calls, that are kept; beyond it the oldest is taken to be answered."""
MAX_AGE: Final = 1000
"""Items after which a turn is taken to be answered: a minute and a half of audio at least."""

BYTES_A_SECOND: Final = 2 * live.INPUT_RATE_HZ
_RING_BYTES: Final = int(RING_S * BYTES_A_SECOND)
_MARGIN_BYTES: Final = int(MARGIN_S * live.INPUT_RATE_HZ) * 2
LEAST_MARGIN_BYTES: Final = int(LEAST_MARGIN_S * live.INPUT_RATE_HZ) * 2
_AGAIN_BYTES: Final = int(AGAIN_S * live.INPUT_RATE_HZ) * 2


class Rewound(NamedTuple):
    """What a renewed connection is to hear first, and how many bytes of audio it never will."""

    items: list[Item]
    lost_bytes: int

    @property
    def audio_bytes(self) -> int:
        return sum(entry.size for entry in self.items)


class Ring:
    """The items that were taken, by number, in order."""

    def __init__(self) -> None:
        self.arrived_number = 0
        """What was taken up to this number has arrived."""
        self.flight_bytes = 0
        """Audio that is not known to have arrived."""
        self.heard_end = 0
        """Where the audio that has arrived ends in that of the session, in bytes."""
        self._audio: deque[Item] = deque()
        self._turns: deque[Item] = deque()
        self._audio_bytes = 0
        self._reacted_number = 0
        self._continued_number = 0
        self._dropped_bytes = 0

    @property
    def kept(self) -> tuple[int, int, list[int]]:
        """What is kept: what has arrived, the number of the first audio, those of the turns."""
        return (
            self.arrived_number,
            self._audio[0].number if self._audio else 0,
            [entry.number for entry in self._turns],
        )

    def restore(self, kept: tuple[int, int, list[int]], taken: Iterable[Item]) -> None:
        """Take from items that were written down those that were kept."""
        arrived, audio_from, turns = kept
        for entry in taken:
            is_audio = isinstance(entry.item, live.Audio)
            if (is_audio and 0 < audio_from <= entry.number) or entry.number in turns:
                self.add(entry)
        self.arrived(arrived)

    @property
    def unanswered(self) -> bool:
        """Whether the model has a turn, or a part of one, that it has not begun to answer."""
        return bool(self._turns)

    @property
    def first(self) -> int | None:
        """The number of the first item that is kept; None where none is."""
        return min((kept[0].number for kept in (self._audio, self._turns) if kept), default=None)

    @property
    def items(self) -> list[Item]:
        """All that is kept, in order."""
        return sorted([*self._audio, *self._turns], key=_number)

    def add(self, entry: Item) -> None:
        """Note that an item was taken."""
        match entry.item:
            case live.Audio():
                self._audio.append(entry)
                self._audio_bytes += entry.size
                self.flight_bytes += entry.size
                while self._audio_bytes > _RING_BYTES:
                    self._drop()
            case live.Interrupt():
                pass  # of an answer that a renewed connection does not give
            case _:
                self._turns.append(entry)
                if len(self._turns) > MAX_TURNS:
                    self._turns.popleft()
        while self._turns and self._turns[0].number < entry.number - MAX_AGE:
            self._turns.popleft()

    def arrived(self, number: int) -> None:
        """Note that what was taken up to this number has reached the model's machine."""
        for entry in reversed(self._audio):
            if entry.number <= self.arrived_number:
                break
            if entry.number <= number:
                self.flight_bytes -= entry.size
                if entry.end > self.heard_end:
                    self.heard_end = entry.end
        self.arrived_number = max(self.arrived_number, number)
        self._settle()
        self._forget()

    def reacted(self) -> None:
        """Note that the model is at work: it hears what has arrived so far."""
        if self._reacted_number != self.arrived_number:
            self._reacted_number = self.arrived_number
            self._forget()

    def answered(self) -> None:
        """Note that the model begins to answer: the turns that have arrived are over, not an open activity.

        The first one has, since it is answered.
        """
        arrived = max(self.arrived_number, self._first_turn_number)
        ends = [
            entry.number
            for entry in self._turns
            if isinstance(entry.item, live.ActivityEnd) and entry.number <= arrived
        ]
        while self._turns and self._turns[0].number <= arrived:
            entry = self._turns[0]
            if isinstance(entry.item, live.ActivityStart) and not (ends and entry.number < ends[-1]):
                return
            self._turns.popleft()

    def continued(self) -> None:
        """Note that the model goes on with an answer: the results that it has are in it."""
        if self._turns:
            self._continued_number = self._turns[-1].number
            self._settle()

    def _settle(self) -> None:
        """Forget the results that the model has gone on with."""
        settled = min(self.arrived_number, self._continued_number)
        while (
            self._turns
            and isinstance(self._turns[0].item, live.ToolResult)
            and self._turns[0].number <= settled
        ):
            self._turns.popleft()

    @property
    def _first_turn_number(self) -> int:
        """The number of the end of the first turn; 0 where there is none."""
        return next(
            (entry.number for entry in self._turns if not isinstance(entry.item, live.ActivityStart)), 0
        )

    def skip(self, end: int) -> None:
        """Forget the audio before a place: the model has heard it."""
        audio = list(self._audio)
        self.forget(live.Audio)
        for entry in audio:
            if left := entry.after(end):
                self._audio.append(left)
                self._audio_bytes += left.size
                self.flight_bytes += left.size if left.number > self.arrived_number else 0

    def forget(self, *kinds: type) -> None:
        """Forget the items of these kinds."""
        if live.Audio in kinds:
            self._audio.clear()
            self._audio_bytes = self.flight_bytes = self._dropped_bytes = 0
        self._turns = deque([entry for entry in self._turns if not isinstance(entry.item, kinds)])

    def rewind(self, *, mute: bool, refused: bool, restored: bool) -> Rewound:
        """Empty the ring; return what a renewed connection is to be given of it.

        That is what has not arrived, with the margin; after a `mute` model all that it has not reacted to.
        What a model has `refused` is not said again: the audio, and turns that it was given for the second
        time. One that was not `restored` knows of no calls, and is told of their results.
        """
        lost_bytes = self._dropped_bytes
        again = [entry for entry in self._turns if not (refused and entry.again)]
        if refused:
            lost_bytes += self.flight_bytes
        else:
            again += self._audio if mute else self._unheard()
        again.sort(key=_number)
        # What is given again has to arrive again.
        number = again[0].number - 1 if again else self.arrived_number
        self._audio.clear()
        self._turns.clear()
        self._audio_bytes = self.flight_bytes = self._dropped_bytes = 0
        self.arrived_number = self._reacted_number = number
        items = [replace(entry, again=True) for entry in again]
        sound = next((entry for entry in items if isinstance(entry.item, live.Audio)), None)
        if sound:
            self.heard_end = min(self.heard_end, sound.end - sound.size)
        return Rewound(items if restored else [told(entry) for entry in items], lost_bytes)

    def _unheard(self) -> list[Item]:
        """Return the audio that has not arrived, and the last of what has."""
        found: list[Item] = []
        margin = max(LEAST_MARGIN_BYTES, min(_MARGIN_BYTES, _AGAIN_BYTES - self.flight_bytes))
        for entry in reversed(self._audio):
            if entry.number > self.arrived_number:
                found.append(entry)
            elif margin > 0:
                pcm = _pcm(entry)[-margin:]
                margin -= len(pcm)
                found.append(replace(entry, item=live.Audio(pcm)))
            else:
                break
        return found

    def _forget(self) -> None:
        """Drop the audio that nobody will want again."""
        while self._audio:
            entry = self._audio[0]
            needed = entry.number > self.arrived_number or (
                entry.loud and entry.number > self._reacted_number
            )
            if needed or self._audio_bytes - entry.size < _MARGIN_BYTES + self.flight_bytes:
                return
            self._audio.popleft()
            self._audio_bytes -= entry.size

    def _drop(self) -> None:
        entry = self._audio.popleft()
        self._audio_bytes -= entry.size
        if entry.number > self.arrived_number:
            self.flight_bytes -= entry.size
            self._dropped_bytes += entry.size


def _number(entry: Item) -> int:
    return entry.number


def _pcm(entry: Item) -> bytes:
    assert isinstance(entry.item, live.Audio)
    return entry.item.pcm
