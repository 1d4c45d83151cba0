"""Faults of every kind against two nodes, and a verdict. Run from the repository: `make chaos`."""

import sys
from pathlib import Path

# It shares the store's process and the grammar of events with the tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
