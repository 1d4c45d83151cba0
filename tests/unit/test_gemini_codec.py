"""Between our words and Gemini's messages."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon import live, transcription, voice_activity
from antiphon.gemini.codec import (
    ClientMessage,
    ServerMessage,
    events,
    events_of,
    history_message,
    input_bytes,
    input_message,
    setup_message,
)
from antiphon.gemini.profiles import Profile, Voice, profile_of

NEWEST = profile_of("gemini-3.8-live")


def wire(message: Any) -> Any:
    """The message as the other side gets it."""
    return ClientMessage.FromString(message.SerializeToString())


def said(item: live.LiveInput, profile: Profile = NEWEST) -> Any:
    return wire(input_message(item, profile))


def server(**fields: Any) -> list[live.LiveEvent]:
    return events(ServerMessage.FromString(ServerMessage(**fields).SerializeToString()))


class TestBytes:
    @pytest.mark.parametrize("size", [2, 100, 126, 128, 640, 3200, 16_000, 65_536, 400_000])
    def test_audio_is_what_protobuf_makes_of_it(self, size: int) -> None:
        item = live.Audio(bytes(range(256)) * (size // 256) + bytes(size % 256))
        message = input_message(item, NEWEST)
        assert message is not None
        assert input_bytes(item, NEWEST) == message.SerializeToString()

    @pytest.mark.parametrize("item", [live.Audio(b""), live.AudioEnd(), live.Text("hello")])
    def test_all_else_too(self, item: live.LiveInput) -> None:
        message = input_message(item, NEWEST)
        assert message is not None
        assert input_bytes(item, NEWEST) == message.SerializeToString()

    def test_what_a_model_has_no_word_for_is_left_out(self) -> None:
        assert input_bytes(live.Interrupt(), Profile(interruptible=False)) is None


class TestEventsOfBytes:
    def test_a_message_without_private_fields_is_read_without_looking_for_them(self) -> None:
        message = ServerMessage(server_content={"input_transcription": {"text": "hi"}})
        assert events_of(message.SerializeToString()) == [live.Heard("hi")]

    def test_private_fields_are_found(self) -> None:
        message = ServerMessage()
        content = message.server_content
        content.MergeFromString(voice_activity.encode(True, 12.5))
        hypothesis = transcription.Hypothesis("all of it", 0.5, final=True)
        content.input_transcription.MergeFromString(transcription.encode(hypothesis))
        assert events_of(message.SerializeToString()) == [
            live.VoiceActivity(True, 12.5),
            live.Heard("", 0.5, True, "all of it"),
        ]


class TestSetup:
    def test_everything_a_conversation_needs(self) -> None:
        function = live.Function(
            "skip",
            "Skip some.",
            ("skip {count}", 'say "skip"'),
            {
                "count": live.Parameter("integer", "how many", True),
                "pace": live.Parameter("string", enum=("slow", "fast")),
            },
        )
        setup = wire(
            setup_message(
                live.Setup("de-DE", "Be brief.", (function,), "h"), Voice("gemini-live-2.5-flash", "Kore")
            )
        ).setup
        assert setup.model == "models/gemini-live-2.5-flash"
        assert list(setup.generation_config.response_modalities) == [3], "audio"
        speech = setup.generation_config.speech_config
        assert speech.language_code == "de-DE"
        assert speech.voice_config.prebuilt_voice_config.voice_name == "Kore"
        assert setup.system_instruction.parts[0].text == "Be brief."
        assert setup.HasField("input_audio_transcription")
        assert setup.HasField("output_audio_transcription")
        assert setup.context_window_compression.HasField("sliding_window")
        assert setup.session_resumption.handle == "h"
        (declaration,) = setup.tools[0].function_declarations
        assert declaration.name == "skip"
        assert not declaration.behavior
        assert declaration.description == 'Skip some. Said as: "skip {count}", "say \\"skip\\"".'
        assert list(declaration.parameters.required) == ["count"]
        assert declaration.parameters.properties["count"].type_ == 3, "integer"
        assert list(declaration.parameters.properties["pace"].enum) == ["slow", "fast"]

    def test_and_no_more(self) -> None:
        setup = wire(setup_message(live.Setup("en-US"), Voice("tunedModels/mine"))).setup
        assert setup.model == "tunedModels/mine"
        assert not setup.tools
        assert not setup.HasField("system_instruction")
        assert not setup.generation_config.speech_config.HasField("voice_config")
        assert setup.HasField("session_resumption")
        assert not setup.session_resumption.handle
        assert not setup.HasField("realtime_input_config")

    def test_a_server_of_ones_own_is_told_the_language_whatever_its_model(self) -> None:
        voice = Voice("gemini-3.8-live", names_language=True)
        speech = wire(setup_message(live.Setup("de-DE"), voice)).setup.generation_config.speech_config
        assert speech.language_code == "de-DE"

    def test_what_depends_on_the_model(self) -> None:
        functions = (live.Function("go", "Go."),)
        setup = wire(setup_message(live.Setup("de-DE", "", functions), Voice("gemini-3.8-live"))).setup
        speech = setup.generation_config.speech_config
        assert not speech.language_code, "it chooses by itself"
        assert speech.voice_config.prebuilt_voice_config.voice_name == "Puck"
        assert setup.tools[0].function_declarations[0].behavior == 1, "blocking"

    def test_push_to_talk(self) -> None:
        setup = wire(setup_message(live.Setup("en-US", push_to_talk=True), Voice("m"))).setup
        assert setup.realtime_input_config.automatic_activity_detection.disabled is True

    def test_a_function_without_phrases_or_parameters(self) -> None:
        setup = wire(setup_message(live.Setup("en-US", "", (live.Function("go", "Go."),)), Voice("m"))).setup
        (declaration,) = setup.tools[0].function_declarations
        assert declaration.description == "Go."
        assert not declaration.HasField("parameters")


class TestInput:
    def test_audio_names_its_rate(self) -> None:
        audio = said(live.Audio(b"\1\2")).realtime_input.audio
        assert (audio.mime_type, audio.data) == ("audio/pcm;rate=16000", b"\1\2")

    def test_the_end_of_a_stream(self) -> None:
        assert said(live.AudioEnd()).realtime_input.audio_stream_end is True

    def test_a_typed_turn(self) -> None:
        assert said(live.Text("go on")).realtime_input.text == "go on"

    def test_its_context_is_json_behind_it(self) -> None:
        text = said(live.Text("go on", {"größe": 1})).realtime_input.text
        assert text == 'go on\n\nContext: {"größe": 1}'

    def test_a_result(self) -> None:
        (response,) = said(live.ToolResult("7", "next", {"output": "done"})).tool_response.function_responses
        assert (response.id, response.name, response.response["output"]) == ("7", "next", "done")
        assert not response.scheduling

    def test_a_result_that_nothing_waits_for(self) -> None:
        profile = Profile(scheduling="WHEN_IDLE")
        (response,) = said(live.ToolResult("7", "next", {}), profile).tool_response.function_responses
        assert response.scheduling == 2, "when idle"

    def test_push_to_talk(self) -> None:
        assert said(live.ActivityStart()).realtime_input.HasField("activity_start")
        assert said(live.ActivityEnd()).realtime_input.HasField("activity_end")

    def test_an_answer_is_stopped_by_content_that_says_nothing(self) -> None:
        message = said(live.Interrupt())
        assert message.WhichOneof("message_type") == "client_content"
        assert not message.client_content.turns
        assert not message.client_content.turn_complete

    def test_a_model_that_cannot_be_stopped_is_told_nothing(self) -> None:
        assert input_message(live.Interrupt(), Profile(interruptible=False)) is None

    def test_a_typed_turn_as_content(self) -> None:
        content = said(live.Text("go on", {"page": 7}), Profile(text="client_content")).client_content
        (turn,) = content.turns
        assert (turn.role, turn.parts[0].text) == ("user", 'go on\n\nContext: {"page": 7}')
        assert content.turn_complete is True


class TestEvents:
    def test_what_the_user_said(self) -> None:
        assert server(server_content={"input_transcription": {"text": " hi"}}) == [live.Heard(" hi")]

    def test_what_the_engine_says_beside_it(self) -> None:
        message = ServerMessage(server_content={"input_transcription": {"text": " hi"}})
        extra = transcription.encode(transcription.Hypothesis("oh hi", 0.5, True))
        message.server_content.input_transcription.MergeFromString(extra)
        again = ServerMessage.FromString(message.SerializeToString())
        assert events(again) == [live.Heard(" hi", 0.5, True, "oh hi")]

    def test_the_voice_as_such_comes_first(self) -> None:
        message = ServerMessage(server_content={"input_transcription": {"text": " hi"}, "interrupted": True})
        message.server_content.MergeFromString(voice_activity.encode(True, 120.5))
        again = ServerMessage.FromString(message.SerializeToString())
        assert events(again) == [live.VoiceActivity(True, 120.5), live.Heard(" hi"), live.Interrupted()]

    def test_an_answer_in_the_order_it_takes_effect(self) -> None:
        content = {
            "output_transcription": {"text": "Yes."},
            "model_turn": {
                "parts": [
                    {"text": "a thought"},
                    {"inline_data": {"mime_type": "audio/pcm;rate=16000", "data": b"\1\1"}},
                    {"inline_data": {"mime_type": "audio/pcm", "data": b"\2\2"}},
                    {"inline_data": {"mime_type": "image/png", "data": b"\3\3"}},
                ]
            },
            "generation_complete": True,
            "turn_complete": True,
        }
        assert server(server_content=content) == [
            live.Said("Yes."),
            live.Spoke(b"\1\1", 16_000),
            live.Spoke(b"\2\2", 24_000),
            live.Generated(),
            live.TurnEnded(),
        ]

    @pytest.mark.parametrize(
        ("mime_type", "rate_hz"),
        [
            ("audio/pcm;rate=8000", 8000),
            ("audio/pcm; rate=48000; channels=1", 48_000),
            ("AUDIO/L16;rate=16000", 16_000),
            ("audio/pcm;channels=1", 24_000),
            ("audio/pcm;rate=0", None),
            ("audio/pcm;rate=many", None),
            ("audio/ogg", None),
            ("", None),
        ],
    )
    def test_only_sound_that_can_be_played(self, mime_type: str, rate_hz: int | None) -> None:
        part = {"inline_data": {"mime_type": mime_type, "data": b"\1\1"}}
        expected = [live.Spoke(b"\1\1", rate_hz)] if rate_hz else []
        assert server(server_content={"model_turn": {"parts": [part]}}) == expected

    def test_interrupted(self) -> None:
        assert server(server_content={"interrupted": True}) == [live.Interrupted()]

    def test_calls(self) -> None:
        calls = [{"id": "1", "name": "skip", "args": {"count": 2}}, {"id": "2", "name": "next"}]
        assert server(tool_call={"function_calls": calls}) == [
            live.Called("1", "skip", {"count": 2.0}),
            live.Called("2", "next", {}),
        ]
        nan = {"fields": {"x": {"number_value": float("nan")}}}
        assert server(tool_call={"function_calls": [{"id": "3", "name": "next", "args": nan}]}) == [
            live.Called("3", "next", {})
        ], "JSON has no word for it"
        assert server(tool_call_cancellation={"ids": ["1", "2"]}) == [live.Cancelled(("1", "2"))]

    def test_the_connections_own_affairs(self) -> None:
        assert server(go_away={"time_left": {"seconds": 50, "nanos": 500_000_000}}) == [live.GoingAway(50.5)]
        update = {"new_handle": "h", "resumable": True}
        assert server(session_resumption_update=update) == [live.HandleChanged("h")]
        assert server(session_resumption_update={"new_handle": "h"}) == [live.HandleChanged(None)]
        assert server(session_resumption_update={"resumable": True}) == [live.HandleChanged(None)]

    def test_usage_comes_beside_anything(self) -> None:
        usage = {"prompt_token_count": 1, "response_token_count": 2, "total_token_count": 3}
        assert server(server_content={"turn_complete": True}, usage_metadata=usage) == [
            live.Metered(1, 2, 3),
            live.TurnEnded(),
        ], "it belongs to the turn that ends"
        assert server(usage_metadata=usage) == [live.Metered(1, 2, 3)]

    def test_what_says_nothing(self) -> None:
        assert server(setup_complete={}) == []
        assert server(server_content={}) == []
        assert server(server_content={"grounding_metadata": {}, "output_transcription": {}}) == []
        assert server() == []


def test_what_was_said_before_is_told_and_not_to_be_answered() -> None:
    content = wire(
        history_message([live.Turn("user", "Hello."), live.Turn("model", "Good day.")])
    ).client_content
    assert [(turn.role, turn.parts[0].text) for turn in content.turns] == [
        ("user", "Hello."),
        ("model", "Good day."),
    ]
    assert not content.turn_complete
