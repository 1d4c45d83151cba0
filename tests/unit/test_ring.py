"""The ring, and the uplink before it: whatever becomes of connections, the model has what it is to hear.

Nothing that had not arrived is missing from what the next connection is given, unless it is told as lost; the
order is kept; and what is said twice is the last of what had arrived, and no more.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon import live
from antiphon.session.item import Item, dump_item, load_item, told
from antiphon.session.kept import dump, load
from antiphon.session.ring import BYTES_A_SECOND, MARGIN_S, MAX_AGE, MAX_TURNS, RING_S, Ring
from antiphon.session.uplink import Uplink
from tries import tries

PIECE = int(0.1 * BYTES_A_SECOND)
MARGIN = int(MARGIN_S * BYTES_A_SECOND)


def audio(number: int, *, size: int = PIECE) -> live.Audio:
    """Return audio that tells which one it is."""
    return live.Audio(number.to_bytes(2, "little") * (size // 2))


def ring(*items: live.LiveInput, loud: bool = False) -> Ring:
    made = Ring()
    for number, item in enumerate(items, 1):
        made.add(Item(number, item, loud and isinstance(item, live.Audio)))
    return made


def rewound(
    made: Ring, *, mute: bool = False, refused: bool = False, restored: bool = True
) -> list[live.LiveInput]:
    return [entry.item for entry in made.rewind(mute=mute, refused=refused, restored=restored).items]


TEN = [audio(number) for number in range(1, 11)]


class TestContinued:
    def test_a_result_that_arrived_is_in_the_answer_that_goes_on(self) -> None:
        """Else the next turn would be taken for one that is not answered, and be said again."""
        made = ring(live.Text("next"), live.ToolResult("c1", "next", {}))
        made.answered()
        made.continued()
        assert made.unanswered, "whether the result has arrived is not known"
        made.add(Item(3, live.Text("who are you?"), False))
        made.arrived(2)
        made.answered()
        assert not made.unanswered

    def test_a_result_that_nobody_went_on_with_is_kept(self) -> None:
        result = live.ToolResult("c1", "next", {})
        made = ring(live.Text("next"), result)
        made.answered()
        made.arrived(2)
        assert rewound(made) == [result]

    def test_a_turn_that_arrived_meanwhile_is_not_answered_by_it(self) -> None:
        made = ring(live.Text("one"), live.Text("two"))
        made.answered()
        made.arrived(2)
        made.continued()
        assert rewound(made) == [live.Text("two")]


class TestRewind:
    def test_what_has_not_arrived_is_given_again_with_a_margin(self) -> None:
        made = ring(*TEN)
        made.arrived(6)
        assert rewound(made) == TEN[3:]

    def test_the_margin_is_cut_to_the_sample(self) -> None:
        made = ring(audio(1, size=2 * MARGIN), audio(2))
        made.arrived(1)
        assert rewound(made) == [audio(1, size=MARGIN), audio(2)]

    @pytest.mark.parametrize(("on_its_way", "again"), [(4, 7), (7, 10), (8, 10), (9, 10), (12, 13)])
    def test_the_margin_shrinks_where_much_is_on_its_way(self, on_its_way: int, again: int) -> None:
        made = ring(*(audio(number) for number in range(1, 21)))
        made.arrived(20 - on_its_way)
        assert len(rewound(made)) == again

    def test_a_turn_is_given_again_until_it_is_answered(self) -> None:
        made = ring(*TEN, live.Text("hi"))
        made.arrived(11)
        assert made.unanswered
        assert rewound(made) == [*TEN[7:], live.Text("hi")]
        made.answered()
        made = ring(live.Text("hi"))
        made.arrived(1)
        made.answered()
        assert not made.unanswered
        assert rewound(made) == []

    def test_one_that_has_not_arrived_is_not_what_is_answered(self) -> None:
        for arrived in (0, 1):
            made = ring(live.Text("one"), live.Text("two"))
            made.arrived(arrived)
            made.answered()
            assert rewound(made) == [live.Text("two")], "the first one has, since it is answered"

    def test_a_mute_model_is_replaced_by_one_that_hears_all_of_it(self) -> None:
        made = ring(*TEN, loud=True)
        made.arrived(4)
        made.reacted()
        made.arrived(10)
        assert rewound(made, mute=True) == TEN[4:], "all that it has not reacted to"
        made = ring(*TEN, loud=True)
        made.arrived(10)
        assert rewound(made) == TEN[7:]

    def test_what_nobody_speaks_in_is_not_kept_for_that(self) -> None:
        made = ring(*TEN)
        made.arrived(10)
        assert rewound(made, mute=True) == TEN[7:]

    def test_what_was_refused_is_not_said_again(self) -> None:
        made = ring(*TEN, live.Text("hi"))
        made.arrived(6)
        again = made.rewind(mute=False, refused=True, restored=True)
        assert [entry.item for entry in again.items] == [live.Text("hi")]
        assert again.lost_bytes == 4 * PIECE
        assert again.audio_bytes == 0
        for entry in again.items:
            made.add(entry)
        assert rewound(made, refused=True) == [], "nor a turn the second time"

    def test_a_model_that_knows_of_no_calls_is_told_of_their_results(self) -> None:
        result = live.ToolResult("c1", "light", {"output": 1})
        assert rewound(ring(result)) == [result]
        (text,) = rewound(ring(result), restored=False)
        assert text == live.Text("The result of the function light is {'output': 1}.")

    def test_it_is_empty_then_and_what_is_given_again_has_to_arrive_again(self) -> None:
        made = ring(*TEN)
        made.arrived(6)
        again = made.rewind(mute=False, refused=False, restored=True)
        assert (made.items, made.flight_bytes, made.arrived_number) == ([], 0, 3)
        assert all(entry.again for entry in again.items)
        for entry in again.items:
            made.add(entry)
        assert made.flight_bytes == 7 * PIECE
        assert rewound(made) == TEN[3:]

    def test_an_interruption_is_not_said_again(self) -> None:
        assert rewound(ring(live.Interrupt())) == []


class TestActivity:
    BUTTON = (live.ActivityStart(), audio(1), live.ActivityEnd())

    def test_one_that_is_open_is_not_answered(self) -> None:
        made = ring(live.ActivityStart(), audio(1))
        made.arrived(2)
        made.answered()
        assert rewound(made)[0] == live.ActivityStart()

    @pytest.mark.parametrize("arrived", [0, 1, 2, 3])
    def test_the_first_one_has_arrived_when_it_is_answered(self, arrived: int) -> None:
        made = ring(*self.BUTTON, live.ActivityStart(), audio(5), live.ActivityEnd())
        made.arrived(arrived)
        made.answered()
        assert [entry.number for entry in made.items if not isinstance(entry.item, live.Audio)] == [4, 6]

    def test_one_that_is_over_is_answered_whole(self) -> None:
        made = ring(*self.BUTTON, live.ActivityStart())
        made.arrived(4)
        made.answered()
        assert [type(entry.item) for entry in made.items if not isinstance(entry.item, live.Audio)] == [
            live.ActivityStart
        ]


class TestBounds:
    def test_audio_beyond_is_dropped_and_told_as_lost(self) -> None:
        pieces = int(RING_S * BYTES_A_SECOND) // PIECE
        made = ring(*[audio(number) for number in range(pieces + 5)])
        again = made.rewind(mute=False, refused=False, restored=True)
        assert again.lost_bytes == 5 * PIECE
        assert again.audio_bytes == pieces * PIECE

    def test_what_had_arrived_is_dropped_without_a_word(self) -> None:
        made = Ring()
        for number in range(1, 300):
            made.add(Item(number, audio(number), loud=True))
            made.arrived(number)
        assert len(made.items) == 200
        assert (made.flight_bytes, made.rewind(mute=False, refused=False, restored=True).lost_bytes) == (0, 0)

    def test_turns_are_bounded_in_number_and_age(self) -> None:
        made = ring(*[live.Text(f"{number}") for number in range(MAX_TURNS + 3)])
        assert len(made.items) == MAX_TURNS
        made = ring(live.Text("old"))
        made.add(Item(MAX_AGE + 1, live.Text("young")))
        assert made.unanswered
        made.add(Item(MAX_AGE + 2, audio(1)))
        assert [entry.item for entry in made.items] == [live.Text("young"), audio(1)]

    def test_what_is_forgotten_is_not_in_flight(self) -> None:
        made = ring(audio(1), live.Text("hi"), live.AudioEnd())
        made.forget(live.Audio, live.AudioEnd)
        assert (made.flight_bytes, rewound(made)) == (0, [live.Text("hi")])


ITEMS: list[live.LiveInput] = [
    *(audio(3), live.AudioEnd(), live.ActivityStart(), live.ActivityEnd(), live.Interrupt()),
    *(live.Text("hi", {"page": [1, None]}), live.Text("hi"), live.ToolResult("c", "n", {"output": "é"})),
]


class TestWrittenDown:
    @pytest.mark.parametrize("item", ITEMS)
    @pytest.mark.parametrize("flags", [(False, True), (True, False)])
    def test_every_item_comes_back(self, item: live.LiveInput, flags: tuple[bool, bool]) -> None:
        entry = Item(2**40, item, *flags)
        assert load_item(dump_item(entry)) == entry

    def test_only_what_was_kept_comes_back(self) -> None:
        made = ring(*TEN, live.Text("hi"), live.Text("ho"))
        made.arrived(10)
        made.answered()
        other = Ring()
        items: list[live.LiveInput] = [*TEN, live.Text("hi"), live.Text("ho")]
        entries = [Item(number, item) for number, item in enumerate(items, 1)]
        other.restore(made.kept, entries)
        assert other.items == made.items
        assert (other.arrived_number, other.flight_bytes, other.kept) == (10, 0, made.kept)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\xc1",
            msgspec.msgpack.encode((1, 99, False, False, {})),
            msgspec.msgpack.encode((1, -1, 0, 0)),
        ],
    )
    def test_what_is_none_is_refused(self, data: bytes) -> None:
        with pytest.raises(msgspec.DecodeError):
            load_item(data)

    def test_only_a_result_is_told_otherwise(self) -> None:
        for item in ITEMS:
            is_result = isinstance(item, live.ToolResult)
            assert (told(Item(1, item)).item == item) is not is_result
        assert told(Item(1, ITEMS[-1], loud=False, again=True)).again


# ---- with what waits before it


class Line:
    """An uplink, its log as a store has it, and a model that hears what has arrived, on paper."""

    def __init__(self) -> None:
        self.uplink = Uplink(10)
        self.count = 0
        self.added: list[live.LiveInput] = []
        self.given: list[Item] = []
        self.heard: list[Item] = []
        self.heard_before: list[Item] = []
        self.pressed = False
        self.lost = 0.0
        self.now = 0.0

    def add(self, item: live.LiveInput) -> None:
        self.added.append(item)
        self.uplink.add(item, self.now)

    def say(self) -> None:
        self.count += 1
        self.add(audio(1000 + self.count))

    def whisper(self) -> None:
        self.count += 1
        self.add(audio(self.count))

    def type(self) -> None:
        self.count += 1
        self.add(live.Text(f"{self.count}"))

    def take(self) -> None:
        if entry := self.uplink.take(self.now):
            self.given.append(entry)

    def take_all(self) -> None:
        while entry := self.uplink.take(self.now):
            self.given.append(entry)

    def arrive(self) -> None:
        self.heard += self.given
        self.given.clear()
        self.uplink.arrived(self.uplink.taken_number)

    def arrive_in_part(self) -> None:
        if self.given:
            entry = self.given.pop(0)
            self.heard.append(entry)
            self.uplink.arrived(entry.number)

    def react(self) -> None:
        self.uplink.reacted()

    def begin_to_answer(self) -> None:
        self.uplink.answered()

    def lose(self, **why: Any) -> None:
        self.heard_before = self.heard
        again = self.uplink.rewind(self.now, **why)
        self.lost += again.lost_ms
        self.given, self.heard = [], []

    def move(self) -> None:
        """Go on on another node."""
        uplink = self.uplink
        other = Uplink(10)
        load(other, dump(uplink))
        other.restore(uplink.entries(uplink.first))
        assert (other.first, other.end, other.taken_number) == (uplink.first, uplink.end, uplink.taken_number)
        assert (other.unanswered, other.in_flight) == (uplink.unanswered, uplink.in_flight)
        assert (other.audio_ms, other.full, other.room_ms) == (uplink.audio_ms, uplink.full, uplink.room_ms)
        self.uplink = other
        self.lose()


def numbers(entries: list[Item]) -> list[int]:
    """Return the numbers of the audio in these, each as often in a row as it is there whole or in part."""
    found = []
    for entry in entries:
        if isinstance(entry.item, live.Audio):
            found += np.unique(np.frombuffer(entry.item.pcm, "<i2")).tolist()
    return found


SAYING = [Line.say, Line.say, Line.whisper, Line.type, Line.take, Line.take_all]
HEARING = [Line.arrive, Line.arrive_in_part, Line.react, Line.begin_to_answer]


@settings(max_examples=tries(300), deadline=None)
@given(st.lists(st.sampled_from([*SAYING, *HEARING, Line.lose, Line.move]), max_size=100))
def test_nothing_is_lost_and_no_more_than_the_margin_said_twice(steps: list[Any]) -> None:
    line = Line()
    heard: list[list[Item]] = []
    for step in [*steps, Line.lose, Line.lose]:
        if step in (Line.lose, Line.move):
            heard.append(line.heard)
        step(line)
    for _ in range(1000):
        line.take_all()
        line.arrive()
    heard.append(line.heard)
    assert not line.uplink.waiting
    assert line.lost == 0, "as much as can be in flight fits into the ring"
    spoken = [number for entries in heard for number in numbers(entries)]
    wanted = numbers([Item(0, item) for item in line.added])
    assert list(dict.fromkeys(spoken)) == wanted, "all of it, in order"
    for before, after in pairwise(heard):
        twice = [entry for entry in after if set(numbers([entry])) & set(numbers(before))]
        size = sum(len(entry.item.pcm) for entry in twice if isinstance(entry.item, live.Audio))
        assert size <= MARGIN
        assert numbers(after) == sorted(numbers(after), key=lambda number: wanted.index(number))


@settings(max_examples=tries(200), deadline=None)
@given(st.lists(st.sampled_from([*SAYING, *HEARING]), max_size=100))
def test_a_mute_model_is_followed_by_one_that_hears_what_it_did_not_react_to(steps: list[Any]) -> None:
    line = Line()
    since = 0
    for step in steps:
        step(line)
        if step is Line.react:
            since = len(line.heard)
    unreacted = line.heard[since:] + line.given
    turns = [entry.item for entry in line.heard if isinstance(entry.item, live.Text)]
    answered = not line.uplink.unanswered
    line.lose(mute=True)
    line.take_all()
    for _ in range(100):
        line.arrive()
        line.take_all()
    loud = [number for number in numbers(unreacted) if number > 1000]
    assert set(loud) <= set(numbers(line.heard))
    assert answered or [e.item for e in line.heard if isinstance(e.item, live.Text)] or not turns


@settings(max_examples=tries(200), deadline=None)
@given(st.lists(st.sampled_from([*SAYING, *HEARING, "refused", Line.move]), max_size=100))
def test_what_is_refused_is_told_as_lost(steps: list[Any]) -> None:
    line = Line()
    heard: list[Item] = []
    for step in [*steps, "lose"]:
        if step == "refused":
            heard += line.heard
            line.lose(refused=True)
        elif step == "lose" or step is Line.move:
            heard += line.heard
            line.lose()
        else:
            step(line)
    for _ in range(100):
        line.take_all()
        line.arrive()
    heard += line.heard
    wanted = numbers([Item(0, item) for item in line.added])
    missing = set(wanted) - set(numbers(heard))
    assert len(missing) * PIECE * 1000 / BYTES_A_SECOND <= line.lost + 1e-6


def press(line: Line) -> None:
    if not line.pressed:
        line.pressed = True
        line.add(live.ActivityStart())


def release(line: Line) -> None:
    if line.pressed:
        line.pressed = False
        line.add(live.ActivityEnd())


def say_pressed(line: Line) -> None:
    if line.pressed:
        line.say()


def answer_what_was_heard(line: Line) -> None:
    """Begin to answer the first turn on its way: it has come, though nobody knows yet."""
    turns = live.ActivityEnd | live.Text
    ends = (count for count, entry in enumerate(line.given, 1) if isinstance(entry.item, turns))
    for _ in range(next(ends, 0)):
        line.heard.append(line.given.pop(0))
    line.begin_to_answer()


def lose_manually(line: Line) -> None:
    line.lose(manual=True)


def go_mute(line: Line) -> None:
    line.lose(manual=True, mute=True)


def be_refused(line: Line) -> None:
    line.lose(manual=True, refused=True)


@settings(max_examples=tries(400), deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                *(press, release, say_pressed, say_pressed, Line.type, Line.take, Line.take_all),
                *(Line.arrive, Line.arrive_in_part, Line.react, answer_what_was_heard),
                *(lose_manually, go_mute, be_refused),
            ]
        ),
        max_size=120,
    )
)
def test_with_a_button_every_connection_hears_whole_activities(steps: list[Any]) -> None:
    line = Line()
    spoken: set[int] = set()
    for step in [*steps, release, lose_manually]:
        spoken |= set(numbers(line.heard))
        step(line)
    for _ in range(100):
        line.take_all()
        line.arrive()
    check_activities(line.heard)
    spoken |= set(numbers(line.heard))
    if be_refused not in steps:
        assert spoken == set(numbers([Item(0, item) for item in line.added]))


@settings(max_examples=tries(300), deadline=None)
@given(
    st.lists(st.sampled_from([press, release, say_pressed, Line.take, Line.take_all, *HEARING]), max_size=80)
)
def test_each_of_them_is_balanced_at_any_time(steps: list[Any]) -> None:
    line = Line()
    for step in steps:
        step(line)
    lose_manually(line)
    for _ in range(100):
        line.take_all()
        line.arrive()
    assert check_activities(line.heard) is line.pressed


def check_activities(entries: list[Item]) -> bool:
    active = False
    for entry in entries:
        match entry.item:
            case live.ActivityStart():
                assert not active, "a start in an activity"
                active = True
            case live.ActivityEnd():
                assert active, "an end without a start"
                active = False
            case live.Audio():
                assert active, "audio outside of an activity"
            case _:
                pass
    return active


@settings(max_examples=tries(30), deadline=None)
@given(
    st.lists(
        st.sampled_from([Line.say, Line.say, Line.take_all, Line.arrive, Line.type]), min_size=5, max_size=9
    )
)
def test_memory_is_bounded(steps: list[Any]) -> None:
    """Audio that is kept is what waits, and the ring, whatever the model does."""
    line = Line()
    for step in steps * 60:
        if not (line.uplink.full and step in (Line.say, Line.type)):
            step(line)
    sizes = sum(len(entry) for entry in line.uplink.entries(line.uplink.first))
    assert sizes <= (RING_S + 10 + 1.5) * BYTES_A_SECOND * 1.1
    assert line.uplink.end - line.uplink.first <= MAX_AGE + 1000


@pytest.mark.parametrize(
    ("trip_s", "most_s", "careful_s"),
    [(0.0, 0.7, 0.5), (0.02, 0.7, 0.5), (0.4, 0.8, 0.65), (0.6, 0.9, 0.85), (1.0, 1.25, 1.25)],
)
@pytest.mark.parametrize("careful", [False, True])
def test_what_is_on_the_way_is_bounded(trip_s: float, most_s: float, careful_s: float, careful: bool) -> None:
    line = Line()
    line.uplink.trip_s, line.uplink.is_careful = trip_s, careful
    if careful:
        most_s = careful_s
    for _ in range(90):
        line.say()
    for _ in range(3):
        line.take_all()
        assert len(line.given) == int(most_s * BYTES_A_SECOND / PIECE + 1e-6)
        line.arrive_in_part()


def test_but_a_piece_and_what_is_no_audio_is_always_given() -> None:
    uplink = Uplink(10)
    for item in (live.Audio(bytes(BYTES_A_SECOND)), live.Text("hi"), audio(1), live.Text("ho")):
        uplink.add(item, 0.0)
    assert [uplink.take(0.0) is None for _ in range(3)] == [False, False, True]
    uplink.arrived(1)
    assert [uplink.take(0.0) is None for _ in range(3)] == [False, False, True]


def test_results_that_wait_are_told_to_a_model_that_knows_of_no_calls() -> None:
    uplink = Uplink(10)
    for number in range(2):
        uplink.add(live.ToolResult(f"c{number}", "n", {}), 0.0)
    uplink.take(0.0)
    uplink.rewind(0.0, restored=False)
    taken = [uplink.take(0.0) for _ in range(2)]
    assert [type(entry.item) for entry in taken if entry] == [live.Text, live.Text]
    assert uplink.results == 0


def test_kinds_are_forgotten_one_by_one() -> None:
    made = ring(audio(1), live.Text("hi"), audio(2))
    made.forget(live.Text)
    assert (made.flight_bytes, rewound(made)) == (2 * PIECE, [audio(1), audio(2)])


def test_with_a_button_no_sound_is_said_outside_of_an_activity() -> None:
    uplink = Uplink(10)
    start, end = live.ActivityStart(), live.ActivityEnd()
    for item in (audio(1), end, start, start, audio(2), live.Text("hi"), end, audio(3), end):
        uplink.add(item, 0.0)
    uplink.rewind(0.0, manual=True)
    taken = [entry.item for entry in iter(lambda: uplink.take(0.0), None)]
    assert taken == [start, audio(2), live.Text("hi"), end]
