"""What the model says, as the client gets it: transcripts, commands, and how a conversation is set up."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from antiphon.gemini.codec import CONTEXT_HEADING, ServerMessage
from antiphon.gemini.profiles import Voice
from antiphon.transcription import Hypothesis, encode
from fake_gemini import ANSWER, Conversation, Script
from gateway.running import running_gateway
from gateway.talker import Message, talking

pytestmark = pytest.mark.usefixtures("transport")

PCM = bytes(3200)

over_grpc_alone = pytest.mark.parametrize("transport", ["grpc"], indirect=True)
"""What the embedded engine says in private fields, which JSON has not."""


def results(messages: list[Message]) -> list[tuple[str, bool]]:
    return [(m["transcript"], m["isFinal"]) for m in messages if m["type"] == "recognition_result"]


async def turn_after_audio(conversation: Conversation, *steps: dict[str, Any]) -> None:
    await conversation.begin()
    await conversation.until_audio_end()
    for fields in steps:
        await conversation.send(**fields)
    await conversation.until_gone()


def playing(*steps: dict[str, Any]) -> Script:
    """Return a script that sends server messages when the user has spoken."""

    async def script(conversation: Conversation) -> None:
        await turn_after_audio(conversation, *steps)

    return script


def heard(text: str) -> dict[str, Any]:
    return {"server_content": {"input_transcription": {"text": text}}}


def said(text: str) -> dict[str, Any]:
    return {"server_content": {"output_transcription": {"text": text}}}


def spoke(pcm: bytes, mime_type: str = "audio/pcm;rate=24000") -> dict[str, Any]:
    parts = [{"inline_data": {"mime_type": mime_type, "data": pcm}}]
    return {"server_content": {"model_turn": {"parts": parts}}}


def called(name: str, call_id: str = "call-1", **args: Any) -> dict[str, Any]:
    return {"tool_call": {"function_calls": [{"id": call_id, "name": name, "args": args}]}}


GENERATED = {"server_content": {"generation_complete": True}}
TURN_COMPLETE = {"server_content": {"turn_complete": True}}
INTERRUPTED = {"server_content": {"interrupted": True}}
LAST = heard("the end of this test")


async def replies(script: Script, until: str = "the end of this test", within_s: float = 5) -> list[Message]:
    """Speak once, and return what comes back up to a transcript."""
    async with running_gateway(script) as gateway, talking(gateway) as talker:
        await talker.speak(PCM)
        return await talker.until("recognition_result", within_s, transcript=until)


# ---- transcripts


@pytest.mark.parametrize(
    "end",
    [spoke(ANSWER), said("Yes."), GENERATED, TURN_COMPLETE, INTERRUPTED, called("next")],
    ids=["speech", "text", "generated", "turn complete", "interrupted", "a call"],
)
async def test_a_transcript_grows_and_is_final_once(end: dict[str, Any]) -> None:
    script = playing(heard(" one"), heard(" two"), heard(""), heard(" three"), end, TURN_COMPLETE, LAST)
    found = results(await replies(script))
    assert found[:4] == [("one", False), ("one two", False), ("one two", False), ("one two three", False)]
    assert found[4:] == [("one two three", True), ("the end of this test", False)]


async def test_a_transcript_that_nothing_ends_is_final_after_a_while() -> None:
    async with running_gateway(playing(heard("one"), heard(" two"))) as gateway, talking(gateway) as talker:
        await talker.speak(PCM)
        first = await talker.until("recognition_result", transcript="one two")
        last = await talker.receive("recognition_result")
        assert results([*first, last]) == [("one", False), ("one two", False), ("one two", True)]
        assert 1_500 < last["timestamp"] - first[-1]["timestamp"] < 3_500


async def test_every_utterance_has_its_own_transcript() -> None:
    steps = [heard("one"), said("First."), TURN_COMPLETE, heard("two"), spoke(ANSWER), TURN_COMPLETE, LAST]
    found = results(await replies(playing(*steps)))
    assert found == [
        ("one", False),
        ("one", True),
        ("two", False),
        ("two", True),
        ("the end of this test", False),
    ]


async def test_nothing_is_said_of_an_utterance_without_words() -> None:
    assert results(await replies(playing(heard(""), heard(" "), said("Hm?"), TURN_COMPLETE, LAST))) == [
        ("the end of this test", False)
    ]


async def test_confidence_is_never_made_up() -> None:
    messages = await replies(playing(heard("one"), TURN_COMPLETE, LAST))
    assert {m["confidence"] for m in messages if m["type"] == "recognition_result"} == {0.0}


def hypothesis(text: str, whole: str | None, confidence: float, *, final: bool) -> dict[str, Any]:
    content = ServerMessage(server_content={"input_transcription": {"text": text}}).server_content
    content.input_transcription.MergeFromString(encode(Hypothesis(whole, confidence, final)))
    return {"server_content": content}


@over_grpc_alone
async def test_an_engine_may_tell_deltas_with_confidence_alone() -> None:
    steps = [
        hypothesis("go", None, 0.25, final=False),
        hypothesis(" on", None, 0.75, final=True),
        TURN_COMPLETE,
        LAST,
    ]
    messages = await replies(playing(*steps))
    assert [(m["transcript"], m["confidence"], m["isFinal"]) for m in messages if "transcript" in m] == [
        ("go", 0.25, False),
        ("go on", 0.75, True),
        ("the end of this test", 0.0, False),
    ]


@over_grpc_alone
async def test_what_an_engine_knows_beyond_the_text_is_told() -> None:
    steps = [
        hypothesis("wreck a", "wreck a", 0.25, final=False),
        hypothesis("", "recognise", 0.5, final=False),
        hypothesis(" speech", "recognise speech", 0.75, final=True),
        said("Done."),
        TURN_COMPLETE,
        LAST,
    ]
    messages = await replies(playing(*steps))
    assert [(m["transcript"], m["confidence"], m["isFinal"]) for m in messages if "transcript" in m] == [
        ("wreck a", 0.25, False),
        ("recognise", 0.5, False),
        ("recognise speech", 0.75, True),
        ("the end of this test", 0.0, False),
    ]


@over_grpc_alone
@pytest.mark.parametrize(
    "garbled",
    [b"\xc5\x3e\x00\x00\x20\x40\xd2\x3e\x01x", b"\xd2\x3e\x01\xff", b"\xc0\x3e\x01"],
    ids=["too confident", "not UTF-8", "another type"],
)
async def test_private_fields_that_make_no_sense_are_ignored(garbled: bytes) -> None:
    content = ServerMessage(server_content={"input_transcription": {"text": "one"}}).server_content
    content.input_transcription.MergeFromString(garbled)
    found = results(await replies(playing({"server_content": content}, TURN_COMPLETE, LAST)))
    assert found == [("one", False), ("one", True), ("the end of this test", False)]


# ---- commands


async def test_a_command_comes_with_the_final_result_and_is_answered() -> None:
    messages = await replies(playing(heard("skip this"), called("next", "id-7"), TURN_COMPLETE, LAST))
    final = [m for m in messages if m.get("isFinal")]
    assert [(m["transcript"], m["command"]) for m in final] == [("skip this", "next")]


async def test_a_late_command_repeats_the_final_result() -> None:
    steps = [heard("skip this"), said("Going on."), called("next"), TURN_COMPLETE, LAST]
    final = [m for m in await replies(playing(*steps)) if m.get("isFinal")]
    assert [(m["transcript"], m.get("command")) for m in final] == [
        ("skip this", None),
        ("skip this", "next"),
    ]


async def test_every_call_is_answered_under_its_id() -> None:
    calls = [called("next", "id-1"), called("slower", "id-2"), called("launch_missiles", "id-3")]

    async def script(conversation: Conversation) -> None:
        await turn_after_audio(conversation, *calls, LAST)

    async with running_gateway(script) as gateway, talking(gateway) as talker:
        await talker.speak(PCM)
        messages = await talker.until("recognition_result", transcript="the end of this test")
        [conversation] = gateway.upstream.conversations
        async with asyncio.timeout(5):
            while len(conversation.results) < 3:
                await asyncio.sleep(0.01)
    answers = [(result.id, result.name, dict(result.response)) for result in conversation.results]
    assert answers[:2] == [("id-1", "next", {"output": "done"}), ("id-2", "slower", {"output": "done"})]
    assert answers[2][:2] == ("id-3", "launch_missiles")
    assert "launch_missiles" in answers[2][2]["error"]
    assert [m["command"] for m in messages if "command" in m] == ["next", "slower"]


async def test_a_typed_turn_goes_to_the_model_with_its_context() -> None:
    context = {"page": 7, "names": ["Zoë"], "deep": {"a": None}}
    async with running_gateway() as gateway, talking(gateway) as talker:
        await talker.send("command", command="turn the page")
        await talker.until("audio_response")
        await talker.send("command", command="and now?", context=context)
        await talker.until("audio_response")
        await talker.send("command", command="empty", context={})
        await talker.until("audio_response")
    [conversation] = gateway.upstream.conversations
    assert conversation.texts == [
        "turn the page",
        "and now?" + CONTEXT_HEADING + '{"page": 7, "names": ["Zoë"], "deep": {"a": null}}',
        "empty",
    ]


async def test_a_typed_command_is_named_with_what_was_typed() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.begin()
        await conversation.receive()
        await conversation.send(**called("pause"))
        await conversation.until_gone()

    async with running_gateway(script) as gateway, talking(gateway) as talker:
        await talker.send("command", command="hold on")
        result = await talker.receive("recognition_result")
    assert (result["transcript"], result["command"], result["isFinal"]) == ("hold on", "pause", True)


# ---- the conversation


async def test_a_session_has_one_conversation_and_opens_it_when_needed() -> None:
    async with running_gateway() as gateway, talking(gateway) as talker:
        await talker.socket.ping()
        assert not gateway.upstream.conversations
        for _ in range(3):
            await talker.speak(PCM)
            await talker.until("audio_response")
            await talker.answered()
        assert len(gateway.upstream.conversations) == gateway.upstream.open == 1
        await talker.socket.close()
        await gateway.upstream.idle()


async def test_the_setup() -> None:
    voice = Voice("gemini-test", "Puck", names_language=True)
    async with running_gateway(voice=voice) as gateway, talking(gateway) as talker:
        await talker.start(language="pt-BR")
        await talker.end()
        responses = [m for m in await talker.until("audio_response") if m["type"] == "audio_response"]
        [conversation] = gateway.upstream.conversations
    setup = conversation.setup
    assert setup.model == "models/gemini-test"
    assert list(setup.generation_config.response_modalities) == [3]  # AUDIO
    assert setup.generation_config.speech_config.language_code == "pt-BR"
    assert setup.generation_config.speech_config.voice_config.prebuilt_voice_config.voice_name == "Puck"
    assert setup.HasField("input_audio_transcription")
    assert setup.HasField("output_audio_transcription")
    assert setup.context_window_compression.HasField("sliding_window")
    assert setup.HasField("session_resumption")
    assert not setup.session_resumption.handle
    [tool] = setup.tools
    functions = {function.name: function.description for function in tool.function_declarations}
    assert functions.keys() == {"next", "previous", "repeat", "pause", "slower"}
    assert '"not so fast"' in functions["slower"]
    assert conversation.metadata["x-goog-api-key"] == "the-key"
    assert {m["language"] for m in responses} == {"pt-BR"}


async def test_no_key_is_sent_where_there_is_none() -> None:
    async with running_gateway(api_key=None) as gateway, talking(gateway) as talker:
        await talker.answered()
    assert "x-goog-api-key" not in gateway.upstream.conversations[0].metadata


# ---- whatever else a model may say

NAN = {"fields": {"x": {"number_value": math.nan}}}
NO_JSON: dict[str, Any] = {"tool_call": {"function_calls": [{"id": "n", "name": "next", "args": NAN}]}}
ODDITIES: list[dict[str, Any]] = [
    {},
    {"setup_complete": {}},
    {"server_content": {}},
    {"server_content": {"model_turn": {}}},
    {"server_content": {"model_turn": {"parts": [{}]}}},
    {"server_content": {"model_turn": {"parts": [{"text": "thinking", "thought": True}]}}},
    {"server_content": {"model_turn": {"parts": [{"text": "**plan**"}]}}},
    {"server_content": {"model_turn": {"parts": [{"executable_code": {"code": "1", "language": 1}}]}}},
    {"server_content": {"grounding_metadata": {"web_search_queries": ["weather"]}}},
    {"server_content": {"input_transcription": {}}},
    {"server_content": {"output_transcription": {}}},
    {"usage_metadata": {"prompt_token_count": 5, "total_token_count": 9}},
    {"usage_metadata": {}, "server_content": {}},
    {"go_away": {}},
    {"go_away": {"time_left": {"seconds": 60}}},
    {"session_resumption_update": {}},
    {"session_resumption_update": {"new_handle": "h", "resumable": True}},
    {"tool_call": {}},
    {"tool_call": {"function_calls": [{}]}},
    {"tool_call_cancellation": {}},
    {"tool_call_cancellation": {"ids": ["id-1", "nobody's"]}},
    INTERRUPTED,
    GENERATED,
    TURN_COMPLETE,
    TURN_COMPLETE,
    spoke(b""),
    spoke(b"\x89PNG", "image/png"),
    spoke(b"abc", ""),
    spoke(b"abcd", "audio/mpeg"),
    spoke(b"abcd", "audio/pcm;rate=0"),
    spoke(b"abcd", "audio/pcm;rate=fast"),
    spoke(b"abcd", "audio/pcm;rate=99999999999"),
]


async def test_oddities_are_tolerated(transport: str) -> None:
    unknown = ServerMessage.FromString(b"\xf2\x7f\x03new\xf8\x7f\x01")
    oddities = iter([*ODDITIES, NO_JSON] if transport == "grpc" else ODDITIES)
    steps = [heard("still there?"), spoke(ANSWER), TURN_COMPLETE, LAST]
    begun = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await conversation.begin()
        if not begun.is_set():
            begun.set()
            await conversation.context.write(unknown)
            await conversation.until_audio_end()
        # Some say that the connection ends at once: another may be made at any moment.
        for fields in [*oddities, *steps]:
            await conversation.send(**fields)
        await conversation.until_gone()

    messages = await replies(script)
    assert [m for m in messages if m["type"] == "error"] == []
    assert ("still there?", True) in results(messages)


async def test_setup_complete_may_follow_other_messages() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.receive()
        await conversation.send(session_resumption_update={})
        await conversation.send(usage_metadata={})
        await conversation.send(setup_complete={}, usage_metadata={})
        await conversation.until_audio_end()
        await conversation.send(**LAST)
        await conversation.until_gone()

    await replies(script)


async def test_a_message_that_is_no_protobuf_ends_the_session_with_a_word() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.begin()
        await conversation.receive()
        await conversation.send_raw(b"\xff\xff\xff\xff")
        await conversation.until_gone()

    async with running_gateway(script) as gateway, talking(gateway) as talker:
        await talker.send("command", command="hi")
        await talker.closed("UPSTREAM_INTERNAL", 1011)
