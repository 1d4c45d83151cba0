"""Who may come in."""

from __future__ import annotations

import pytest

from antiphon.admission import Admission
from antiphon.errors import ErrorCode, GatewayError


def test_connections_a_user() -> None:
    admission = Admission(max_sessions=10, max_connections_per_user=2)
    admission.admit("alice")
    admission.admit("alice")
    with pytest.raises(GatewayError) as refused:
        admission.admit("alice")
    assert refused.value.code is ErrorCode.QUOTA_CONNECTIONS
    assert refused.value.details["retryAfterMs"] == 5000
    admission.admit("bob")
    admission.leave("alice")
    admission.admit("alice")
    assert admission.sessions == 3


def test_sessions_a_node() -> None:
    admission = Admission(max_sessions=1, max_connections_per_user=5)
    admission.admit("alice")
    with pytest.raises(GatewayError) as refused:
        admission.admit("bob")
    assert refused.value.code is ErrorCode.SERVER_AT_CAPACITY
    admission.leave("alice")
    admission.admit("bob")
    admission.leave("bob")
    assert admission.sessions == 0
