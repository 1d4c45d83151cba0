"""The order of events, as docs/reference/protocol.md writes it down: one regular expression a track.

A message is one letter. A track may stop anywhere, so what is checked is that it can still go on to a whole:
every prefix of a track must be the beginning of a sentence.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any


class Grammar:
    """Takes the server's messages one by one; AssertionError at the first that is out of order."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self._connection = "auth"
        self._speaks = False
        self._last_ms = 0.0
        self._utterance: tuple[str, int] | None = None
        self._utterances: set[str] = set()
        self._final_transcript = ""
        self._response = ""
        self._responses: set[str] = set()
        self._stage = "none"
        self._revision = 0
        self._text_final = True
        self._calls: defaultdict[str, str] = defaultdict(str)
        self._due: str | None = None
        self._rotating = False

    def take(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        kind = message["type"]
        recent = [f"{m['type']}" for m in self.messages[-8:]]
        assert kind == "error" or self._due in (None, kind), (self._due, recent)
        self._due = None
        match kind:
            case "auth_success":
                self._due = "session_info"
            case "speech_started" | "speech_stopped":
                assert self._speaks is (kind == "speech_stopped"), recent
                assert message["streamMs"] >= 0
                self._speaks = not self._speaks
            case "recognition_result":
                if not (message["isFinal"] and message.get("command") and self._is_repeated(message)):
                    self._due = "transcript_update"
                    self._expected = (message["transcript"], message["isFinal"])
            case "transcript_update" if message["role"] == "user":
                assert (message["text"], message["isFinal"]) == self._expected, message
                self._user(message)
            case "transcript_update":
                self._model(message, recent)
            case "response_started":
                assert self._stage == "none", recent
                assert self._text_final, (recent, "the last response's transcript is open")
                assert message["responseId"] not in self._responses
                self._responses.add(message["responseId"])
                self._response, self._stage, self._revision = message["responseId"], "body", 0
            case "response_timing":
                assert self.messages[-2]["type"] == "response_started", recent
                assert message["responseId"] == self._response
                assert message["modelAt"] <= message["audioAt"] <= message["timestamp"]
            case "audio_response" | "binary":
                assert self._stage == "body", recent
            case "audio_flush":
                assert (self._stage, message["responseId"]) == ("body", self._response), recent
                self._stage, self._due = "flushed", "response_done"
            case "response_done":
                assert message["responseId"] == self._response
                if message["status"] == "interrupted":
                    assert self._stage == "flushed", recent
                else:
                    assert self._stage == "body", recent
                    assert self._text_final, recent
                self._stage = "none"
            case "tool_call":
                assert self._calls[message["callId"]] == "", "delivered twice"
                self._calls[message["callId"]] = "called"
            case "tool_cancelled":
                assert self._calls[message["callId"]] == "called", recent
                self._calls[message["callId"]] = "cancelled"
            case "session_rotating":
                assert not self._rotating, recent
                self._rotating = True
            case "session_rotated":
                assert self._rotating, recent
                self._rotating = False
                assert message["gapMs"] >= 0
                assert message["lostAudioMs"] >= 0
            case "audio_ack":
                assert message["windowMs"] >= 0
                assert message["stream"] >= 1
            case "audio_heard":
                assert message["heardMs"] > 0
            case "usage":
                for name, value in message["turn"].items():
                    assert 0 <= value <= message["session"][name] + 0.01, message
            case _:
                assert kind in ("session_info", "ping", "pong", "error", "resumed", "go_away"), kind

    def _is_repeated(self, message: dict[str, Any]) -> bool:
        """Whether a final result comes once more, with its command (or names one for a typed turn)."""
        return self._utterance is None

    def _user(self, message: dict[str, Any]) -> None:
        utterance_id, revision = message["utteranceId"], message["revision"]
        if self._utterance is None:
            assert utterance_id not in self._utterances
            self._utterances.add(utterance_id)
            assert revision == 1
        else:
            assert (utterance_id, revision) == (self._utterance[0], self._utterance[1] + 1)
        self._utterance = None if message["isFinal"] else (utterance_id, revision)

    def _model(self, message: dict[str, Any], recent: list[str]) -> None:
        assert message["utteranceId"] == self._response, recent
        self._revision += 1
        assert message["revision"] == self._revision, recent
        if message["isFinal"]:
            assert not self._text_final, recent
            self._text_final = True
        else:
            assert self._stage == "body", recent
            self._text_final = False
