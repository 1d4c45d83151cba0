"""The one call that a conversation waits for, from the message that makes it to its result."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from antiphon.engine import wire
from antiphon.engine.effects import Effect, Send
from antiphon.engine.meter import Meter
from antiphon.engine.phrases import Call

TOOL_TIMEOUT_S: Final = 60.0
"""A client has 30 s where nothing else is configured, and the gateway answers in its place then."""


class Calling:
    """`until` is when the call that is open is given up; infinite while none is."""

    def __init__(self, new_id: Callable[[], str], meter: Meter) -> None:
        self.until = float("inf")
        self.call: Call | None = None
        self._new_id = new_id
        self._meter = meter
        self._id = ""

    def make(self, call: Call, now: float) -> list[Effect]:
        """Make a call; none is open."""
        self.call, self._id, self.until = call, self._new_id(), now + TOOL_TIMEOUT_S
        self._meter.wrote(call.name + json.dumps(call.args))
        return [Send(wire.tool_call(self._id, call.name, call.args))]

    def take(self, result: wire.ToolResult, now: float) -> Call | None:
        """Return the call that a result ends; None where none waits for it, or where more is to come."""
        call = self.call
        if call is None or (result.call_id or self._id, result.name or call.name) != (self._id, call.name):
            return None
        self._meter.read(json.dumps(result.response))
        if result.more_to_come:
            self.until = now + TOOL_TIMEOUT_S
            return None
        self._close()
        return call

    def cancel(self) -> list[Effect]:
        """Take back the call that is open, if one is."""
        if self.call is None:
            return []
        self._close()
        return [Send(wire.tool_call_cancellation(self._id))]

    def _close(self) -> None:
        self.call, self.until = None, float("inf")
