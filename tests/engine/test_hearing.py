"""What is told of an utterance while it grows."""

from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.engine.hearing import Agreement, Hearing, Told
from antiphon.transcription import Hypothesis


def test_a_word_is_emitted_once_two_hypotheses_agree() -> None:
    agreement = Agreement()
    assert agreement.partial("Go") == ""
    assert agreement.partial("go forward") == "go"
    assert agreement.partial("go forward then") == " forward"
    assert agreement.partial("go forward, ten meters") == ""
    assert agreement.partial("go forward, ten meters") == " ten meters"
    assert agreement.final("Go forward ten meters, please.") == " please."


def test_what_was_emitted_stands() -> None:
    agreement = Agreement()
    agreement.partial("wreck a nice")
    assert agreement.partial("wreck a nice beach") == "wreck a nice"
    assert agreement.partial("recognise") == ""
    assert agreement.final("recognise speech here now") == " now"


def test_a_new_utterance_begins_anew() -> None:
    agreement = Agreement()
    agreement.partial("one")
    assert agreement.final("one") == "one"
    assert agreement.partial("one") == ""
    assert agreement.final("one two") == "one two"
    assert agreement.final("") == ""


hypotheses = st.lists(st.lists(st.sampled_from(["go", "Go,", "forward", "ten", "meters."])).map(" ".join))


@settings(deadline=None)
@given(hypotheses, st.lists(st.sampled_from(["go", "forward", "ten"])))
def test_the_deltas_make_as_many_words_as_were_heard_at_least(partials: list[str], last: list[str]) -> None:
    agreement = Agreement()
    text = "".join(agreement.partial(one) for one in partials)
    emitted = len(text.split())
    text += agreement.final(" ".join(last))
    assert len(text.split()) == max(emitted, len(last))
    assert text.split()[emitted:] == last[emitted:]
    assert text == " ".join(text.split())


@settings(deadline=None)
@given(st.text(alphabet="ab ", max_size=20))
def test_without_contradiction_the_deltas_are_the_text(text: str) -> None:
    agreement = Agreement()
    words = text.split()
    deltas = [agreement.partial(" ".join(words[:end])) for end in range(len(words))]
    assert "".join(deltas) + agreement.final(text) == " ".join(words)


def test_partials_tell_the_whole() -> None:
    hearing = Hearing()
    assert hearing.partial("go", 0.5) == Told("", Hypothesis("go", 0.5, final=False))
    assert hearing.partial("go", 0.6) is None
    assert hearing.partial("go on", 0.7) == Told("go", Hypothesis("go on", 0.7, final=False))
    assert hearing.final("Go on.", 0.9) == Told(" on.", Hypothesis("Go on.", 0.9, final=True))


def test_an_utterance_without_words_is_told_only_if_words_were() -> None:
    hearing = Hearing()
    assert hearing.partial("", 0.0) is None
    assert hearing.final() is None
    hearing.partial("hm", 0.2)
    assert hearing.final() == Told("", Hypothesis("", 0.0, final=True))


def test_an_utterance_may_come_in_pieces() -> None:
    hearing = Hearing()
    hearing.partial("one", 0.5)
    assert hearing.piece("one two", 1.0) == Told("one", Hypothesis("one two", 1.0, final=False))
    assert hearing.partial("three", 0.5) == Told(" two", Hypothesis("one two three", 9.5 / 12, final=False))
    told = hearing.piece("three", 0.3)
    assert told is None
    assert hearing.final() == Told(" three", Hypothesis("one two three", 8.5 / 12, final=True))
    assert hearing.final() is None
