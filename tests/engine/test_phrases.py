"""Commands in what a user says."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.engine.phrases import (
    MAX_PHRASES,
    MAX_WORDS,
    Call,
    Function,
    Grammar,
    Parameter,
    Value,
    phrases_in,
    polite_core,
    words,
)

GRAMMAR = Grammar(
    (
        Function("next", ("next", "next one", "skip this", "go to the next page")),
        Function(
            "go_back",
            ("go back {count} steps", "back {count}"),
            {"count": Parameter("integer", required=True)},
        ),
        Function("slower", ("slower", "slow down", "speak more slowly")),
        Function("pause", ("pause", "hold on", "stop for a moment")),
        Function("play", ("play {title}",), {"title": Parameter(required=True)}),
        Function("light", ("turn {state} the light", "lights {state}"), {"state": Parameter("boolean")}),
        Function("set_mode", ("switch to {mode} mode",), {"mode": Parameter(enum=("night", "Full Screen"))}),
        Function("volume", ("volume {level}", "volume {level} {level}"), {"level": Parameter("number")}),
        Function("forward", ("go forward ten meters",)),
        Function("tag", ("tag {list}",), {"list": Parameter("other")}),
        Function("broken", ("fix {nothing}", "   ", "repair it now")),
    )
)


def test_phrases_stand_in_the_description() -> None:
    description = 'Skip "this" one. Said as: "next", "next one","skip {count}" , " ". More.'
    assert phrases_in(description) == ("next", "next one", "skip {count}")
    assert phrases_in(r'Said as: "say \"cheese\"", "back\\slash".') == ('say "cheese"', r"back\slash")
    assert phrases_in("Skip this one.") == ()
    assert phrases_in('Said as: next, "skip"') == ()


@pytest.mark.parametrize(
    ("text", "name", "args", "said"),
    [
        ("Next.", "next", {}, "next"),
        ("NEXT ONE!", "next", {}, "next one"),
        ("Can you skip this, please?", "next", {}, "skip this"),
        ("Hey, um, next, please, thank you.", "next", {}, "next"),
        ("Go to next page", "next", {}, "go to the next page"),
        ("slowdown", "slower", {}, "slow down"),
        ("Slow her.", "slower", {}, "slower"),
        ("Speak more slowley", "slower", {}, "speak more slowly"),
        ("Go forward ten metres.", "forward", {}, "go forward ten meters"),
        ("Go forward 10 meters.", "forward", {}, "go forward ten meters"),
        ("go back three steps", "go_back", {"count": 3}, "go back three steps"),
        ("Go back to steps.", "go_back", {"count": 2}, "Go back to steps"),
        ("Please go back 1 step", "go_back", {"count": 1}, "go back 1 step"),
        ("back twenty-one", "go_back", {"count": 21}, "back twenty-one"),
        ("Play What’s Up, Doc, please!", "play", {"title": "What’s Up, Doc"}, "Play What’s Up, Doc"),
        ("turn off the light", "light", {"state": False}, "turn off the light"),
        ("Turn on a light", "light", {"state": True}, "Turn on a light"),
        ("lights on", "light", {"state": True}, "lights on"),
        (
            "switch to the full screen mode",
            "set_mode",
            {"mode": "Full Screen"},
            "switch to the full screen mode",
        ),
        ("volume two point five", "volume", {"level": 2.5}, "volume two point five"),
        ("set mode", "set_mode", {}, "set mode"),
        ("repair it now", "broken", {}, "repair it now"),
    ],
)
def test_matches(text: str, name: str, args: dict[str, Value], said: str) -> None:
    assert GRAMMAR.match(text) == Call(name, args, said)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "...",
            "please",
            "text",
            "nest",
            "what next",
            "don't skip this",
            "skip this song",
            "the pause button",
        ),
        *(
            "I don't want to go forward ten meters",
            "go back",
            "go back many steps",
            "go back two point five steps",
        ),
        *("play", "turn up the light", "switch to morning mode", "volume high", "volume one two", "fix it"),
        *("tag a list", "go forward two meters", "cause", "flower", "turn off", "next " * (MAX_WORDS + 1)),
    ],
)
def test_is_no_command(text: str) -> None:
    assert GRAMMAR.match(text) is None


def test_a_function_with_a_required_parameter_needs_a_phrase_that_gives_it() -> None:
    grammar = Grammar((Function("go", ("go",), {"where": Parameter(required=True)}),))
    assert grammar.match("go") is None


def test_a_phrase_may_be_polite_itself() -> None:
    grammar = Grammar((Function("go_on", ("please continue",)),))
    assert grammar.match("Continue!") == Call("go_on", {}, "please continue")


def test_what_is_near_two_functions_is_neither() -> None:
    grammar = Grammar((Function("a", ("letters",)), Function("b", ("lettres",))))
    assert grammar.match("letters") == Call("a", {}, "letters")
    assert grammar.match("lettrs") is None


@pytest.mark.parametrize(
    ("said", "near"),
    [
        *((said, True) for said in ("forwards", "forwrad", "forwart", "forwadr", "fordward")),
        *((said, False) for said in ("norward", "forwardly", "forwxrt", "for", "forwar7")),
    ],
)
def test_a_near_match_is_one_slip_away(said: str, near: bool) -> None:
    assert (Grammar((Function("forward"),)).match(said) is not None) is near


def test_six_words_may_have_two_slips() -> None:
    grammar = Grammar((Function("f", ("please switch all the kitchen lights around again",)),))
    assert grammar.match("switch all the kichen lights arround again")
    assert grammar.match("swich all the kichen lights arround again") is None


def test_too_many_phrases_are_refused() -> None:
    with pytest.raises(ValueError, match="500"):
        Grammar((Function("f", tuple(f"phrase {number}" for number in range(MAX_PHRASES + 1))),))


def test_politeness_is_put_aside_unless_there_is_nothing_else() -> None:
    def core(text: str) -> str:
        return " ".join(word.key for word in polite_core(words(text)))

    assert core("Hey, could you please go back, please? Thanks.") == "go back"
    assert core("I'd like you to stop") == "stop"
    assert core("please, thank you") == "please thank you"
    assert core("") == ""


@settings(deadline=None)
@given(st.text(max_size=200))
def test_takes_any_text(text: str) -> None:
    GRAMMAR.match(text)
    for word in words(text):
        assert word.key
        assert 0 <= word.start < word.end <= len(text)


@settings(deadline=None)
@given(
    st.sampled_from(["next", "skip this", "hold on", "go forward ten meters"]),
    st.sampled_from(["", "please", "can you", "hey, could you"]),
    st.sampled_from(["", "please", "now", "for me, thanks"]),
    st.sampled_from([".", "!", "?", ""]),
)
def test_politeness_and_punctuation_make_no_difference(
    phrase: str, before: str, after: str, end: str
) -> None:
    plain = GRAMMAR.match(phrase)
    assert plain
    assert GRAMMAR.match(f"{before} {phrase} {after}{end}".upper()) == plain
