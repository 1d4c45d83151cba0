"""How many examples a property is tried on."""

from __future__ import annotations

from hypothesis import settings

_USUAL = 100
"""What Hypothesis does by itself, and the number that those in the tests are in proportion to."""


def tries(count: int) -> int:
    """Return so many, or in proportion fewer where the tests are run again, with the profile `again`."""
    return max(1, count * settings().max_examples // _USUAL)
