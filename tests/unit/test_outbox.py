"""The outbox: whatever is lost on the way, a client that counts has every message once, and in order."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack

from antiphon.session.outbox import ASK_BYTES, Frame, Outbox


def frame(number: int, size: int = 4, *, passing: bool = False) -> Frame:
    return Frame(number.to_bytes(size, "big"), passing=passing)


def kept_by(outbox: Outbox) -> list[bytes]:
    return [msgpack.decode(entry, type=Frame).data for entry in outbox.entries(outbox.first)]


def filled(count: int, limit_bytes: int = 1000) -> Outbox:
    outbox = Outbox(limit_bytes)
    for number in range(1, count + 1):
        outbox.add(frame(number))
    return outbox


def restored(outbox: Outbox) -> Outbox:
    """Return the box as another node has it."""
    other = Outbox()
    other.count, other.first, other._unsent = outbox.count, outbox.first, outbox._unsent
    other.restore(outbox.entries(outbox.first))
    return other


class TestMissed:
    def test_is_what_has_not_come_in_order(self) -> None:
        outbox = filled(5)
        missed = outbox.missed(3)
        assert missed == ([frame(4), frame(5)], False)
        assert (outbox.first, outbox.count, outbox.end) == (4, 5, 6)

    def test_may_be_all_or_nothing(self) -> None:
        assert filled(2).missed(0) == ([frame(1), frame(2)], False)
        assert filled(2).missed(2) == ([], False)

    def test_it_may_be_missed_again(self) -> None:
        outbox = filled(3)
        outbox.missed(1)
        outbox.add(frame(4))
        assert outbox.missed(2) == ([frame(3), frame(4)], False)

    def test_what_could_not_be_kept_is_told_of(self) -> None:
        outbox = filled(5, limit_bytes=12)
        assert outbox.first == 3
        assert outbox.missed(2) == ([frame(3), frame(4), frame(5)], False)
        outbox = filled(5, limit_bytes=12)
        assert outbox.missed(1) == ([frame(3), frame(4), frame(5)], True)

    def test_a_client_that_is_told_so_goes_on_from_what_it_got(self) -> None:
        outbox = filled(5, limit_bytes=12)
        outbox.missed(1)
        assert (outbox.count, outbox.first) == (4, 2), "one before, and the three"
        assert outbox.missed(4) == ([], False)

    def test_more_than_is_known_may_have_come_from_a_node_that_is_gone(self) -> None:
        outbox = filled(3)
        assert outbox.missed(7) == ([], True)
        assert (outbox.count, outbox.first, outbox.end) == (7, 8, 8)
        assert outbox.missed(7) == ([], False)

    def test_what_another_node_adds_before_the_client_is_there_has_not_come(self) -> None:
        outbox = restored(filled(3))
        outbox.add(frame(4))
        outbox = restored(outbox)
        outbox.add(frame(5))
        assert outbox.missed(4) == ([frame(4), frame(5)], True), "the client's fourth is another"
        assert (outbox.count, outbox.first) == (6, 5)
        outbox.add(frame(6))
        assert outbox.missed(7) == ([], False)
        outbox = restored(filled(3))
        outbox.add(frame(4))
        assert outbox.missed(2) == ([frame(3), frame(4)], False)

    def test_what_is_about_a_connection_is_not_sent_on_another(self) -> None:
        outbox = filled(1)
        outbox.add(frame(2, passing=True))
        outbox.add(frame(3))
        assert outbox.missed(1) == ([frame(3)], False)
        assert (outbox.count, outbox.first) == (2, 2)


class TestPings:
    def test_a_pong_shows_what_has_come(self) -> None:
        outbox = filled(3)
        outbox.pinged(1)
        outbox.add(frame(4))
        outbox.ponged(1)
        assert outbox.first == 4
        outbox.ponged(1)
        assert outbox.first == 4

    @pytest.mark.parametrize("pong", [2, "1", None, 1.5])
    def test_one_that_answers_nothing_shows_nothing(self, pong: object) -> None:
        outbox = filled(3)
        outbox.pinged(1)
        outbox.ponged(pong)
        assert outbox.first == 1

    def test_a_later_one_answers_those_before(self) -> None:
        outbox = filled(1)
        for ping in range(1, 20):
            outbox.pinged(ping)
            outbox.add(frame(ping + 1))
        outbox.ponged(19)
        assert outbox.first == 20
        outbox.ponged(18)
        assert outbox.first == 20

    def test_is_wanted_when_much_was_sent_and_none_is_open(self) -> None:
        outbox = Outbox()
        wanted = []
        for size in (ASK_BYTES - 1, 1):
            outbox.add(frame(1, size))
            wanted.append(outbox.wants_ping)
        outbox.pinged(1)
        outbox.add(frame(3, ASK_BYTES))
        wanted.append(outbox.wants_ping)
        outbox.ponged(1)
        assert [*wanted, outbox.wants_ping] == [False, True, False, True]

    def test_those_of_another_connection_are_not_answered_any_more(self) -> None:
        outbox = filled(2)
        outbox.pinged(1)
        outbox.missed(1)
        outbox.ponged(1)
        assert outbox.first == 2


class TestWrittenDown:
    def test_what_is_kept_comes_back(self) -> None:
        outbox = filled(4)
        outbox.missed(1)
        outbox.add(Frame(b"\0\1", binary=True))
        other = Outbox()
        other.count, other.first = outbox.count, outbox.first
        other.restore(outbox.entries(outbox.first))
        assert other.missed(2) == outbox.missed(2)

    def test_only_the_newest_are_asked_for(self) -> None:
        outbox = filled(4)
        assert len(outbox.entries(3)) == 2
        assert outbox.entries(5) == []
        outbox.missed(3)
        assert len(outbox.entries(1)) == 1, "no more than there are"

    def test_numbers_that_change_are_told_of(self) -> None:
        outbox = filled(2)
        outbox.missed(1)
        changed = [outbox.changed]
        outbox.add(frame(3, passing=True))
        outbox.missed(2)
        changed += [outbox.changed, outbox.changed]  # asking is taking note
        outbox.missed(9)
        assert [*changed, outbox.changed] == [False, True, False, True]

    def test_the_bound_holds_for_what_comes_back(self) -> None:
        outbox = filled(3, limit_bytes=12)
        other = Outbox(limit_bytes=12)
        other.count, other.first = 3, 1
        other.restore(outbox.entries(1))
        other.add(frame(4))
        assert other.first == 2


SENDS = st.tuples(st.just("send"), st.integers(1, 40), st.booleans())
STEPS = st.one_of(SENDS, st.sampled_from([("deliver",), ("ping",), ("pong",), ("cut",)]))


@given(st.lists(STEPS, max_size=80), st.integers(20, 400))
def test_a_client_that_counts_has_all_of_it_once(steps: list[tuple[object, ...]], limit_bytes: int) -> None:
    outbox = Outbox(limit_bytes)
    wire: deque[bytes] = deque()
    sent: list[bytes] = []
    got: list[bytes] = []
    pings: list[tuple[int, int]] = []
    count, lossy = 0, False
    for number, step in enumerate([*steps, ("cut",), ("deliver",)], 1):
        match step:
            case "send", int(size), bool(passing):
                made = Frame(number.to_bytes(2, "big") + bytes(size), passing=passing)
                outbox.add(made)
                wire.append(made.data)
                sent += [] if passing else [made.data]
            case ("deliver",):
                got += wire
                count += len(wire)
                wire.clear()
            case ("ping",):
                outbox.pinged(number)
                pings.append((number, outbox.count))
            case ("pong",):
                for ping, at in pings:
                    if at <= count:
                        outbox.ponged(ping)
            case _:
                wire.clear()
                pings.clear()
                missed = outbox.missed(count)
                lossy |= missed.lossy
                wire.extend(made.data for made in missed.frames)
        assert sum(len(entry) for entry in kept_by(outbox)) <= limit_bytes
    kept = [data for data in got if data in sent]
    if lossy:
        assert kept == [data for data in sent if data in kept]
    else:
        assert kept == sent
    assert len(set(got)) == len(got)
