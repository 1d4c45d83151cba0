"""Load on a gateway: many sessions that speak at once, and what came of it.

`schedule`, `histogram`, `frames`, `speech` and `verdict` are pure; `connection` and `generator` do the I/O.
"""

from antiphon.load.connection import Answers, LoadError, Target
from antiphon.load.generator import Generator
from antiphon.load.histogram import Histogram
from antiphon.load.speech import Voice
from antiphon.load.verdict import Limits, Measurement, judge

__all__ = ["Answers", "Generator", "Histogram", "Limits", "LoadError", "Measurement", "Target", "Voice", "judge"]
