"""Holds what a client is sent to the protocol: the order of events, and every sample of every answer.

What is missing, comes twice or out of order is a fault. Where the server has said that something is missing
(`lossy`), each track of events is looked at again from its next beginning on.
"""

from __future__ import annotations

import base64
from typing import Any

from chaos import answer
from grammar import Grammar

Message = dict[str, Any]

CLOCKS_MS = 100
"""How much the clocks of two nodes may differ."""


class Listener:
    """Takes the messages of one session, whatever connection they come on; returns what is wrong."""

    def __init__(self) -> None:
        self.statuses: dict[str, int] = {}
        self._grammar = Grammar()
        self._pcm = bytearray()
        self._response = ""
        self._frame: int | None = 0
        self._timestamp = 0
        self._skips: set[str] = set()

    def lossy(self) -> None:
        """Note that something is missing, as was told."""
        self._grammar = Grammar()
        self._skips = {"response", "user", "speech", "rotation", "tool"}
        self._frame = None
        self._response = ""

    def take(self, message: Message) -> list[str]:
        """Take a message; `binary` is the type of a binary frame."""
        if self._is_skipped(message):
            return []
        found = []
        try:
            self._grammar.take(message)
        except AssertionError as error:
            recent = [str(entry["type"]) for entry in self._grammar.messages[-6:]]
            found.append(f"order: {str(error)[:200] or message['type']} after {recent}")
            self.lossy()
        found += self._sound(message)
        timestamp = message.get("timestamp", self._timestamp)
        if timestamp < self._timestamp - CLOCKS_MS:
            found.append(f"order: a {message['type']} of {self._timestamp - timestamp} ms ago")
        self._timestamp = max(self._timestamp, timestamp)
        return found

    def _sound(self, message: Message) -> list[str]:
        match message["type"]:
            case "response_started":
                self._response, self._pcm = message["responseId"], bytearray()
            case "audio_response":
                self._pcm += base64.b64decode(message["data"])
            case "binary":
                self._pcm += message["data"]
                expected, self._frame = self._frame, message["sequence"] + 1
                if expected not in (None, message["sequence"]):
                    return [f"frame {message['sequence']} in place of {expected}"]
            case "response_done" if self._response:
                status = message["status"]
                self.statuses[status] = self.statuses.get(status, 0) + 1
                self._response = ""
                wrong = answer.fault(bytes(self._pcm), whole=status == "completed")
                recent = [str(entry["type"]) for entry in self._grammar.messages[-8:]]
                return [f"a {status} response {message['responseId']}: {wrong}; {recent}"] if wrong else []
        return []

    def _is_skipped(self, message: Message) -> bool:
        """Whether a message belongs to something whose beginning may be what is missing."""
        if not self._skips:
            return False
        match message["type"]:
            case "response_started":
                self._skips.discard("response")
            case "recognition_result":
                return "user" in self._skips
            case "transcript_update" if message["role"] == "user":
                if "user" in self._skips and message["isFinal"]:
                    self._skips.discard("user")
                    return True
                return "user" in self._skips
            case "audio_response" | "binary" | "response_done" | "audio_flush" | "transcript_update":
                return "response" in self._skips
            case "speech_started":
                self._skips.discard("speech")
            case "speech_stopped":
                return "speech" in self._skips
            case "session_rotating":
                self._skips.discard("rotation")
            case "session_rotated":
                return "rotation" in self._skips
            case "tool_cancelled":
                return "tool" in self._skips
        return False
