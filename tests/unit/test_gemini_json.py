"""Gemini's messages as JSON, and what the end of a WebSocket means."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from antiphon import live
from antiphon.gemini.codec import ClientMessage, ServerMessage, events, input_message, setup_message
from antiphon.gemini.json_form import MalformedError, close_meaning, decode, encode, refusal_meaning
from antiphon.gemini.profiles import Voice, profile_of

SERVER_CONTENT = {"turn_complete": True, "output_transcription": {"text": "Zoë."}}
PCM = bytes(range(256))

_NAMES = st.sampled_from(
    [
        *("serverContent", "inputTranscription", "text", "finished", "voiceActivity", "voiceActivityType"),
        *(
            "audioOffset",
            "usageMetadata",
            "candidatesTokenCount",
            "goAway",
            "timeLeft",
            "toolCall",
            "modelTurn",
        ),
        *("functionCalls", "args", "parts", "inlineData", "data", "mimeType", "sessionResumptionUpdate"),
    ]
)
"""Of fields; what stands in them is anything."""


def heard(**fields: Any) -> list[live.LiveEvent]:
    return events(decode(json.dumps(fields)))


class TestEncoding:
    def test_names_are_those_of_json(self) -> None:
        setup = setup_message(
            live.Setup("de-DE", push_to_talk=True, handle="h"), Voice("gemini-live-2.5-flash")
        )
        assert json.loads(encode(setup)) == {
            "setup": {
                "model": "models/gemini-live-2.5-flash",
                "generationConfig": {
                    "responseModalities": ["AUDIO"],
                    "speechConfig": {
                        "languageCode": "de-DE",
                        "voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "Puck"}},
                    },
                },
                "realtimeInputConfig": {"automaticActivityDetection": {"disabled": True}},
                "inputAudioTranscription": {},
                "outputAudioTranscription": {},
                "contextWindowCompression": {"slidingWindow": {}},
                "sessionResumption": {"handle": "h"},
            }
        }

    @pytest.mark.parametrize(
        "item",
        [
            live.Audio(PCM),
            live.AudioEnd(),
            live.ActivityStart(),
            live.ActivityEnd(),
            live.Interrupt(),
            live.Text("größer", {"a": [None, 1.5]}),
            live.ToolResult("1", "next", {"output": {"deep": [True]}}),
        ],
        ids=lambda item: type(item).__name__,
    )
    def test_nothing_is_lost_on_the_way(self, item: live.LiveInput) -> None:
        message = input_message(item, profile_of("gemini-3.8-live"))
        assert json_format.Parse(encode(message), ClientMessage()) == message


class TestDecoding:
    @pytest.mark.parametrize("as_bytes", [True, False])
    def test_frames_are_binary_or_text(self, as_bytes: bool) -> None:
        message = ServerMessage(server_content=SERVER_CONTENT)
        text = json_format.MessageToJson(message)
        assert decode(text.encode() if as_bytes else text) == message

    def test_what_nobody_knows_yet_is_skipped(self) -> None:
        assert heard(brandNew={}, serverContent={"turnComplete": True, "turnCompleteReason": "NEW"}) == [
            live.TurnEnded()
        ]
        assert heard(brandNew={}) == heard() == []
        details = [{"modality": "SMELL", "tokenCount": 1}]
        usage = {"promptTokenCount": 1, "totalTokenCount": 3, "promptTokensDetails": details}
        assert heard(usageMetadata=usage) == [live.Metered(1, 0, 3)]

    def test_what_is_not_read_may_have_any_shape(self) -> None:
        content = {"turnComplete": True, "groundingMetadata": 5, "urlContextMetadata": [1]}
        usage = {"totalTokenCount": 3, "promptTokensDetails": {"AUDIO": 3}}
        assert heard(serverContent=content, usageMetadata=usage) == [live.Metered(0, 0, 3), live.TurnEnded()]

    def test_the_time_left_is_a_duration_in_words(self) -> None:
        assert heard(goAway={"timeLeft": "50.5s"}) == [live.GoingAway(50.5)]

    def test_the_end_of_a_transcription(self) -> None:
        assert heard(serverContent={"inputTranscription": {"text": " hi", "finished": True}}) == [
            live.Heard(" hi", final=True)
        ]
        assert heard(serverContent={"inputTranscription": {"text": " hi", "finished": False}}) == [
            live.Heard(" hi")
        ]

    @pytest.mark.parametrize(
        ("said", "event"),
        [
            ({"voiceActivityType": "ACTIVITY_START"}, live.VoiceActivity(True)),
            ({"voiceActivityType": "ACTIVITY_START", "audioOffset": "1.5s"}, live.VoiceActivity(True, 1500)),
            ({"type": "ACTIVITY_END", "audioOffset": "2s"}, live.VoiceActivity(False, 2000)),
            ({"voiceActivityType": "ACTIVITY_END", "audioOffset": "soon"}, live.VoiceActivity(False)),
            ({"voiceActivityType": "SHOUTING"}, None),
            ({}, None),
            ("ACTIVITY_START", None),
        ],
    )
    def test_voice_activity(self, said: Any, event: live.LiveEvent | None) -> None:
        assert heard(voiceActivity=said) == ([event] if event else [])

    def test_voice_activity_beside_other_things(self) -> None:
        activity = {"voiceActivityType": "ACTIVITY_START"}
        assert heard(serverContent={"interrupted": True}, voiceActivity=activity) == [
            live.VoiceActivity(True),
            live.Interrupted(),
        ]
        assert heard(toolCallCancellation={"ids": ["1"]}, voiceActivity=activity) == [live.Cancelled(("1",))]

    def test_vertex_counts_candidates(self) -> None:
        counted = {"promptTokenCount": 1, "totalTokenCount": 3}
        assert heard(usageMetadata={**counted, "candidatesTokenCount": 2}) == [live.Metered(1, 2, 3)]
        both = {**counted, "candidatesTokenCount": 9, "responseTokenCount": 2}
        assert heard(usageMetadata=both) == [live.Metered(1, 2, 3)]

    @pytest.mark.parametrize(
        "data",
        [
            *(b"", b"{", b"\xff", b"[]", b"null", b'"setupComplete"', b"[" * 100_000),
            *('{"serverContent":5}', '{"goAway":{"timeLeft":"soon"}}', '{"serverContent":{},"toolCall":{}}'),
        ],
        ids=lambda data: repr(data[:20]),
    )
    def test_what_is_no_message(self, data: bytes | str) -> None:
        with pytest.raises(MalformedError):
            decode(data)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(_NAMES | st.text(), inner),
        )
    )
    def test_any_json_is_a_message_or_malformed(self, value: Any) -> None:
        with suppress(MalformedError):
            events(decode(json.dumps(value)))


class TestMeaning:
    @pytest.mark.parametrize(
        ("code", "reason", "meaning"),
        [
            (1000, "", "UPSTREAM_LOST"),
            (1001, "quota", "UPSTREAM_LOST"),
            (1006, "", "UPSTREAM_LOST"),
            (1002, "", "UPSTREAM_INTERNAL"),
            (1007, "Request contains an invalid argument.", "UPSTREAM_REFUSED"),
            (1007, "API key not valid. Please pass a valid API key.", "UPSTREAM_UNAUTHORIZED"),
            (1008, "models/m is not found for API version v1beta", "UPSTREAM_UNSUPPORTED"),
            (1008, "Operation is not implemented, or supported, or enabled.", "UPSTREAM_UNSUPPORTED"),
            (1008, "Method doesn't allow unregistered callers", "UPSTREAM_UNAUTHORIZED"),
            (1008, "You exceeded your current quota", "UPSTREAM_QUOTA"),
            (1008, "Policy violation", "UPSTREAM_REFUSED"),
            (1009, "", "UPSTREAM_REFUSED"),
            (1011, "You exceeded your current quota, please check your plan", "UPSTREAM_QUOTA"),
            (1011, "RESOURCE_EXHAUSTED", "UPSTREAM_QUOTA"),
            (1011, "Deadline expired before operation could complete.", "UPSTREAM_TIMEOUT"),
            (1011, "The service is currently unavailable.", "UPSTREAM_LOST"),
            (1011, "Internal error encountered.", "UPSTREAM_INTERNAL"),
        ],
    )
    def test_of_a_close_code(self, code: int, reason: str, meaning: str) -> None:
        assert close_meaning(code, reason) == meaning

    @pytest.mark.parametrize(
        ("status", "meaning"),
        [
            (400, "UPSTREAM_REFUSED"),
            (401, "UPSTREAM_UNAUTHORIZED"),
            (403, "UPSTREAM_UNAUTHORIZED"),
            (404, "UPSTREAM_UNSUPPORTED"),
            (418, "UPSTREAM_REFUSED"),
            (429, "UPSTREAM_QUOTA"),
            (500, "UPSTREAM_INTERNAL"),
            (503, "UPSTREAM_LOST"),
            (504, "UPSTREAM_TIMEOUT"),
        ],
    )
    def test_of_an_http_status(self, status: int, meaning: str) -> None:
        assert refusal_meaning(status) == meaning
