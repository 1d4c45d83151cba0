"""What the engine says."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.engine.memory import Memory
from antiphon.engine.phrases import Call, Function, Grammar, Parameter
from antiphon.engine.responder import ENGLISH_ONLY, Answer, confirm, first_line, respond, unanswered
from antiphon.engine.smalltalk import MAX_QUOTED_WORDS, quote

MORNING = datetime(2026, 11, 22, 9, 5, tzinfo=UTC)
GRAMMAR = Grammar((Function("next", ("next",)),))
MEMORY = Memory().with_entry("user", "Go forward.").with_entry("model", "I heard: Go forward.")


def say(
    text: str,
    *,
    grammar: Grammar = GRAMMAR,
    memory: Memory = MEMORY,
    language: str = "en-US",
    at: datetime = MORNING,
) -> str:
    answer = respond(text, grammar, memory, language, at)
    assert isinstance(answer, Answer)
    assert all(answer.sentences)
    return " ".join(answer.sentences)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("Hello!", "Good morning! What can I do for you?"),
        ("Hi there.", "Good morning! What can I do for you?"),
        ("Good evening, Antiphon.", "Good morning! What can I do for you?"),
        ("What time is it?", "It's nine oh five in the morning."),
        ("Hello, could you tell me the time, please?", "It's nine oh five in the morning."),
        ("What's the current time right now?", "It's nine oh five in the morning."),
        ("What's the date today?", "It's Sunday, November twenty-second, twenty twenty-six."),
        ("What day of the week is it?", "It's Sunday, November twenty-second, twenty twenty-six."),
        ("Thank you very much.", "You're welcome."),
        ("Okay, thanks!", "You're welcome."),
        ("Bye bye.", "Goodbye!"),
        ("How are you today?", "I'm working well, thank you."),
        ("Who are you?", "I'm Antiphon, a small voice assistant. I run on this computer alone."),
        ("Are you a real person?", "I'm Antiphon, a small voice assistant. I run on this computer alone."),
        ("What did you say?", "I heard: Go forward."),
        ("Say that again, please.", "I heard: Go forward."),
        ("I didn't catch that.", "I heard: Go forward."),
        ("What did I just say?", "You said: Go forward."),
        ("Can you hear me?", "Yes, I can hear you."),
        ("Never mind.", "Okay."),
        ("Great!", "All right."),
        ("Author of the danger trail", "I heard: Author of the danger trail."),
        ("Go forward ten meters.", "I heard: Go forward ten meters."),
        (
            "What is the capital of France?",
            "I heard: What is the capital of France? I don't know the answer.",
        ),
        ("what time is it in Paris", "I heard: what time is it in Paris. I don't know the answer."),
        ("Could you sing?", "I heard: Could you sing? I don't know the answer."),
        ("The time has come.", "I heard: The time has come."),
        ("...", "I did not understand that."),
        ("", "I did not understand that."),
    ],
)
def test_answers(asked: str, said: str) -> None:
    assert say(asked) == said


@pytest.mark.parametrize(
    ("hour", "minute", "said"),
    [
        (0, 0, "midnight"),
        (0, 1, "twelve oh one in the morning"),
        (11, 59, "eleven fifty-nine in the morning"),
        (12, 0, "noon"),
        (13, 0, "one o'clock in the afternoon"),
        (15, 30, "three thirty in the afternoon"),
        (18, 10, "six ten in the evening"),
        (23, 45, "eleven forty-five at night"),
    ],
)
def test_tells_the_time_as_people_say_it(hour: int, minute: int, said: str) -> None:
    assert say("What time is it?", at=MORNING.replace(hour=hour, minute=minute)) == f"It's {said}."


@pytest.mark.parametrize(
    ("hour", "part"), [(3, "evening"), (4, "morning"), (12, "afternoon"), (18, "evening")]
)
def test_greets_by_the_hour(hour: int, part: str) -> None:
    assert say("Hello", at=MORNING.replace(hour=hour)).startswith(f"Good {part}!")


def test_remembers_nothing_at_the_beginning() -> None:
    assert say("repeat that", memory=Memory()) == "I have not said anything yet."
    assert say("what did I say", memory=Memory()) == "You have not said anything before that."


def test_says_what_can_be_said() -> None:
    also = "I can also tell the time and the date, and repeat what was said."
    assert say("What can you do?") == f"You can say: next. {also}"
    grammar = Grammar(
        (
            Function("next", ("next", "skip")),
            Function("go_back", ("go back {count} steps.",), {"count": Parameter("integer")}),
            Function("light", ("turn {state} the light",), {"state": Parameter("boolean")}),
            Function("mode", ("{mode} mode",), {"mode": Parameter(enum=("night", "day"))}),
            Function("play", ("play {song_title}",), {"song_title": Parameter()}),
            Function("go_home"),
        )
    )
    listed = "next, go back three steps, turn on the light, night mode, play song title or go home"
    assert say("help", grammar=grammar) == f"You can say: {listed}. {also}"
    one_more = Grammar((*grammar.functions, Function("pause")))
    assert "night mode, play song title or go home. There is one more." in say("help", grammar=one_more)
    two_more = Grammar((*one_more.functions, Function("stop")))
    assert "There are 2 more." in say("help", grammar=two_more)
    alone = say("help", grammar=Grammar())
    assert alone == "I can tell the time and the date, and repeat what was said."


def test_a_command_goes_before_small_talk() -> None:
    grammar = Grammar((Function("repeat", ("repeat that",)),))
    assert respond("Repeat that.", grammar, MEMORY, "en", MORNING) == Call("repeat", {}, "repeat that")


def test_of_typed_text_the_first_line_is_what_is_said() -> None:
    assert first_line(" next \n\nContext: {}") == "next "
    assert first_line("next") == "next"


def test_warns_once_that_it_knows_english_only() -> None:
    assert say("¿Qué hora es?", memory=Memory(), language="es-ES") == ENGLISH_ONLY
    assert say("thanks", memory=Memory(), language="de") == f"{ENGLISH_ONLY} You're welcome."
    assert say("thanks", memory=MEMORY, language="de") == "You're welcome."
    assert say("thanks", memory=Memory(), language="EN-gb") == "You're welcome."
    assert say("thanks", memory=Memory(), language="") == "You're welcome."


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({}, "Okay, skip this."),
        ({"output": "done"}, "Okay, skip this."),
        ({"output": "OK."}, "Okay, skip this."),
        ({"output": {"page": 3}}, "Okay, skip this."),
        ({"output": "Page  three"}, "Page three."),
        ({"say": "Here we go!"}, "Here we go!"),
        ({"result": "Done with page 3."}, "Done with page 3."),
        ({"error": "boom"}, "Sorry, that could not be done."),
        ({"error": None, "say": "yes"}, "Sorry, that could not be done."),
    ],
)
def test_confirms_a_command(result: dict[str, object], said: str) -> None:
    assert confirm(Call("next", {}, "Skip this"), result, MEMORY, "en") == Answer((said,))


def test_confirms_with_the_warning_where_it_is_due() -> None:
    answer = confirm(Call("next", {}, "next"), {}, Memory(), "fr")
    assert answer == Answer((ENGLISH_ONLY, "Okay, next."))
    failed = confirm(Call("next", {}, "next"), {"error": "no"}, Memory(), "fr")
    assert failed == Answer((ENGLISH_ONLY, "Sorry, that could not be done."))
    told = confirm(Call("next", {}, "next"), {"say": "Voilà"}, Memory(), "fr")
    assert told == Answer((ENGLISH_ONLY, "Voilà."))


def test_says_when_no_answer_came() -> None:
    assert unanswered() == Answer(("Sorry, that did not work.", "There was no answer."))


def test_quotes_are_cut() -> None:
    assert quote(" a \n b ") == "a b."
    many = quote("word " * (MAX_QUOTED_WORDS + 1))
    assert many.count("word") == MAX_QUOTED_WORDS
    assert many.endswith("word, and more.")
    assert quote("word " * MAX_QUOTED_WORDS).endswith("word.")


@settings(deadline=None)
@given(st.text(max_size=300))
def test_takes_any_text(text: str) -> None:
    answer = respond(text, GRAMMAR, MEMORY, "en", MORNING)
    assert isinstance(answer, Call) or all(answer.sentences)
