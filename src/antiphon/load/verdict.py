"""What was measured, and whether it is good enough. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from msgspec import Struct, field

from antiphon.load.histogram import Histogram


class Measurement(Struct):
    """What came of the chunks that were due in one window."""

    sessions: int
    seconds: float = 0.0
    """How long the window was."""
    due: int = 0
    """Chunks that were to be sent."""
    answered: int = 0
    """Those of them that were answered, in the window or within the grace after it."""
    skipped: int = 0
    """Answers that did not come while a later one of the session did."""
    latency: Histogram = field(default_factory=Histogram)
    """From when a chunk was due until its answer was here."""
    lateness: Histogram = field(default_factory=Histogram)
    """From when a chunk was due until it was written: the generator's own."""
    errors: Counter[str] = field(default_factory=Counter)
    """Errors by their code; "lost" where a connection was."""
    cpu_s: float = 0.0
    """What the generator used."""
    seconds_of: dict[int, Histogram] = field(default_factory=dict)
    """Latency of the chunks that were due in each second of the window."""

    @property
    def answered_share(self) -> float:
        """How many of the chunks were answered, 0 to 1; 1 of none."""
        return self.answered / self.due if self.due else 1.0


class Limits(Struct, frozen=True):
    """What is good enough."""

    p99_s: float = 0.020
    answered_share: float = 0.995
    own_p99_s: float = 0.005
    """How late the generator itself may be; beyond that nothing is judged."""
    skipped: int = 0
    errors: int = 0


class Verdict(Struct, frozen=True):
    """Whether it was good enough; None where the generator could not keep up. `why` is a sentence."""

    passed: bool | None
    why: str


def judge(measured: Measurement, limits: Limits) -> Verdict:
    """Return the verdict on a measurement."""
    own_s = measured.lateness.percentile(0.99)
    p99_s = measured.latency.percentile(0.99)
    share = measured.answered_share
    if not measured.due:
        return Verdict(None, "Nothing was sent.")
    if measured.errors.total() > limits.errors:
        return Verdict(False, f"There were errors: {told(measured.errors)}.")
    if measured.skipped > limits.skipped:
        return Verdict(False, f"{measured.skipped} answers never came.")
    # What the system under test was too slow for is its own, however late the generator was.
    if own_s > limits.own_p99_s and p99_s - own_s <= limits.p99_s:
        return Verdict(
            None, f"The generator could not keep up: it was late by {own_s * 1000:.1f} ms itself (p99)."
        )
    if share < limits.answered_share:
        return Verdict(False, f"Only {share:.1%} of the chunks were answered.")
    if p99_s > limits.p99_s:
        return Verdict(False, f"p99 is {p99_s * 1000:.1f} ms.")
    if not measured.latency.count:
        return Verdict(True, "The generator was fast enough.")
    return Verdict(True, f"p99 is {p99_s * 1000:.1f} ms, {share:.2%} answered.")


def told(errors: Mapping[str, int]) -> str:
    """Return how often what happened, as words."""
    return ", ".join(f"{name} ({count})" for name, count in sorted(errors.items()))
