"""The function call of one connection, stuck or taken back as faults say. Pure: time is passed in."""

from __future__ import annotations

from msgspec import Struct

from antiphon.engine import wire
from antiphon.engine.faults.armed import Armed
from antiphon.engine.faults.armory import Armory
from antiphon.engine.faults.kinds import CancelTool, StuckTool


class _Cancellation(Struct, frozen=True):
    at: float
    call_id: str
    armed: Armed


class Tools:
    """One call is open at a time. While `is_stuck`, nothing of the model's turn is to be sent."""

    def __init__(self, armory: Armory) -> None:
        self.is_stuck = False
        self._armory = armory
        self._open = ""
        self._ignored: set[str] = set()
        self._cancellations: list[_Cancellation] = []

    def due_at(self) -> list[float]:
        """Return when calls may have to be taken back."""
        return [one.at for one in self._cancellations]

    def called(self, message: wire.ServerMessage, now: float) -> None:
        """Note that a call is sent."""
        self._open = message.tool_call.function_calls[0].id
        self._cancellations += [
            _Cancellation(now + fault.cancel_s, self._open, armed)
            for armed, fault in self._armory.lasting(CancelTool, now)
        ]

    def cancelled(self) -> None:
        """Note that the engine takes its call back."""
        self._open = ""

    def result(self, result: wire.ToolResult, now: float) -> bool:
        """Take a result; return whether the engine is to have it."""
        call_id = result.call_id or self._open
        if call_id in self._ignored:
            return False
        if call_id != self._open:
            return True
        stuck = self._armory.lasting(StuckTool, now)
        if any(self._armory.strikes(armed, now) for armed, _ in stuck):
            self._ignored.add(call_id)
            self.is_stuck = True
            return False
        if not result.more_to_come:
            self._open = ""
        return True

    def expire(self, now: float) -> str:
        """Return the id of the call that is to be taken back now; "" for none."""
        due = [one for one in self._cancellations if one.at <= now]
        self._cancellations = [one for one in self._cancellations if one.at > now]
        for one in due:
            if one.call_id == self._open and self._armory.strikes(one.armed, now):
                self.is_stuck = False
                self._open = ""
                return one.call_id
        return ""
