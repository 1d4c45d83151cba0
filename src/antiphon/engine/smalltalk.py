"""Small talk: what needs no knowledge but the time, the commands and what was said."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final, NamedTuple

from antiphon.engine import numbers
from antiphon.engine.memory import Memory
from antiphon.engine.phrases import SLOT, Function, Grammar, Parameter, spoken_name

MAX_QUOTED_WORDS: Final = 24


def small_talk(
    text: str, functions: tuple[Function, ...], memory: Memory, at: datetime
) -> tuple[str, ...] | None:
    """Return the answer to small talk in sentences, None where it is something else; `at` is local time."""
    talk = _GRAMMAR.match(text)
    return _ANSWERS[talk.name](_Request(functions, memory, at)) if talk else None


def clock_talk(text: str, at: datetime) -> tuple[str, ...] | None:
    """Return the answer to who asks for the time or the date, None where it is something else."""
    talk = _GRAMMAR.match(text)
    if talk is None or talk.name not in ("tell_time", "tell_date"):
        return None
    return _ANSWERS[talk.name](_Request((), Memory(), at))


def quote(text: str) -> str:
    """Return a text as one sentence to be spoken: on one line, ended, and cut if it is long."""
    said = text.split(maxsplit=MAX_QUOTED_WORDS)
    quoted = " ".join(said[:MAX_QUOTED_WORDS])
    if len(said) > MAX_QUOTED_WORDS:
        return f"{quoted}, and more."
    return quoted if quoted.endswith((".", "!", "?")) else f"{quoted}."


class _Request(NamedTuple):
    functions: tuple[Function, ...]
    memory: Memory
    at: datetime


def _greet(request: _Request) -> tuple[str, ...]:
    hour = request.at.hour
    part = "morning" if 4 <= hour < 12 else "afternoon" if 12 <= hour < 18 else "evening"
    return (f"Good {part}!", "What can I do for you?")


def _tell_time(request: _Request) -> tuple[str, ...]:
    hour, minute = request.at.hour, request.at.minute
    if minute == 0 and hour in (0, 12):
        return (f"It's {'noon' if hour else 'midnight'}.",)
    clock = numbers.cardinal(hour % 12 or 12)
    if minute == 0:
        clock += " o'clock"
    else:
        clock += f" {'oh ' if minute < 10 else ''}{numbers.cardinal(minute)}"
    if hour < 12:
        part = "in the morning"
    elif hour < 18:
        part = "in the afternoon"
    else:
        part = "in the evening" if hour < 22 else "at night"
    return (f"It's {clock} {part}.",)


def _tell_date(request: _Request) -> tuple[str, ...]:
    at = request.at
    return (f"It's {at:%A}, {at:%B} {numbers.ordinal(at.day)}, {numbers.year(at.year)}.",)


def _tell_functions(request: _Request) -> tuple[str, ...]:
    examples = [_example(function) for function in request.functions]
    shown, more = examples[:6], len(examples) - 6
    said: tuple[str, ...] = ()
    if shown:
        listed = shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"
        said = (f"You can say: {listed}.",)
        if more > 0:
            said += (f"There {'is one more' if more == 1 else f'are {more} more'}.",)
    return (*said, f"I can {'also ' if shown else ''}tell the time and the date, and repeat what was said.")


def _example(function: Function) -> str:
    phrase = function.phrases[0] if function.phrases else spoken_name(function)
    return SLOT.sub(lambda slot: _sample(slot[1], function.parameters.get(slot[1])), phrase).strip(" .!?")


def _sample(name: str, parameter: Parameter | None) -> str:
    if parameter and parameter.enum:
        return parameter.enum[0]
    if parameter and parameter.kind in ("integer", "number"):
        return "three"
    return "on" if parameter and parameter.kind == "boolean" else name.replace("_", " ")


def _repeat(request: _Request) -> tuple[str, ...]:
    said = request.memory.last("model")
    return (said,) if said else ("I have not said anything yet.",)


def _recall(request: _Request) -> tuple[str, ...]:
    said = request.memory.last("user")
    return (f"You said: {quote(said)}",) if said else ("You have not said anything before that.",)


def _always(*sentences: str) -> Callable[[_Request], tuple[str, ...]]:
    return lambda _: sentences


_ANSWERS: Final[dict[str, Callable[[_Request], tuple[str, ...]]]] = {
    "greet": _greet,
    "tell_time": _tell_time,
    "tell_date": _tell_date,
    "tell_functions": _tell_functions,
    "repeat": _repeat,
    "recall": _recall,
    "introduce": _always("I'm Antiphon, a small voice assistant.", "I run on this computer alone."),
    "how_are_you": _always("I'm working well, thank you."),
    "welcome": _always("You're welcome."),
    "part": _always("Goodbye!"),
    "hear": _always("Yes, I can hear you."),
    "leave_it": _always("Okay."),
    "agree": _always("All right."),
}


def _talk(name: str, *phrases: str, **choices: tuple[str, ...]) -> Function:
    return Function(
        name, phrases, {slot: Parameter("string", enum=values) for slot, values in choices.items()}
    )


_ASK: Final = (
    *("the", "what is the", "what's the", "tell me the", "give me the", "say the", "do you know the"),
    *("do you have the", "have you got the", "I want to know the", "what is", "what's"),
)
_NOW: Final = ("now", "right now", "today", "here", "at the moment", "currently", "exactly")
_GRAMMAR: Final = Grammar(
    (
        _talk(
            "greet",
            *("{greeting}", "{greeting} {whom}"),
            greeting=(
                *("hello", "hi", "hey", "howdy", "hello hello", "hi hello", "greetings"),
                *("good morning", "good afternoon", "good evening", "good day", "hello good morning"),
            ),
            whom=("there", "antiphon", "you", "again", "to you", "computer", "everyone"),
        ),
        _talk(
            "tell_time",
            *("time", "what time is it", "what time is it {now}", "what time it is", "what time do you have"),
            *("tell me what time it is", "do you know what time it is", "do you know what time is it"),
            *("{ask} time", "{ask} time {now}", "{ask} current time", "{ask} local time", "{ask} exact time"),
            ask=_ASK,
            now=_NOW,
        ),
        _talk(
            "tell_date",
            *("date", "{ask} {day}", "{ask} {day} {now}", "what {day} is it", "what {day} is it {now}"),
            *("what {day} is today", "what {day} it is", "what day is this", "what is today", "what's today"),
            *("tell me what {day} it is", "do you know what {day} it is", "what {day} do we have"),
            ask=_ASK,
            now=_NOW,
            day=(
                "date",
                "day",
                "weekday",
                "month",
                "year",
                "current date",
                "today's date",
                "day of the week",
            ),
        ),
        _talk(
            "tell_functions",
            *("help", "help me", "I need help", "how can you help", "how can you help me", "what can I ask"),
            *("what can you do", "what can you do for me", "what do you do", "what else can you do"),
            *("what can I say", "what can I do", "what can I ask you", "what do you know", "how do you work"),
            *(
                "what do you understand",
                "how does this work",
                "what are you able to do",
                "show me what you can do",
            ),
            *("{ask} commands", "what are {ask} commands", "list {ask} commands", "what commands are there"),
            *(
                "what commands do you know",
                "what commands can I use",
                "which commands are there",
                "list commands",
            ),
            ask=(
                "the",
                "your",
                "all the",
                "all",
                "all your",
                "what are the",
                "my",
                "available",
                "the available",
            ),
        ),
        _talk(
            "repeat",
            *("repeat", "repeat {what}", "repeat {what} {again}", "say {what} {again}", "again", "once more"),
            *("one more time", "come again", "what did you say", "what did you just say", "what was that"),
            *("what have you said", "pardon", "pardon me", "excuse me", "I {miss} {what}"),
            what=(
                "that",
                "it",
                "this",
                "you",
                "yourself",
                "your answer",
                "your last answer",
                "what you said",
            ),
            again=("again", "once more", "one more time", "please"),
            miss=("didn't hear", "did not hear", "didn't catch", "didn't get", "didn't understand"),
        ),
        _talk(
            "recall",
            *("what did I say", "what did I just say", "what did I say {before}", "what did I last say"),
            *("what have I said", "what have I just said", "what did I ask", "what did I ask you"),
            *("what did I tell you", "what was the last thing I said", "what's the last thing I said"),
            *("repeat what I said", "repeat what I just said", "do you remember what I said"),
            before=("before", "before that", "just now", "last", "to you", "a moment ago"),
        ),
        _talk(
            "introduce",
            *("who are you", "what are you", "what's your name", "what is your name", "do you have a name"),
            *("introduce yourself", "tell me about yourself", "who is this", "who am I talking to"),
            *("who am I speaking to", "who am I talking with", "are you {what}", "are you a {what}"),
            *("tell me your name", "are you a real {what}", "what's your name again"),
            what=(
                *("real", "human", "person", "robot", "bot", "machine", "computer", "ai", "an ai", "gemini"),
                *("human being", "voice assistant", "language model", "siri", "alexa"),
            ),
        ),
        _talk(
            "how_are_you",
            *(
                "how are you",
                "how are you doing",
                "how are you today",
                "how are you doing today",
                "how do you do",
            ),
            *(
                "how is it going",
                "how's it going",
                "are you okay",
                "are you well",
                "are you fine",
                "how are things",
            ),
        ),
        _talk(
            "welcome",
            *("{thanks}", "{thanks} {much}", "okay {thanks}", "great {thanks}", "{thanks} {much} antiphon"),
            thanks=("thanks", "thank you", "many thanks", "cheers"),
            much=(
                "very much",
                "so much",
                "a lot",
                "again",
                "for that",
                "for your help",
                "antiphon",
                "that's all",
            ),
        ),
        _talk(
            "part",
            *("bye", "bye bye", "goodbye", "good bye", "bye for now", "goodbye antiphon", "bye antiphon"),
            *("good night", "farewell", "so long", "see you", "see you later", "see you soon"),
            *("see you tomorrow", "have a nice day", "have a good day", "have a good evening", "okay bye"),
        ),
        _talk(
            "hear",
            *(
                "can you hear me",
                "can you hear me now",
                "do you hear me",
                "are you there",
                "are you still there",
            ),
            *("are you listening", "are you awake", "is anybody there", "is anyone there", "is this working"),
            *("is this thing on", "is this on", "does this work", "does it work", "sound check", "mic check"),
            *("microphone check", "microphone test", "test", "testing", "test test", "this is a test"),
            *("testing one two", "testing one two three", "one two three", "testing testing"),
        ),
        _talk(
            "leave_it",
            *(
                "stop",
                "stop it",
                "stop that",
                "stop talking",
                "stop speaking",
                "be quiet",
                "quiet",
                "silence",
            ),
            *("shut up", "hush", "cancel", "cancel that", "never mind", "forget it", "forget that", "enough"),
            *(
                "that's all",
                "that's it",
                "that's enough",
                "no",
                "nope",
                "nothing",
                "no thanks",
                "no thank you",
            ),
        ),
        _talk(
            "agree",
            *("yes", "yeah", "yep", "yes please", "okay", "ok", "sure", "all right", "alright", "right"),
            *("fine", "great", "good", "very good", "cool", "nice", "perfect", "wonderful", "excellent"),
            *("I see", "got it", "understood"),
        ),
    )
)
