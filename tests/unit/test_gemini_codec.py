"""Between our words and Gemini's messages."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon import live, transcription
from antiphon.gemini_codec import ClientMessage, ServerMessage, Voice, events, input_message, setup_message


def wire(message: Any) -> Any:
    """The message as the other side gets it."""
    return ClientMessage.FromString(message.SerializeToString())


def server(**fields: Any) -> list[live.LiveEvent]:
    return events(ServerMessage.FromString(ServerMessage(**fields).SerializeToString()))


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
                live.Setup("de-DE", "Be brief.", (function,), "h"), Voice("gemini-3.8-live", "Kore")
            )
        ).setup
        assert setup.model == "models/gemini-3.8-live"
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

    def test_a_function_without_phrases_or_parameters(self) -> None:
        setup = wire(setup_message(live.Setup("en-US", "", (live.Function("go", "Go."),)), Voice("m"))).setup
        (declaration,) = setup.tools[0].function_declarations
        assert declaration.description == "Go."
        assert not declaration.HasField("parameters")


class TestInput:
    def test_audio_names_its_rate(self) -> None:
        audio = wire(input_message(live.Audio(b"\1\2"))).realtime_input.audio
        assert (audio.mime_type, audio.data) == ("audio/pcm;rate=16000", b"\1\2")

    def test_the_end_of_a_stream(self) -> None:
        assert wire(input_message(live.AudioEnd())).realtime_input.audio_stream_end is True

    def test_a_typed_turn(self) -> None:
        assert wire(input_message(live.Text("go on"))).realtime_input.text == "go on"

    def test_its_context_is_json_behind_it(self) -> None:
        text = wire(input_message(live.Text("go on", {"größe": 1}))).realtime_input.text
        assert text == 'go on\n\nContext: {"größe": 1}'

    def test_a_result(self) -> None:
        (response,) = wire(
            input_message(live.ToolResult("7", "next", {"output": "done"}))
        ).tool_response.function_responses
        assert (response.id, response.name, response.response["output"]) == ("7", "next", "done")


class TestEvents:
    def test_what_the_user_said(self) -> None:
        assert server(server_content={"input_transcription": {"text": " hi"}}) == [live.Heard(" hi")]

    def test_what_the_engine_says_beside_it(self) -> None:
        message = ServerMessage(server_content={"input_transcription": {"text": " hi"}})
        extra = transcription.encode(transcription.Hypothesis("oh hi", 0.5, True))
        message.server_content.input_transcription.MergeFromString(extra)
        again = ServerMessage.FromString(message.SerializeToString())
        assert events(again) == [live.Heard(" hi", 0.5, True, "oh hi")]

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
            live.TurnEnded(),
            live.Metered(1, 2, 3),
        ]
        assert server(usage_metadata=usage) == [live.Metered(1, 2, 3)]

    def test_what_says_nothing(self) -> None:
        assert server(setup_complete={}) == []
        assert server(server_content={}) == []
        assert server(server_content={"grounding_metadata": {}, "output_transcription": {}}) == []
        assert server() == []
