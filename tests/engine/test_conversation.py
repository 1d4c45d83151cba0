"""The turns of a conversation."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, assert_never

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from antiphon import transcription, voice_activity
from antiphon.engine import wire
from antiphon.engine.calling import TOOL_TIMEOUT_S
from antiphon.engine.chat import Wanted
from antiphon.engine.conversation import MAX_WAITING_TURNS, Conversation, Phase
from antiphon.engine.effects import Ask, Effect, End, Hush, Say, Send
from antiphon.engine.lifetime import GO_AWAY_NOTICE_S
from antiphon.engine.listener import Discarded, Final, Partial, SpeechStarted, SpeechStopped
from antiphon.engine.memory import Entry, Memory
from antiphon.engine.phrases import Function, Grammar
from antiphon.engine.playback import PIECE_S, RATE_HZ
from antiphon.engine.wire import Content, ToolResult, Typed
from tries import tries

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

    def __init__(
        self, setup: wire.Setup = SETUP, memory: Memory | None = None, *, thinks: bool = False
    ) -> None:
        self.now = 0.0
        self.kept: list[Memory] = []
        self.messages: list[Any] = []
        self.activity: list[tuple[bool, float | None]] = []
        self.say: Say | None = None
        self.ask: Ask | None = None
        calls = iter(range(1, 1_000))
        self.conversation = Conversation(
            setup,
            memory or Memory(),
            self.now,
            max_connection_s=MAX_CONNECTION_S,
            keep=self._keep,
            clock=lambda: datetime(2026, 11, 22, 9, 5, tzinfo=UTC),
            new_id=lambda: f"c{next(calls)}",
            thinks=thinks,
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
                    if activity := voice_activity.decode(message.server_content):
                        self.activity.append(activity)
                    else:
                        said.append(described(message))
                case Say(turn=turn, sentences=sentences, last=last):
                    before = self.say.sentences if self.say and self.say.turn == turn else ()
                    self.say = Say(turn, before + sentences, last)
                    said.append(" ".join(("say" if last else "say...", *sentences)))
                case Ask():
                    self.ask = effect
                    said.append("ask")
                case Hush():
                    self.say = self.ask = None
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
        if not say.last:
            self.say = Say(say.turn, (), last=False)
        size = int(seconds * RATE_HZ) * 2
        did = []
        for sentence in say.sentences:
            did += self.words(self.conversation.spoke(say.turn, bytes(size), sentence, self.now))
        if not say.last:
            return did + self.words(self.conversation.paused(say.turn))
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


def test_a_message_without_content_stops_the_answer() -> None:
    talk = Talk()
    nothing = Content((), complete=False)
    assert talk.receive(nothing) == []
    talk.type("thanks")
    assert talk.receive(nothing) == ["hush", "interrupted", "turn_complete", "handle h2"]
    assert talk.receive(nothing) == []
    talk.type("thanks")
    talk.speak(5.0)
    assert talk.receive(nothing)[:2] == ["hush", "interrupted"]
    talk.type("next")
    assert talk.receive(nothing)[:2] == ["cancel c1", "interrupted"]


def test_history_interrupts_too() -> None:
    talk = Talk()
    talk.type("thanks")
    assert talk.receive(Content((Entry("model", "By the way."),), complete=False)) == [
        "hush",
        "interrupted",
        "turn_complete",
        "handle h2",
        "handle h3",
    ]
    assert talk.kept[-1].entries == (Entry("user", "thanks"), Entry("model", "By the way."))


def test_of_an_answer_cut_short_the_sentences_that_were_heard_are_remembered() -> None:
    talk = Talk()
    talk.type("hello")
    talk.speak(1.0)
    talk.now = 0.5
    talk.hear(SpeechStarted(0))
    assert talk.kept[-1].entries == (Entry("user", "hello"), Entry("model", "Good morning!"))
    unheard = Talk()
    unheard.type("hello")
    unheard.hear(SpeechStarted(0))
    assert unheard.kept[-1].entries == (Entry("user", "hello"),)


# ---- what is heard


def test_it_is_told_when_the_user_speaks_before_the_answer_ends() -> None:
    talk = Talk()
    talk.type("thanks")
    talk.messages.clear()
    talk.hear(SpeechStarted(320))
    assert voice_activity.decode(talk.messages[0].server_content) == (True, 320.0)
    assert described(talk.messages[1]) == "interrupted"
    talk.hear(SpeechStopped(900), Discarded(), SpeechStarted(1000), SpeechStopped(2000), Final("thanks", 0.9))
    assert talk.activity == [(True, 320.0), (False, 900.0), (True, 1000.0), (False, 2000.0)]


def test_it_is_told_even_where_the_answer_may_not_be_interrupted() -> None:
    talk = Talk(replace(SETUP, interruptible=False))
    talk.type("thanks")
    assert talk.hear(SpeechStarted(0), SpeechStopped(10), Discarded()) == []
    assert talk.activity == [(True, 0.0), (False, 10.0)]


def test_with_activity_signals_those_are_told_and_where_they_came() -> None:
    talk = Talk(MANUAL)
    talk.conversation.skipped(32_000)
    talk.words(talk.conversation.start_activity(talk.now))
    talk.words(talk.conversation.start_activity(talk.now))
    talk.conversation.listened(16_000)
    talk.hear(SpeechStarted(0), SpeechStopped(10), Final("thanks", 0.9))
    talk.conversation.listened(16_000)
    talk.words(talk.conversation.end_activity(talk.now))
    talk.words(talk.conversation.end_activity(talk.now))
    assert talk.activity == [(True, 1000.0), (False, 2000.0)]
    assert described(talk.messages[-1]).startswith("heard! 'thanks'")
    talk.words(talk.conversation.start_activity(talk.now))
    talk.words(talk.conversation.end_audio(talk.now))
    assert talk.activity[2:] == [(True, 2000.0), (False, 2000.0)]


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
    talk.speak(0.0)
    assert talk.receive(Content((Entry("model", "x"),), complete=True)) == ["handle h4"]


def test_an_earlier_conversation_is_remembered() -> None:
    talk = Talk(memory=Memory().with_entry("user", "Go on.").with_entry("model", "I heard: Go on."))
    assert talk.type("what did you say")[-1] == "say I heard: Go on."


# ---- a brain


TOOLS = ({"type": "function", "function": {"name": "next"}},)
CLEVER = replace(SETUP, instruction="You sell tea.", tools=TOOLS, resumable=False)


class Thinker(Talk):
    """A conversation with a brain, which the test plays too."""

    def __init__(self, setup: wire.Setup = CLEVER, memory: Memory | None = None) -> None:
        super().__init__(setup, memory, thinks=True)

    @property
    def turn(self) -> int:
        assert self.ask
        return self.ask.turn

    @property
    def asked(self) -> list[Any]:
        """What the brain was asked last, without the system's part."""
        assert self.ask
        assert self.ask.question.tools == TOOLS
        return list(self.ask.question.messages[1:])

    def think(self, *sentences: str) -> list[str]:
        return [word for one in sentences for word in self.words(self.conversation.thought(self.turn, one))]

    def over(self) -> list[str]:
        return self.words(self.conversation.thought_over(self.turn))

    def wants(self, *calls: tuple[str, str]) -> list[str]:
        wanted = tuple(Wanted(f"w{n}", name, given) for n, (name, given) in enumerate(calls, start=1))
        return self.words(self.conversation.wants_tools(self.turn, wanted, self.now))

    def fail(self) -> list[str]:
        return self.words(self.conversation.brain_failed(self.turn))


def test_the_brain_answers_sentence_by_sentence() -> None:
    talk = Thinker(memory=Memory().with_entry("user", "Hi.").with_entry("model", "Hello."))
    assert talk.hear(SpeechStarted(0), Final("Which tea?", 0.9)) == [
        "heard! 'Which tea?' +'Which tea?'",
        "ask",
    ]
    assert [message["content"] for message in talk.asked] == ["Hi.", "Hello.", "Which tea?"]
    assert talk.ask
    assert talk.ask.question.messages[0]["content"].startswith("You sell tea.")
    assert talk.think("Green.") == ["say... Green."]
    assert without_audio(talk.speak(1.0)) == ["audio 'Green.'"]
    assert talk.wait(5.0) == []
    assert talk.think("Or black.") == ["say... Or black."]
    assert talk.over() == ["say"]
    assert talk.conversation.phase is Phase.SPEAKING
    assert without_audio(talk.speak(1.0)) == ["audio ' Or black.'", "generation_complete"]
    assert talk.wait(5.9) == []
    assert talk.wait(6.0) == ["turn_complete"]
    talk.type("And then?\n\nContext: {}")
    assert [message["content"] for message in talk.asked[-2:]] == [
        "Green. Or black.",
        "And then?\n\nContext: {}",
    ]


def test_a_brain_is_not_heard_while_its_call_is_made() -> None:
    talk = Thinker()
    talk.type("skip one")
    turn = talk.turn
    assert talk.wants(("next", "{}")) == ["call c1 next"]
    for report in (
        talk.conversation.thought(turn, "So."),
        talk.conversation.thought_over(turn),
        talk.conversation.wants_tools(turn, (), talk.now),
        talk.conversation.brain_failed(turn),
    ):
        assert report == []
    assert talk.result("c1", output="done") == ["ask"]
    assert talk.think("Done.") == ["say... Done."]


def test_commands_and_the_clock_need_no_brain() -> None:
    talk = Thinker()
    assert talk.type("next") == ["call c1 next"]
    assert talk.result("c1", output="done") == ["say Okay, next."]
    talk.speak(0.0)
    assert talk.type("What time is it?") == ["say It's nine oh five in the morning."]
    talk.speak(0.0)
    assert talk.type("What day is it?") == ["say It's Sunday, November twenty-second, twenty twenty-six."]
    talk.speak(0.0)
    assert talk.type("hello") == ["ask"]


def test_functions_are_called_one_after_the_other_and_their_results_go_back() -> None:
    talk = Thinker()
    talk.type("Skip this, then wait.")
    talk.think("Well.")
    assert talk.wants(("next", ""), ("pause", '{"s": {"n": 3}}')) == ["call c1 next"]
    assert talk.result("c1", output="done") == ["call c2 pause"]
    assert dict(talk.messages[-1].tool_call.function_calls[0].args["s"]) == {"n": 3}
    assert without_audio(talk.speak()) == ["audio 'Well.'"]
    assert talk.result("c2", output="waiting") == ["ask"]
    assert [message["role"] for message in talk.asked] == ["user", "assistant", "tool", "tool"]
    assert talk.asked[1]["content"] == "Well."
    assert talk.asked[2:] == [
        {"role": "tool", "tool_call_id": "w1", "content": '{"output":"done"}'},
        {"role": "tool", "tool_call_id": "w2", "content": '{"output":"waiting"}'},
    ]
    talk.think("There you are.")
    talk.over()
    assert without_audio(talk.speak()) == ["audio ' There you are.'", "generation_complete"]
    assert talk.wait(5.0) == ["turn_complete"]


def test_a_function_that_does_not_answer_is_told_to_the_brain() -> None:
    talk = Thinker()
    talk.type("Skip this.")
    talk.wants(("next", "{}"))
    assert talk.result("c1", more=True) == []
    assert talk.wait(TOOL_TIMEOUT_S) == ["cancel c1", "ask"]
    assert talk.asked[-1]["content"] == '{"error":"There was no answer in time."}'
    assert talk.result("c1", output="late") == []
    assert talk.fail() == ["say... Sorry, that could not be done.", "say"]


def test_a_silent_result_ends_the_brains_turn_too() -> None:
    talk = Thinker()
    talk.type("Skip this.")
    talk.think("Well.")
    talk.wants(("next", "{}"))
    assert talk.result("c1", silent=True) == ["say"]
    assert talk.speak(0.0)[-1] == "turn_complete"


@pytest.mark.parametrize(
    ("call", "wrong"),
    [
        (("fly", "{}"), "There is no such function."),
        (("next", "{"), "The arguments are no JSON object."),
        (("next", "[]"), "The arguments are no JSON object."),
    ],
)
def test_a_call_that_cannot_be_made_is_told_to_the_brain_once(call: tuple[str, str], wrong: str) -> None:
    talk = Thinker()
    talk.type("Skip this.")
    assert talk.wants(call) == ["ask"]
    assert talk.asked[-1]["content"] == f'{{"error":"{wrong}"}}'
    assert talk.wants(call) == ["say... I heard: Skip this.", "say"]


def test_a_brain_that_calls_for_ever_is_stopped() -> None:
    talk = Thinker()
    talk.type("Skip this.")
    did: list[str] = []
    for number in range(1, 6):
        assert talk.wants(("next", "{}")) == [f"call c{number} next"]
        did = talk.result(f"c{number}", output="done")
    assert did == ["say... Okay, next.", "say"]


def test_where_the_brain_fails_the_built_in_answer_is_given() -> None:
    talk = Thinker()
    talk.type("hello")
    assert talk.fail() == ["say... Good morning! What can I do for you?", "say"]
    assert talk.speak(0.0)[-1] == "turn_complete"
    talk.type("So?")
    assert [message["content"] for message in talk.asked][:2] == [
        "hello",
        "Good morning! What can I do for you?",
    ]


def test_where_it_fails_in_the_middle_it_is_sorry() -> None:
    talk = Thinker()
    talk.type("hello")
    talk.think("Well.")
    assert talk.fail() == ["say... Sorry, I lost my thread.", "say"]


def test_the_brain_is_stopped_by_the_user_and_what_was_heard_is_remembered() -> None:
    talk = Thinker(replace(CLEVER, resumable=True))
    talk.type("hello")
    turn = talk.turn
    talk.think("One.", "Two.", "Three.")
    talk.speak(1.0)
    talk.now = 1.5
    assert talk.hear(SpeechStarted(0)) == ["hush", "interrupted", "turn_complete", "handle h2"]
    assert talk.kept[-1].last("model") == "One. Two."
    assert talk.words(talk.conversation.thought(turn, "Four.")) == []
    assert talk.words(talk.conversation.paused(turn)) == []
    assert talk.words(talk.conversation.thought_over(turn)) == []
    assert talk.words(talk.conversation.wants_tools(turn, (), talk.now)) == []
    assert talk.words(talk.conversation.brain_failed(turn)) == []
    talk.type("hello")
    assert talk.words(talk.conversation.thought(turn, "Four.")) == []


def test_the_brains_call_is_stopped_by_the_user() -> None:
    talk = Thinker()
    talk.type("Skip this.")
    talk.wants(("next", "{}"))
    assert talk.hear(SpeechStarted(0)) == ["cancel c1", "hush", "interrupted", "turn_complete"]
    assert talk.result("c1", output="late") == []


def test_a_client_that_sends_nothing_more_gets_what_the_brain_has_begun() -> None:
    thinking = Thinker()
    thinking.type("hello")
    assert thinking.words(thinking.conversation.close_input(thinking.now)) == []
    assert thinking.wants(("next", "{}")) == ["say... Good morning! What can I do for you?", "say"]
    assert thinking.speak(0.0)[-2:] == ["turn_complete", "end OK"]
    calling = Thinker()
    calling.type("hello")
    calling.think("Well.")
    calling.wants(("next", "{}"))
    assert calling.words(calling.conversation.close_input(calling.now)) == ["cancel c1", "say"]
    assert calling.speak(0.0)[-2:] == ["turn_complete", "end OK"]


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
        self.thinking = False
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
                self.thinking = False
                self.generated = False
            case ["say...", *_]:
                assert not self.calls
                assert self.thinking
            case ["ask"]:
                assert not self.calls
                assert not self.open or self.thinking
                self.open = self.thinking = True
                self.generated = False
            case ["audio", *_]:
                assert self.open
                assert not self.generated
            case ["call", call, _]:
                assert not self.calls
                assert not self.open or self.thinking
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
                self.open = self.thinking = False
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


def _think(talk: Talk, effects: Callable[[Conversation, int], list[Effect]]) -> list[str]:
    return talk.words(effects(talk.conversation, talk.ask.turn)) if talk.ask else []


def _speak_some(talk: Talk, seconds: float) -> list[str]:
    if not talk.say:
        return talk.words(talk.conversation.spoke(0, SECOND, "stale", talk.now))
    pcm = bytes(int(seconds * RATE_HZ) * 2)
    sentence = talk.say.sentences[0] if talk.say.sentences else ""
    return talk.words(talk.conversation.spoke(talk.say.turn, pcm, sentence, talk.now))


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
wanted = st.builds(
    Wanted, st.just("w"), st.sampled_from(["next", "pause", "fly"]), st.sampled_from(["{}", "", "{"])
)
brain_steps: st.SearchStrategy[Step] = st.one_of(
    st.just(lambda talk, _: _think(talk, lambda conversation, turn: conversation.thought(turn, "So."))),
    st.just(lambda talk, _: _think(talk, lambda conversation, turn: conversation.thought_over(turn))),
    st.just(lambda talk, _: _think(talk, lambda conversation, turn: conversation.brain_failed(turn))),
    st.lists(wanted, max_size=3).map(
        lambda calls: (
            lambda talk, _: _think(
                talk, lambda conversation, turn: conversation.wants_tools(turn, tuple(calls), talk.now)
            )
        )
    ),
)
rare_steps: st.SearchStrategy[Step] = st.one_of(
    st.just(lambda talk, _: talk.words(talk.conversation.close_input(talk.now))),
    st.floats(0.0, 5.0).map(lambda left: lambda talk, _: talk.words(talk.conversation.drain(left, talk.now))),
    st.just(lambda talk, _: talk.wait(talk.now + MAX_CONNECTION_S)),
)


def _go_on(talk: Talk) -> list[str]:
    """Let happen what is due when the client is gone: the brain fails, the voice speaks, time passes."""
    if talk.conversation.phase is Phase.THINKING:
        return _think(talk, lambda conversation, turn: conversation.brain_failed(turn))
    return talk.speak(0.1) if talk.say else talk.wait(talk.conversation.deadline())


@settings(max_examples=tries(200), deadline=None)
@given(
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.lists(steps | brain_steps, max_size=30),
    st.lists(rare_steps, max_size=2),
    st.lists(steps, max_size=10),
)
def test_in_any_order_the_client_sees_whole_turns(
    detects: bool,
    interruptible: bool,
    resumable: bool,
    thinks: bool,
    before: list[Step],
    rare: list[Step],
    after: list[Step],
) -> None:
    setup = replace(SETUP, detects_activity=detects, interruptible=interruptible, resumable=resumable)
    talk = Talk(setup, thinks=thinks)
    grammar = Grammatical(resumable)
    for step in (*before, *rare, *after):
        for word in step(talk, grammar):
            grammar.check(word)
    for word in talk.words(talk.conversation.close_input(talk.now)):
        grammar.check(word)
    # Whatever happened, it ends, and by itself.
    for _ in range(4 * MAX_WAITING_TURNS):
        if talk.conversation.phase is Phase.ENDED:
            break
        for word in _go_on(talk):
            grammar.check(word)
    assert talk.conversation.phase is Phase.ENDED
    assert [started for started, _ in talk.activity] == [n % 2 == 0 for n in range(len(talk.activity))]
    assert [at for _, at in talk.activity if at is None] == []
