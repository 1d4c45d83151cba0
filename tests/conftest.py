"""What all tests share: helpers whose asserts say what they saw."""

import pytest

pytest.register_assert_rewrite(
    "gateway.extended", "gateway.raw_socket", "gateway.running", "gateway.talker", "grammar"
)
