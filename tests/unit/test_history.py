"""The history: the end of what was said, bounded whatever that is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from antiphon.live import Turn
from antiphon.session.history import MAX_CHARACTERS, MAX_TURNS, History
from antiphon.session.kept import dump, load


def test_turns_in_order() -> None:
    history = History()
    history.add(Turn("user", " Hello. "))
    history.add(Turn("model", "Good day."))
    assert history.turns == (Turn("user", "Hello."), Turn("model", "Good day."))


def test_one_without_words_is_none() -> None:
    history = History()
    history.add(Turn("user", " \n"))
    assert history.turns == ()


def test_of_a_long_one_the_end_is_kept() -> None:
    history = History()
    history.add(Turn("model", "a" * MAX_CHARACTERS + "b"))
    (turn,) = history.turns
    assert (len(turn.text), turn.text[-2:]) == (MAX_CHARACTERS // 4, "ab")


def test_the_oldest_go() -> None:
    history = History()
    for number in range(MAX_TURNS + 2):
        history.add(Turn("user", f"{number}"))
    assert [turn.text for turn in history.turns] == [f"{number}" for number in range(2, MAX_TURNS + 2)]
    for letter in "abcde":
        history.add(Turn("user", letter * (MAX_CHARACTERS // 4)))
    assert [turn.text[0] for turn in history.turns] == ["b", "c", "d", "e"]


@given(
    st.lists(st.builds(Turn, st.sampled_from(["user", "model"]), st.text(max_size=4) | st.just("x" * 3000)))
)
def test_it_is_bounded_and_the_end_of_what_was_said(turns: list[Turn]) -> None:
    history = History()
    for turn in turns:
        history.add(turn)
    said = [Turn(turn.role, turn.text.strip()) for turn in turns if turn.text.strip()]
    kept = list(history.turns)
    assert kept == said[len(said) - len(kept) :]
    assert len(kept) <= MAX_TURNS
    assert sum(len(turn.text) for turn in kept) <= MAX_CHARACTERS
    assert len(kept) == min(len(said), MAX_TURNS) or sum(len(turn.text) for turn in said) > MAX_CHARACTERS


def test_it_goes_on_where_it_was_written_down() -> None:
    history, other = History(), History()
    for number in range(MAX_TURNS):
        history.add(Turn("user", f"{number}"))
    load(other, dump(history))
    for part in (history, other):
        part.add(Turn("model", "x" * MAX_CHARACTERS))
        part.add(Turn("model", "y"))
    assert other.turns == history.turns
    assert len(other.turns) == MAX_TURNS
