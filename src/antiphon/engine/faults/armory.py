"""The faults of one connection. Pure: time is passed in."""

from __future__ import annotations

from typing import TypeVar

from antiphon.engine.faults.actions import Report
from antiphon.engine.faults.armed import Armed
from antiphon.engine.faults.kinds import Fault, Moment
from antiphon.engine.faults.plan import Plan
from antiphon.engine.faults.summary import what

FaultKind = TypeVar("FaultKind", bound=Fault)


class Armory:
    """Those that are for a connection which begins at `now`; what strikes is told in `reports`."""

    def __init__(self, connection: int, plan: Plan, now: float) -> None:
        self.connection = connection
        self.book = plan.book
        self.armed = [Armed(number, fault) for number, fault in plan.faults_for(connection)]
        self.reports: list[Report] = []
        self._plan = plan
        self._began = now

    def of(self, kind: type[FaultKind]) -> list[tuple[Armed, FaultKind]]:
        """Return those of a kind, in the order of the file."""
        return [(armed, armed.fault) for armed in self.armed if isinstance(armed.fault, kind)]

    def lasting(self, kind: type[FaultKind], now: float) -> list[tuple[Armed, FaultKind]]:
        """Return those of a kind that have begun and are not over."""
        return [(armed, fault) for armed, fault in self.of(kind) if armed.lasts(now)]

    def passes(self, moment: Moment, now: float) -> None:
        """Note a moment of the connection."""
        for armed in self.armed:
            armed.passes(moment, now)

    def hears(self, total_s: float, now: float) -> None:
        """Note how much audio the client has sent."""
        for armed in self.armed:
            armed.hears(total_s, now)

    def strikes(self, armed: Armed, now: float) -> bool:
        """Whether a fault that could strike does."""
        armed.occasions += 1
        if not self._plan.strikes(armed.number, self.connection, armed.occasions):
            return False
        self.reports.append(report(armed.number, armed.fault, self.connection, now - self._began))
        return True


def report(number: int, fault: Fault, connection: int, after_s: float) -> Report:
    """Tell that the fault of a number strikes a connection, `after_s` after its start."""
    return Report(
        f"connection {connection}, {after_s:.3f} s: fault {number} ({fault.kind}) strikes: {what(fault)}"
    )
