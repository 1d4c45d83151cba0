"""Load on a gateway: many sessions that speak at once, and what came of it.

`frames`, `histogram`, `plot`, `report`, `schedule`, `speech`, `tally` and `verdict` are pure.
"""

from antiphon.load.command import add_arguments, run
from antiphon.load.connection import Answers, LoadError, Target
from antiphon.load.generator import Generator
from antiphon.load.histogram import Histogram
from antiphon.load.speech import Voice
from antiphon.load.verdict import Limits, Measurement, judge

__all__ = [
    "Answers",
    "Generator",
    "Histogram",
    "Limits",
    "LoadError",
    "Measurement",
    "Target",
    "Voice",
    "add_arguments",
    "judge",
    "run",
]
