"""One fault on one connection: when it begins, and whether it lasts. Pure: time is passed in."""

from __future__ import annotations

from typing import Final

from antiphon.engine.faults.kinds import Fault, Lasting, Moment, Timed

NEVER: Final = float("inf")


class Armed:
    """Counts the moments of a connection; `number` is the fault's in the file.

    `occasions` counts, for who decides about it, how often it could have struck.
    """

    def __init__(self, number: int, fault: Fault) -> None:
        self.number = number
        self.fault = fault
        self.occasions = 0
        self.until = -NEVER
        self._passed = 0
        self._answer = 0
        self._begins: list[float] = []

    @property
    def begins_at(self) -> float:
        """When it begins next; infinite where no moment has come that it waits for."""
        return self._begins[0] if self._begins else NEVER

    def lasts(self, now: float) -> bool:
        """Whether it has begun and is not over."""
        return now < self.until

    def passes(self, moment: Moment, now: float) -> None:
        """Note a moment of the connection."""
        if isinstance(self.fault, Timed) and self.fault.at == moment:
            self._passed += 1
            if self.fault.nth in ("each", self._passed):
                self._begins.append(now + self.fault.after_s)

    def hears(self, total_s: float, now: float) -> None:
        """Note how much audio the client has sent."""
        if self._passed == 0 and isinstance(self.fault, Timed) and total_s >= (self.fault.audio_s or NEVER):
            self.passes("audio", now)

    def answer_edge_ms(self, answer: int) -> float:
        """Return how much of the n-th answer is sent before it begins; infinite where it does not, or has."""
        fault = self.fault
        if not isinstance(fault, Timed) or fault.at != "answer" or self._answer >= answer:
            return NEVER
        is_over = fault.nth != "each" and self._passed >= fault.nth
        return NEVER if is_over else fault.answer_ms

    def answers(self, answer: int, now: float) -> None:
        """Note that the n-th answer has come to where it begins."""
        self._answer = answer
        self.passes("answer", now)

    def take(self, now: float) -> bool:
        """Whether it begins now; true once a moment."""
        if self.begins_at > now:
            return False
        del self._begins[0]
        return True

    def begin(self, now: float) -> None:
        """Begin to last."""
        assert isinstance(self.fault, Lasting)
        self.until = NEVER if self.fault.for_s is None else now + self.fault.for_s

    def stop(self) -> None:
        """Cease to last, for good."""
        self.until = -NEVER
        self._begins.clear()
