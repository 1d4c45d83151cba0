"""The turns of a conversation."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, assert_never

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from antiphon import transcription
from antiphon.engine import wire
from antiphon.engine.conversation import (
    GO_AWAY_NOTICE_S,
    MAX_WAITING_TURNS,
    TOOL_TIMEOUT_S,
    Conversation,
    Effect,
    End,
    Hush,
    Phase,
    Say,
    Send,
)
from antiphon.engine.listener import Discarded, Final, Partial, SpeechStarted, SpeechStopped
from antiphon.engine.memory import Entry, Memory
from antiphon.engine.phrases import Function, Grammar
from antiphon.engine.playback import PIECE_S, RATE_HZ
from antiphon.engine.wire import Content, ToolResult, Typed

GRAMMAR = Grammar((Function("next", ("next",)), Function("pause", ("pause",))))
SETUP = wire.Setup(GRAMMAR, transcribes_input=True, transcribes_output=True, resumable=True)
SECOND = bytes(2 * RATE_HZ)
MAX_CONNECTION_S = 600.0


def described(message: Any) -> str:
    """Name a server message in a word or two."""
    kind = message.WhichOneof("message_type")
    content = message.server_content
    match kind:
        case "tool_call":
            (call,) = message.tool_call.function_calls
            return f"call {call.id} {call.name}"
        case "tool_call_cancellation":
            return f"cancel {' '.join(message.tool_call_cancellation.ids)}"
        case "session_resumption_update":
            update = message.session_resumption_update
            assert update.resumable == bool(update.new_handle)
            return f"handle {update.new_handle}".rstrip()
        case "go_away":
            return f"go away {message.go_away.time_left.ToMilliseconds() / 1000}"
        case "server_content":
            pass
        case _:
            return str(kind)
    if content.HasField("input_transcription"):
        told = transcription.decode(content.input_transcription)
        assert told
        return f"heard{'!' if told.final else ''} {told.whole!r} +{content.input_transcription.text!r}"
    if content.HasField("model_turn"):
        text = content.output_transcription.text
        return f"audio {text!r}" if text else "audio"
    flags = ("generation_complete", "interrupted", "turn_complete", "waiting_for_input")
    (flag,) = (flag for flag in flags if getattr(content, flag))
    return flag


class Talk:
    """A conversation, with time in the test's hands, and what it did as words."""

    def __init__(self, setup: wire.Setup = SETUP, memory: Memory | None = None) -> None:
        self.now = 0.0
        self.kept: list[Memory] = []
        self.messages: list[Any] = []
        self.say: Say | None = None
        calls = iter(range(1, 1_000))
        self.conversation = Conversation(
            setup,
            memory or Memory(),
            self.now,
            max_connection_s=MAX_CONNECTION_S,
            keep=self._keep,
            clock=lambda: datetime(2026, 11, 22, 9, 5, tzinfo=UTC),
            new_id=lambda: f"c{next(calls)}",
        )
        self.did = self.words(self.conversation.open(self.now))

    def _keep(self, memory: Memory, now: float) -> str:
        assert now == self.now
        self.kept.append(memory)
        return f"h{len(self.kept)}"

    def words(self, effects: list[Effect]) -> list[str]:
        said = []
        for effect in effects:
            match effect:
                case Send(message=message):
                    self.messages.append(message)
                    said.append(described(message))
                case Say():
                    self.say = effect
                    said.append(f"say {' '.join(effect.sentences)}")
                case Hush():
                    self.say = None
                    said.append("hush")
                case End(status=status):
                    said.append(f"end {status}")
                case _:
                    assert_never(effect)
        return said

    def hear(self, *events: SpeechStarted | Partial | SpeechStopped | Final | Discarded) -> list[str]:
        return [word for event in events for word in self.words(self.conversation.hear(event, self.now))]

    def receive(self, item: Typed | Content | ToolResult) -> list[str]:
        return self.words(self.conversation.receive(item, self.now))

    def type(self, text: str) -> list[str]:
        return self.receive(Typed(text))

    def result(
        self, call_id: str, *, silent: bool = False, more: bool = False, **response: object
    ) -> list[str]:
        return self.receive(ToolResult(call_id, "", response, silent, more))

    def speak(self, seconds: float = 1.0) -> list[str]:
        """Let the voice make all of what is to be said, `seconds` of audio for each sentence."""
        assert self.say
        say, self.say = self.say, None
        size = int(seconds * RATE_HZ) * 2
        did = []
        for sentence in say.sentences:
            did += self.words(self.conversation.spoke(say.turn, bytes(size), sentence, self.now))
        return did + self.words(self.conversation.generated(say.turn, self.now))

    def wait(self, until: float) -> list[str]:
        """Let time pass, waking the conversation as the server would."""
        did = []
        while (deadline := self.conversation.deadline()) <= until:
            self.now = max(self.now, deadline)
            did += self.words(self.conversation.expire(self.now))
        self.now = until
        return did


def without_audio(did: list[str]) -> list[str]:
    return [word for word in did if word != "audio"]


def test_begins_with_setup_complete_and_a_handle() -> None:
    assert Talk().did == ["setup_complete", "handle h1"]
    assert Talk(replace(SETUP, resumable=False)).did == ["setup_complete"]


def test_a_turn() -> None:
    talk = Talk()
    assert talk.hear(SpeechStarted(100), Partial("Hello", 0.5), Partial("Hello there", 0.625)) == [
        "heard 'Hello' +''",
        "heard 'Hello there' +'Hello'",
    ]
    assert talk.hear(SpeechStopped(900), Final("Hello there.", 0.75)) == [
        "handle",
        "heard! 'Hello there.' +' there.'",
        "say Good morning! What can I do for you?",
    ]
    assert without_audio(talk.speak()) == [
        "audio 'Good morning!'",
        "audio ' What can I do for you?'",
        "generation_complete",
    ]
    assert talk.conversation.phase is Phase.PLAYING
    assert talk.wait(1.9) == []
    assert talk.wait(2.0) == ["turn_complete", "handle h2"]
    assert talk.kept[-1].entries == (
        Entry("user", "Hello there."),
        Entry("model", "Good morning! What can I do for you?"),
    )


def test_the_answer_comes_in_pieces_of_audio() -> None:
    talk = Talk()
    talk.type("thanks")
    talk.messages.clear()
    talk.speak(1.0)
    parts = [message.server_content.model_turn.parts[0].inline_data for message in talk.messages[:-1]]
    assert {part.mime_type for part in parts} == {"audio/pcm;rate=24000"}
    assert [len(part.data) / 2 / RATE_HZ for part in parts] == pytest.approx([PIECE_S] * 6 + [0.04])
    assert talk.messages[0].server_content.model_turn.role == "model"
    assert talk.messages[0].server_content.output_transcription.text == "You're welcome."


def test_transcribes_only_when_asked() -> None:
    talk = Talk(replace(SETUP, transcribes_input=False, transcribes_output=False, resumable=False))
    assert talk.hear(SpeechStarted(0), Partial("Thank", 0.5), Final("Thanks.", 0.9)) == [
        "say You're welcome."
    ]
    assert without_audio(talk.speak()) == ["generation_complete"]


def test_confidence_and_the_whole_stand_beside_the_delta() -> None:
    talk = Talk()
    talk.messages.clear()
    talk.hear(SpeechStarted(0), Partial("Thank", 0.5), Final("Thanks.", 0.75))
    told = [
        transcription.decode(message.server_content.input_transcription)
        for message in talk.messages
        if message.server_content.HasField("input_transcription")
    ]
    assert told == [
        transcription.Hypothesis("Thank", 0.5, final=False),
        transcription.Hypothesis("Thanks.", 0.75, final=True),
    ]


# ---- commands


def test_a_command_is_called_and_confirmed() -> None:
    talk = Talk()
    assert talk.hear(SpeechStarted(0), Final("Next.", 0.9)) == [
        "handle",
        "heard 'Next.' +'Next.'",
        "call c1 next",
    ]
    talk.now = 1.0
    assert talk.result("c1", output="done") == ["say Okay, next."]
    assert without_audio(talk.speak()) == ["audio 'Okay, next.'", "generation_complete"]
    assert talk.wait(3.0) == ["turn_complete", "handle h2"]
    assert talk.kept[-1].last("model") == "Okay, next."


def test_a_typed_command_is_called_too() -> None:
    assert Talk().type("please pause") == ["handle", "call c1 pause"]
    talk = Talk()
    assert talk.type('next\n\nContext: {"page": 3}') == ["handle", "call c1 next"]
    talk.result("c1", silent=True)
    assert talk.kept[-1].last("user") == "next"


def test_a_function_that_fails_is_told_of() -> None:
    talk = Talk()
    talk.type("next")
    assert talk.result("c1", error="no such page") == ["say Sorry, that could not be done."]


def test_a_function_that_does_not_answer_is_given_up() -> None:
    talk = Talk()
    talk.type("next")
    assert talk.wait(TOOL_TIMEOUT_S - 0.1) == []
    assert talk.wait(TOOL_TIMEOUT_S) == ["cancel c1", "say Sorry, that did not work. There was no answer."]
    assert talk.result("c1", output="late") == []
    assert talk.speak()[-1] == "generation_complete"


def test_results_that_nothing_waits_for_are_ignored() -> None:
    talk = Talk()
    assert talk.result("c1") == []
    talk.type("next")
    assert talk.result("c2") == []
    assert talk.receive(ToolResult("c1", "pause", {}, False, False)) == []
    assert talk.receive(ToolResult("", "pause", {}, False, False)) == []
    assert talk.receive(ToolResult("", "next", {}, False, False)) == ["say Okay, next."]
    assert talk.result("c1") == []


def test_a_silent_result_ends_the_turn() -> None:
    talk = Talk()
    talk.type("next")
    assert talk.result("c1", silent=True) == ["generation_complete", "turn_complete", "handle h2"]


def test_a_function_may_announce_more_to_come() -> None:
    talk = Talk()
    talk.type("next")
    talk.wait(TOOL_TIMEOUT_S - 1)
    assert talk.result("c1", more=True) == []
    assert talk.wait(TOOL_TIMEOUT_S + 1) == []
    assert talk.result("c1", say="There.") == ["say There."]


# ---- interruptions


@pytest.mark.parametrize("generated", [False, True])
def test_speech_interrupts_the_answer(generated: bool) -> None:
    talk = Talk()
    talk.type("thanks")
    say = talk.say
    assert say
    if generated:
        talk.speak(2.0)
    else:
        talk.words(talk.conversation.spoke(say.turn, SECOND, "You're welcome.", talk.now))
    talk.now = 0.5
    assert talk.hear(SpeechStarted(0)) == ["hush", "interrupted", "turn_complete", "handle h2"]
    assert talk.conversation.spoke(say.turn, SECOND, "", talk.now) == []
    assert talk.conversation.generated(say.turn, talk.now) == []
    assert talk.wait(10.0) == []


def test_speech_after_the_playback_interrupts_nothing() -> None:
    talk = Talk()
    talk.type("thanks")
    talk.speak(1.0)
    talk.wait(1.0)
    assert talk.hear(SpeechStarted(0)) == []


def test_speech_interrupts_a_call() -> None:
    talk = Talk()
    talk.type("next")
    assert talk.hear(SpeechStarted(0)) == ["cancel c1", "interrupted", "turn_complete", "handle h2"]
    assert talk.result("c1") == []
    assert talk.wait(2 * TOOL_TIMEOUT_S) == []


def test_a_typed_turn_interrupts_too_even_while_the_user_speaks() -> None:
    talk = Talk()
    talk.hear(SpeechStarted(0), Partial("hel", 0.5))
    assert talk.type("thanks") == ["handle", "say You're welcome."]
    assert talk.hear(Final("Hello", 0.9)) == [
        "hush",
        "interrupted",
        "turn_complete",
        "handle h2",
        "handle",
        "heard! 'Hello' +'Hello'",
        "say Good morning! What can I do for you?",
    ]
    assert talk.type("bye")[1:3] == ["interrupted", "turn_complete"]


def test_without_interruption_what_the_user_says_waits() -> None:
    talk = Talk(replace(SETUP, interruptible=False, resumable=False))
    talk.type("thanks")
    assert talk.hear(SpeechStarted(0), Final("Next.", 0.9)) == ["heard! 'Next.' +'Next.'"]
    assert talk.type("bye") == []
    assert talk.receive(Content((Entry("user", "hello"),), complete=True)) == []
    talk.speak(1.0)
    assert talk.wait(1.0) == ["turn_complete", "call c1 next"]
    assert talk.result("c1", silent=True) == ["generation_complete", "turn_complete", "say Goodbye!"]
    talk.speak(1.0)
    assert talk.wait(2.0) == ["turn_complete", "say Good morning! What can I do for you?"]


def test_of_the_turns_that_wait_the_oldest_give_way() -> None:
    talk = Talk(replace(SETUP, interruptible=False, resumable=False))
    talk.type("thanks")
    for number in range(MAX_WAITING_TURNS + 2):
        talk.type(f"number {number}")
    answered: list[str] = []
    while talk.say:
        answered += talk.say.sentences
        talk.speak(0.0)
    assert answered == [
        "You're welcome.",
        *(f"I heard: number {n}." for n in range(2, MAX_WAITING_TURNS + 2)),
    ]


# ---- what is heard


def test_noise_is_not_answered() -> None:
    talk = Talk()
    assert talk.hear(SpeechStarted(0), SpeechStopped(1), Discarded()) == []
    assert talk.words(talk.conversation.end_audio(talk.now)) == ["waiting_for_input"]


def test_words_that_proved_to_be_none_are_taken_back() -> None:
    talk = Talk()
    assert talk.hear(SpeechStarted(0), Partial("hm", 0.2), Discarded()) == ["heard 'hm' +''", "heard! '' +''"]
    assert talk.hear(SpeechStarted(0), Final("", 0.0)) == []


def test_the_end_of_an_empty_stream_is_answered_with_waiting_for_input() -> None:
    talk = Talk()
    assert talk.words(talk.conversation.end_audio(talk.now)) == ["waiting_for_input"]
    talk.hear(SpeechStarted(0), Final("thanks", 0.9))
    talk.speak(0.0)
    assert talk.words(talk.conversation.end_audio(talk.now)) == []
    assert talk.words(talk.conversation.end_audio(talk.now)) == ["waiting_for_input"]
    talk.type("thanks")
    assert talk.words(talk.conversation.end_audio(talk.now)) == []


MANUAL = replace(SETUP, detects_activity=False, resumable=False)


def test_with_the_clients_activity_signals_the_turn_is_what_lies_between() -> None:
    talk = Talk(MANUAL)
    before = talk.conversation.listens
    assert talk.hear(SpeechStarted(0), Final("ignored", 0.9)) == []
    assert talk.words(talk.conversation.start_activity(talk.now)) == []
    assert (before, talk.conversation.listens) == (False, True)
    assert talk.hear(SpeechStarted(0), Partial("What", 0.5), Final("What time", 1.0), SpeechStopped(1)) == [
        "heard 'What' +''",
        "heard 'What time' +'What'",
    ]
    assert talk.hear(SpeechStarted(0), Discarded()) == []
    assert talk.hear(Partial("is", 0.5), Final("is it?", 0.5)) == [
        "heard 'What time is' +' time'",
        "heard 'What time is it?' +' is'",
    ]
    assert talk.words(talk.conversation.end_activity(talk.now)) == [
        "heard! 'What time is it?' +' it?'",
        "say It's nine oh five in the morning.",
    ]
    assert talk.words(talk.conversation.end_activity(talk.now)) == []
    assert talk.words(talk.conversation.start_activity(talk.now))[:2] == ["hush", "interrupted"]
    assert talk.words(talk.conversation.end_audio(talk.now)) == ["waiting_for_input"]


def test_history_is_remembered_and_answered_when_complete() -> None:
    talk = Talk()
    history = (Entry("user", "My name is Ann."), Entry("model", "Hello Ann."))
    assert talk.receive(Content(history, complete=False)) == ["handle h2"]
    assert talk.kept[-1].entries == history
    asked = Content((Entry("user", "What did I say?"),), complete=True)
    assert talk.receive(asked) == ["handle", "say You said: My name is Ann."]
    talk.speak(0.0)
    assert talk.kept[-1].entries[-2:] == (
        Entry("user", "What did I say?"),
        Entry("model", "You said: My name is Ann."),
    )


def test_a_history_that_waits_for_its_end_is_answered_with_it() -> None:
    talk = Talk()
    talk.receive(Content((Entry("user", "thanks"),), complete=False))
    assert talk.receive(Content((), complete=True)) == ["handle", "say You're welcome."]
    assert talk.receive(Content((Entry("model", "x"),), complete=True)) == []


def test_an_earlier_conversation_is_remembered() -> None:
    talk = Talk(memory=Memory().with_entry("user", "Go on.").with_entry("model", "I heard: Go on."))
    assert talk.type("what did you say")[-1] == "say I heard: Go on."


# ---- the connection


def test_tokens_are_metered_over_the_connection() -> None:
    talk = Talk(replace(SETUP, tokens=10))

    def usage() -> Any:
        return talk.messages[-2].usage_metadata

    talk.conversation.listened(2 * 32_000)
    talk.type("12345")
    talk.speak(1.0)
    talk.wait(10.0)
    assert usage().prompt_token_count == 10 + 2 + 50
    assert usage().response_token_count == 25
    assert usage().total_token_count == 87
    assert [(one.modality, one.token_count) for one in usage().prompt_tokens_details] == [(1, 12), (4, 50)]
    talk.type("next")
    talk.result("c1", output="done")
    talk.speak(1.0)
    talk.wait(20.0)
    assert [(one.modality, one.token_count) for one in usage().response_tokens_details] == [(1, 2), (4, 50)]
    assert usage().prompt_token_count == 10 + 2 + 50 + 1 + 5


def test_the_end_of_a_connection_is_announced() -> None:
    talk = Talk()
    assert talk.wait(MAX_CONNECTION_S - GO_AWAY_NOTICE_S) == [f"go away {GO_AWAY_NOTICE_S}"]
    talk.type("thanks")
    assert talk.wait(MAX_CONNECTION_S) == ["end ABORTED"]
    assert talk.conversation.deadline() == float("inf")


def test_draining_ends_a_connection_early() -> None:
    talk = Talk()
    assert talk.words(talk.conversation.drain(3.0, talk.now)) == ["go away 3.0"]
    assert talk.wait(3.0) == ["end ABORTED"]
    late = Talk()
    late.now = MAX_CONNECTION_S - 1
    assert late.words(late.conversation.drain(3.0, late.now)) == ["go away 1.0"]


def test_after_the_end_nothing_happens() -> None:
    talk = Talk()
    talk.wait(MAX_CONNECTION_S)
    assert talk.type("thanks") == []
    assert talk.hear(SpeechStarted(0), Final("thanks", 0.9)) == []
    for late in (
        talk.conversation.end_audio,
        talk.conversation.start_activity,
        talk.conversation.end_activity,
        talk.conversation.close_input,
        talk.conversation.expire,
    ):
        assert late(talk.now) == []
    assert talk.conversation.drain(3.0, talk.now) == []


def test_a_client_that_sends_nothing_more_gets_what_is_begun() -> None:
    idle = Talk()
    assert idle.words(idle.conversation.close_input(idle.now)) == ["end OK"]
    speaking = Talk()
    speaking.type("thanks")
    assert speaking.words(speaking.conversation.close_input(speaking.now)) == []
    assert speaking.speak()[-4:] == ["generation_complete", "turn_complete", "handle h2", "end OK"]
    playing = Talk()
    playing.type("thanks")
    playing.speak()
    assert playing.words(playing.conversation.close_input(playing.now)) == [
        "turn_complete",
        "handle h2",
        "end OK",
    ]
    calling = Talk()
    calling.type("next")
    assert calling.words(calling.conversation.close_input(calling.now)) == [
        "cancel c1",
        "turn_complete",
        "handle h2",
        "end OK",
    ]
    waiting = Talk(replace(SETUP, interruptible=False, resumable=False))
    waiting.type("thanks")
    waiting.type("bye")
    waiting.conversation.close_input(waiting.now)
    assert waiting.speak(0.0)[-2:] == ["turn_complete", "say Goodbye!"]
    assert waiting.speak(0.0)[-2:] == ["turn_complete", "end OK"]


# ---- any order of events


class Grammatical:
    """Checks a stream of effects against what a client of Gemini Live relies on."""

    def __init__(self, resumable: bool) -> None:
        self.open = False
        self.generated = False
        self.ended = False
        self.resumable = resumable
        self.calls: set[str] = set()
        self.settled: set[str] = set()

    def check(self, word: str) -> None:
        assert not self.ended, f"{word} after the end"
        match word.split():
            case ["say", *_]:
                assert not self.calls
                self.open = True
                self.generated = False
            case ["audio", *_]:
                assert self.open
                assert not self.generated
            case ["call", call, _]:
                assert not self.open
                self.open = True
                self.generated = False
                self.calls.add(call)
            case ["cancel", call]:
                self.settle(call)
            case ["generation_complete"]:
                assert self.open
                assert not self.generated
                self.generated = True
            case ["interrupted"]:
                assert self.open
                assert not self.calls
                self.generated = True
            case ["turn_complete"]:
                assert self.open
                assert not self.calls
                self.open = False
            case ["handle"]:
                assert self.resumable
                self.resumable = False
            case ["handle", _]:
                assert not self.open
                self.resumable = True
            case ["waiting_for_input"]:
                assert not self.open
            case ["end", _]:
                self.ended = True
            case ["setup_complete"] | ["hush"] | ["go", *_] | ["heard" | "heard!", *_]:
                pass
            case _:
                pytest.fail(f"unexpected: {word}")

    def settle(self, call: str) -> None:
        assert call in self.calls
        assert call not in self.settled
        self.calls.remove(call)
        self.settled.add(call)


texts = st.sampled_from(["next", "thanks", "hello there", "go on", "pause please", ""])
events = st.one_of(
    st.just(SpeechStarted(0)),
    st.builds(Partial, texts, st.just(0.5)),
    st.builds(Final, texts, st.just(0.9)),
    st.just(Discarded()),
    st.just(SpeechStopped(0)),
)
Step = Callable[[Talk, "Grammatical"], list[str]]


def _answer_call(talk: Talk, grammar: Grammatical, *, silent: bool, more: bool) -> list[str]:
    if not grammar.calls:
        return talk.result("c0", silent=silent, more=more)
    (call,) = grammar.calls
    if not more:
        grammar.settle(call)
    return talk.result(call, silent=silent, more=more)


def _speak_some(talk: Talk, seconds: float) -> list[str]:
    if not talk.say:
        return talk.words(talk.conversation.spoke(0, SECOND, "stale", talk.now))
    pcm = bytes(int(seconds * RATE_HZ) * 2)
    return talk.words(talk.conversation.spoke(talk.say.turn, pcm, talk.say.sentences[0], talk.now))


steps: st.SearchStrategy[Step] = st.one_of(
    events.map(lambda event: lambda talk, _: talk.hear(event)),
    texts.map(lambda text: lambda talk, _: talk.type(text)),
    st.builds(
        lambda text, complete: (
            lambda talk, _: talk.receive(Content((Entry("user", text),) if text else (), complete))
        ),
        texts,
        st.booleans(),
    ),
    st.builds(
        lambda silent, more: lambda talk, grammar: _answer_call(talk, grammar, silent=silent, more=more),
        st.booleans(),
        st.booleans(),
    ),
    st.floats(0.0, 3.0).map(lambda seconds: lambda talk, _: _speak_some(talk, seconds)),
    st.just(lambda talk, _: talk.speak(0.3) if talk.say else []),
    st.floats(0.0, 15.0).map(lambda seconds: lambda talk, _: talk.wait(talk.now + seconds)),
    st.sampled_from(["end_audio", "start_activity", "end_activity"]).map(
        lambda name: lambda talk, _: talk.words(getattr(talk.conversation, name)(talk.now))
    ),
)
rare_steps: st.SearchStrategy[Step] = st.one_of(
    st.just(lambda talk, _: talk.words(talk.conversation.close_input(talk.now))),
    st.floats(0.0, 5.0).map(lambda left: lambda talk, _: talk.words(talk.conversation.drain(left, talk.now))),
    st.just(lambda talk, _: talk.wait(talk.now + MAX_CONNECTION_S)),
)


@settings(max_examples=200, deadline=None)
@given(
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.lists(steps, max_size=30),
    st.lists(rare_steps, max_size=2),
    st.lists(steps, max_size=10),
)
def test_in_any_order_the_client_sees_whole_turns(
    detects: bool,
    interruptible: bool,
    resumable: bool,
    before: list[Step],
    rare: list[Step],
    after: list[Step],
) -> None:
    setup = replace(SETUP, detects_activity=detects, interruptible=interruptible, resumable=resumable)
    talk = Talk(setup)
    grammar = Grammatical(resumable)
    for step in (*before, *rare, *after):
        for word in step(talk, grammar):
            grammar.check(word)
    for word in talk.words(talk.conversation.close_input(talk.now)):
        grammar.check(word)
    # Whatever happened, it ends, and by itself.
    for _ in range(3 * MAX_WAITING_TURNS):
        if talk.conversation.phase is Phase.ENDED:
            break
        for word in talk.speak(0.1) if talk.say else talk.wait(talk.conversation.deadline()):
            grammar.check(word)
    assert talk.conversation.phase is Phase.ENDED
