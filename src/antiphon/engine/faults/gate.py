"""The handles of one connection: that it comes with, that it is given. Pure: time is passed in."""

from __future__ import annotations

from antiphon.engine import wire
from antiphon.engine.faults.actions import Finish
from antiphon.engine.faults.armory import Armory
from antiphon.engine.faults.kinds import ExpireHandles, HoldHandles, NoHandles, Refusal


class Gate:
    """Refuses handles and keeps them back, as the faults of resumption say."""

    def __init__(self, armory: Armory) -> None:
        self._armory = armory
        self._withheld: wire.ServerMessage | None = None

    def due_at(self) -> list[float]:
        """Return when a handle that is kept back may be given."""
        return [armed.until for armed, _ in self._armory.of(NoHandles)] if self._withheld else []

    def refusal(self, handle: str, now: float) -> Finish | None:
        """Return how a set-up with a handle is refused; None where it is not, and goes on with it."""
        for armed in self._armory.armed:
            fault = armed.fault
            if (
                isinstance(fault, Refusal)
                and self._is_for(fault, handle, now)
                and self._armory.strikes(armed, now)
            ):
                return Finish(fault.status, fault.details, fault.retry_s)
        self._armory.book.resumed(handle, self._armory.connection)
        return None

    def passed(self, message: wire.ServerMessage, now: float) -> wire.ServerMessage:
        """Return a message about handles as it is to be sent."""
        if not self._armory.lasting(NoHandles, now):
            self._withheld = None
            return message
        self._withheld = message if message.session_resumption_update.resumable else None
        return wire.session_resumption_update("")

    def released(self, now: float) -> wire.ServerMessage | None:
        """Take the handle that was kept back, once it may be given."""
        if not self._withheld or self._armory.lasting(NoHandles, now):
            return None
        message, self._withheld = self._withheld, None
        return message

    def given(self, message: wire.ServerMessage, now: float) -> None:
        """Note a message about handles that is sent."""
        if handle := message.session_resumption_update.new_handle:
            self._armory.book.given(handle, self._armory.connection, now)

    def completed(self, turns: int) -> None:
        """Note that so many answers are complete."""
        for armed, fault in self._armory.of(NoHandles):
            if fault.until_turn == turns:
                armed.stop()

    def _is_for(self, fault: Refusal, handle: str, now: float) -> bool:
        if isinstance(fault, ExpireHandles):
            return self._armory.book.age_s(handle, now) > fault.lifetime_s
        if isinstance(fault, HoldHandles):
            return self._armory.book.free_for_s(handle, now) < fault.for_s
        return True
