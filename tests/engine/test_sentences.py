"""What a model writes, as it is spoken."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.engine.sentences import MAX_ANSWER_CHARS, MAX_SENTENCE_CHARS, Speakable, speakable


def spoken(*pieces: str) -> list[str]:
    reader = Speakable()
    return [sentence for piece in pieces for sentence in reader.feed(piece)] + reader.end()


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Hello. How are you?", ["Hello.", "How are you?"]),
        ("Wait... What?! Yes", ["Wait...", "What?!", "Yes."]),
        ('She said "Go." Then he left.', ['She said "Go."', "Then he left."]),
        ("It costs 3.50 at v1.2.3. Fine.", ["It costs 3.50 at v1.2.3.", "Fine."]),
        (
            "Dr. Smith met J. S. Bach, e.g. in Leipzig. So.",
            ["Dr. Smith met J. S. Bach, e.g. in Leipzig.", "So."],
        ),
        ("# Facts\n\n1. **Salt.** It is salty.\n2. *Deep*\n", ["Facts.", "Salt.", "It is salty.", "Deep."]),
        ("- one\n* two\n+ three\n• four\n> five", ["one.", "two.", "three.", "four.", "five."]),
        ("Three things:\n- a thing", ["Three things:", "a thing."]),
        ("Use `next_page` or __both__.", ["Use next page or both."]),
        ("See [the site](https://www.a.example/b?c=d). Bye.", ["See the site.", "Bye."]),
        ("![A picture](x.png) It shows https://www.a.example/b/c.", ["A picture It shows a.example."]),
        ("So [one. Two](http://x) three.", ["So one.", "Two three."]),
        ("A<br>b </p> < c.", ["A b < c."]),
        ("2 * 3 = 6, and 4×5.", ["2 times 3 = 6, and 4 times 5."]),
        ("Great! 🎉🎉 Well done 👍🏽 👨‍👩‍👧 ❤️ 🇫🇷.", ["Great!", "Well done."]),
        ("20°C in Zürich, naïve café…", ["20°C in Zürich, naïve café…"]),
        ("| a | b |\n|---|---|\n| 1 | 2 |", ["a b.", "1 2."]),
        ("<think>Hm. What?</think>Yes. <thinking>No", ["Yes."]),
        ("Hm, what is this</think>\n\nYes.", ["Yes."]),
        ("It is odd. Hm</think>Yes.", ["It is odd.", "Yes."]),
        ("Look:\n```python\nprint(1. )\n```\nDone.", ["Look:", "Done."]),
        ("Look: ```unfinished. ", ["Look:"]),
        ("One\u200b. Two\x07.\n\n\n", ["One.", "Two."]),
        ("No. I will not.", ["No.", "I will not."]),
        ("...\n***\n---\n🙂", []),
        ("", []),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    assert spoken(text) == sentences
    assert spoken(*text) == sentences


def test_a_sentence_is_there_as_soon_as_the_next_one_begins() -> None:
    reader = Speakable()
    assert reader.feed("Hello") == []
    assert reader.feed(".") == []
    assert reader.feed(" ") == ["Hello."]
    assert reader.feed("So") == []
    assert reader.end() == ["So."]


def test_what_has_no_end_is_cut_where_it_hurts_least() -> None:
    words = "word " * 100
    assert all(len(one) <= MAX_SENTENCE_CHARS and one.endswith("word.") for one in spoken(words))
    clause = f"{'word ' * 20}word, {'word ' * 50}"
    assert spoken(clause)[0].count("word") == 21
    lengths = [len(one) for one in spoken("x" * 600)]
    assert lengths == [MAX_SENTENCE_CHARS + 1, MAX_SENTENCE_CHARS + 1, 41]


def test_no_more_is_taken_than_may_be_spoken() -> None:
    reader = Speakable()
    said = reader.feed("This is one sentence. " * 100)
    assert reader.full
    assert MAX_ANSWER_CHARS - 30 < sum(map(len, said)) <= MAX_ANSWER_CHARS
    assert reader.feed("More. And more. ") == []
    assert reader.end() == []


pieces = st.sampled_from(
    [
        *(
            "a",
            "Ab",
            " ",
            ". ",
            ".",
            "\n",
            "? ",
            "word ",
            "Mr.",
            "1. ",
            "- ",
            "**",
            "`",
            "```",
            "<",
            "🙂",
            "x" * 150,
        ),
        *("<think>", "</think>", "<thinking>", "</thinking>", "[a](b)", ", ", "This is a sentence. " * 9),
    ]
)


@given(st.lists(pieces, max_size=40), st.lists(st.integers(0, 2_000), max_size=30))
def test_how_it_is_cut_does_not_matter(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    said = spoken(*(text[start:end] for start, end in pairwise(edges)))
    assert said == spoken(text)
    assert sum(map(len, said)) <= MAX_ANSWER_CHARS
    for sentence in said:
        assert any(one.isalnum() for one in sentence)
        assert len(sentence) <= MAX_SENTENCE_CHARS + 2
        assert not set(sentence) & set("*`~|_\n🙂")


@given(st.text(max_size=300))
def test_any_text_can_be_taken(text: str) -> None:
    for sentence in spoken(text):
        assert speakable(sentence)
