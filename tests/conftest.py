"""What all tests share: helpers whose asserts say what they saw."""

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite(
    "gateway.extended", "gateway.raw_socket", "gateway.running", "gateway.talker", "grammar"
)

# On a busy machine anything is slow to be made.
settings.register_profile("busy", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
settings.register_profile("again", max_examples=20)
"""For the other Pythons: what was tried on many examples is tried on some."""
