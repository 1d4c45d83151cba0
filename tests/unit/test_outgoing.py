"""What a client keeps until it is acknowledged: each frame comes once and in order, whatever is cut."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.client.outgoing import Frame, Outgoing, Place
from antiphon.client.reconnect import Fate, Reconnect, fate

OPERATIONS = ("chunk", "stream", "other", "write", "arrive", "acknowledge", "hear", "cut", "other node")


def outgoing(max_bytes: int = 1 << 20, max_audio_ms: float = 60_000) -> Outgoing:
    return Outgoing(max_bytes, max_audio_ms)


def chunk(sequence: int, name: str = "", audio_ms: float = 0.0, stream: int = 1) -> Frame:
    return Frame(name.encode(), place=Place(stream, sequence), audio_ms=audio_ms)


def acknowledge(kept: Outgoing, sequence: int, stream: int = 1) -> None:
    kept.acknowledge(Place(stream, sequence))


def command(name: str) -> Frame:
    return Frame(name.encode())


def waits(kept: Outgoing) -> bool:
    return kept.awaits_acknowledgement


def rest(kept: Outgoing) -> list[str]:
    """Write all that is to be written, and return it."""
    written = []
    while frame := kept.peek():
        kept.wrote(kept.written)
        written.append(frame.data.decode())
    return written


class Wire:
    """A client's `Outgoing`, a gateway that acknowledges as it likes, and a wire between that is cut."""

    def __init__(self) -> None:
        self.kept = outgoing()
        self.sent: list[Frame] = []
        self.came: list[Frame] = []
        self.safe = 0
        """How much of what came does not depend on the gateway's node."""
        self._wire: deque[Frame] = deque()
        self._told: deque[Place] = deque()
        self._next = Place(0, 0)
        self._acknowledged: Place | None = None

    def run(self, operation: str, number: int) -> None:
        match operation:
            case "chunk":
                self._send(Frame(b"c", place=self._next))
                self._next = self._next._replace(sequence=self._next.sequence + 1)
            case "stream":
                self._send(Frame(b"start"))
                self._next = Place(self._next.stream + 1, 0)
            case "other":
                self._send(Frame(b"other"))
            case "write":
                self.write()
            case "arrive":
                self.arrive()
            case "acknowledge":
                self._acknowledge()
            case "hear" if self._told:
                self.kept.acknowledge(self._told.popleft())
            case "cut":
                self.cut()
            case "other node":
                # What is not known to be safe is lost with it, and so are the first of its messages, or none.
                self.came = self.came[: max(self.safe, len(self.came) - number)]
                self._forget_acknowledgement()
                for _ in range(min(number, len(self._told))):
                    self._told.popleft()
                self.cut()
            case _:
                pass

    def write(self) -> None:
        if frame := self.kept.peek():
            self.kept.wrote(self.kept.written)
            self._wire.append(frame)

    def arrive(self) -> None:
        if self._wire:
            frame = self._wire.popleft()
            self.came.append(frame)
            if frame.data == b"start":
                self._acknowledged = None

    def cut(self) -> None:
        self._wire.clear()
        assert self.kept.resume(len(self.came)) == 0, "what was acknowledged is there"

    def finish(self) -> None:
        self.cut()
        while self.kept.peek():
            self.write()
            self.arrive()

    def _send(self, frame: Frame) -> None:
        frame = frame._replace(data=frame.data, audio_ms=float(len(self.sent)))  # to be told from all others
        self.sent.append(frame)
        self.kept.add(frame)

    def _stream(self) -> list[Frame]:
        """Return the chunks of the open stream that have come."""
        begin = max((place for place, frame in enumerate(self.came) if frame.data == b"start"), default=-1)
        return [frame for frame in self.came[begin + 1 :] if frame.place]

    def _acknowledge(self) -> None:
        last = self._stream()[-1:]
        if last and last[0].place != self._acknowledged:
            self._acknowledged = last[0].place
            assert self._acknowledged is not None
            self.safe = self.came.index(last[0]) + 1
            self._told.append(self._acknowledged)

    def _forget_acknowledgement(self) -> None:
        """Know no more than what is safe."""
        of_stream = self._stream()
        safe = [frame.place for frame in of_stream if self.came.index(frame) < self.safe]
        self._acknowledged = safe[-1] if safe else None


@given(st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 4)), max_size=120))
def test_each_comes_once_and_in_order(operations: list[tuple[str, int]]) -> None:
    wire = Wire()
    for operation, number in operations:
        wire.run(operation, number)
        assert wire.came == wire.sent[: len(wire.came)]
    wire.finish()
    assert wire.came == wire.sent


@given(
    st.lists(
        st.tuples(st.integers(1, 60), st.integers(0, 300), st.booleans(), st.integers(-1, 5)), max_size=60
    )
)
def test_what_is_kept_is_bounded(steps: list[tuple[int, int, bool, int]]) -> None:
    kept = outgoing(100, 1000)
    held: deque[Frame] = deque()
    sequence = 0
    for size, audio_ms, is_audio, acknowledged in steps:
        place = Place(1, sequence) if is_audio else None
        frame = Frame(bytes(size), place=place, audio_ms=audio_ms * is_audio)
        if kept.make_room_for(frame):
            kept.add(frame)
            held.append(frame)
            sequence += is_audio
        acknowledge(kept, acknowledged)
        while len(held) > kept.added - kept.first:
            held.popleft()
        assert sum(len(frame.data) for frame in held) <= 100
        assert sum(frame.audio_ms for frame in held) <= 1000


class TestRoom:
    def test_by_bytes_and_by_audio(self) -> None:
        kept = outgoing(10, 100)
        assert kept.make_room_for(command("longer than ten")), "alone, anything is sent"
        kept.add(command("12345"))
        assert kept.make_room_for(command("67890"))
        assert not kept.make_room_for(command("678901"))
        kept.add(chunk(0, audio_ms=60))
        assert not kept.make_room_for(chunk(1, audio_ms=50))
        assert waits(kept)
        rest(kept)
        acknowledge(kept, 0)
        assert kept.make_room_for(chunk(1, "1234567890", audio_ms=100))
        assert not waits(kept)

    def test_only_audio_that_was_not_refused_is_acknowledged(self) -> None:
        kept = outgoing()
        kept.add(command("a"))
        assert not waits(kept)
        kept.add(chunk(0, "b"))
        kept.add(chunk(1, "c"))
        kept.wrote(1)
        kept.await_no_more()
        assert waits(kept), "of what was not written yet"
        kept.wrote(2)
        kept.await_no_more()
        assert not waits(kept)
        assert kept.resume(0) == 0
        assert rest(kept) == ["a", "b", "c"], "it is kept all the same"

    def test_where_nothing_is_to_be_kept(self) -> None:
        kept = outgoing()
        for sequence in (0, 1, 0, 1):
            kept.add(chunk(sequence, str(sequence)))
        kept.wrote(0)
        kept.forget_written()
        assert rest(kept) == ["1", "0", "1"]
        kept.forget_written()
        assert (kept.first, kept.added) == (4, 4)
        kept.add(chunk(2))
        acknowledge(kept, 2)
        assert kept.first == 5

    def test_what_has_come_goes_first(self) -> None:
        kept = outgoing(3)
        for name in "abc":
            kept.add(command(name))
        rest(kept)
        assert not kept.make_room_for(command("d"))
        assert kept.resume(2) == 0
        assert rest(kept) == ["c"]
        assert kept.resume(1) == 0
        assert rest(kept) == ["b", "c"], "what has come may be lost with the node"
        assert kept.resume(2) == 0
        assert kept.make_room_for(command("d"))
        kept.add(command("d"))
        assert (kept.first, kept.added) == (1, 4)
        assert not kept.make_room_for(command("longer")), "and no more of it is forgotten than has come"
        assert kept.resume(1) == 1
        assert rest(kept) == ["c", "d"]


class TestAcknowledgements:
    def test_all_up_to_it_and_nothing_after(self) -> None:
        kept = outgoing()
        for frame in (command("a"), chunk(0, "b"), command("c"), chunk(1, "d"), command("e")):
            kept.add(frame)
        rest(kept)
        acknowledge(kept, 1)
        assert kept.resume(4) == 0
        assert rest(kept) == ["e"]

    def test_of_what_is_being_written(self) -> None:
        kept = outgoing()
        kept.add(chunk(0, "a"))
        kept.add(chunk(1, "b"))
        acknowledge(kept, 0)
        kept.wrote(0)
        assert rest(kept) == ["b"]

    def test_of_what_was_not_written(self) -> None:
        kept = outgoing()
        for number in range(3):
            kept.add(chunk(number, str(number)))
        kept.wrote(0)
        acknowledge(kept, 2**32)
        assert rest(kept) == ["2"], "the second was on its way"

    @pytest.mark.parametrize("sequence", [-1, 0, 1])
    def test_of_what_is_forgotten(self, sequence: int) -> None:
        kept = outgoing()
        acknowledge(kept, sequence)
        for number in (0, 1, 2):
            kept.add(chunk(number))
        rest(kept)
        acknowledge(kept, 1)
        assert kept.first == 2
        acknowledge(kept, sequence)
        assert kept.first == 2

    def test_they_are_of_one_stream_and_of_all_before_it(self) -> None:
        kept = outgoing()
        for stream, sequence in ((1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (3, 0)):
            kept.add(chunk(sequence, stream=stream))
        rest(kept)
        acknowledge(kept, 1)
        assert kept.first == 2
        acknowledge(kept, 1, stream=2)
        assert kept.first == 5, "and what is left of the first is safe, too"
        acknowledge(kept, 2)
        assert kept.first == 5, "it comes again"
        acknowledge(kept, 0, stream=4)
        assert kept.first == 7

    def test_they_may_come_after_a_resumption(self) -> None:
        kept = outgoing()
        for stream, sequence in ((1, 0), (1, 1), (2, 0), (2, 1)):
            kept.add(chunk(sequence, stream=stream))
        rest(kept)
        assert kept.resume(3) == 0
        acknowledge(kept, 1)
        assert kept.first == 2
        acknowledge(kept, 0, stream=2)
        assert kept.first == 3
        assert rest(kept) == [""]


class TestResumption:
    def test_a_gateway_that_lost_what_it_had_acknowledged(self) -> None:
        kept = outgoing()
        for number in range(4):
            kept.add(chunk(number, str(number)))
        rest(kept)
        acknowledge(kept, 1)
        assert kept.resume(1) == 1
        assert rest(kept) == ["2", "3"]
        acknowledge(kept, 2)
        assert kept.resume(2) == 0
        assert rest(kept) == ["3"], "and it is counted as the gateway does"

    def test_a_gateway_that_counts_more_than_was_sent(self) -> None:
        kept = outgoing()
        kept.add(command("a"))
        assert kept.resume(3) == 0
        assert kept.peek() is None
        kept.add(command("b"))
        assert kept.resume(3) == 0
        assert rest(kept) == ["b"]


class TestComingBack:
    def test_the_waits(self) -> None:
        reconnect = Reconnect()
        waits = [reconnect.delay_s(attempt, 1.0) for attempt in range(8)]
        assert waits == [0.0, 0.3, 1.2, 2.7, 4.8, 7.0, 7.0, 7.0]
        assert reconnect.delay_s(1, 0.5) == 0.15, "full jitter: from nothing to all of it"
        assert reconnect.delay_s(5, 0.0) == 0.0

    @pytest.mark.parametrize("close_code", [1001, 1006, 1011, 1012, 1013, 1014, 4413])
    def test_a_lost_connection(self, close_code: int) -> None:
        assert fate(close_code, None) is Fate.RESUME

    @pytest.mark.parametrize(
        "close_code", [None, 1000, 1002, 1005, 1009, 4400, 4401, 4403, 4408, 4409, 4429, 4441, 4999]
    )
    def test_a_session_that_is_over(self, close_code: int | None) -> None:
        assert fate(close_code, None) is Fate.OVER

    @pytest.mark.parametrize(
        ("code", "after"),
        [
            ("SERVER_DRAINING", Fate.RESUME),
            ("SESSION_CLIENT_SLOW", Fate.RESUME),
            ("UPSTREAM_LOST", Fate.RESUME),
            ("AUTH_TOKEN_EXPIRED", Fate.RENEW),
            ("SESSION_TAKEN_OVER", Fate.OVER),
            ("SESSION_IDLE", Fate.OVER),
            ("UPSTREAM_UNAUTHORIZED", Fate.OVER),
            ("AUDIO_TOO_FAST", Fate.OVER),
        ],
    )
    def test_the_error_counts_for_more_than_a_close_code_that_was_lost(self, code: str, after: Fate) -> None:
        assert fate(1006, code) is after

    def test_an_error_that_is_not_known_here(self) -> None:
        assert fate(1001, "SERVER_MOVED") is Fate.RESUME
        assert fate(1000, "SERVER_MOVED") is Fate.OVER
        assert fate(4440, None) is Fate.RENEW
