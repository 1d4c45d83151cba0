"""Measurements that print. Run from the repository: `make bench`, or one as `python -m bench.NAME`."""

import sys
from pathlib import Path

# They share recordings and counts with the tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
