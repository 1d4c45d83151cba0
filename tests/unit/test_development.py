"""The secret of a gateway that was started without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from antiphon import development


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"])
def test_loopback(host: str) -> None:
    assert development.is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "10.0.0.1", "example.com", "127.0.0.1.example.com"])
def test_not_loopback(host: str) -> None:
    assert not development.is_loopback(host)


@pytest.mark.parametrize("variable", ["XDG_RUNTIME_DIR", "XDG_CACHE_HOME"])
def test_published_for_this_user_while_the_gateway_runs(tmp_path: Path, variable: str) -> None:
    environ = {variable: str(tmp_path)}
    secret = development.new_secret()
    assert development.find(8080, environ) is None
    with development.published(secret, 8080, environ):
        assert development.find(8080, environ) == secret
        assert development.find(8081, environ) is None
        (file,) = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.parent.stat().st_mode & 0o077 == 0
    assert development.find(8080, environ) is None


def test_what_a_killed_gateway_left_is_replaced(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    with development.published("newer", 1, environ), development.published("newest", 1, environ):
        assert development.find(1, environ) == "newest"


def test_another_gateways_secret_is_left_alone(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    other = development.published("other", 1, environ)
    with development.published("mine", 1, environ):
        other.__enter__()
    assert development.find(1, environ) == "other"


def test_secrets_are_long_and_never_the_same() -> None:
    assert len({development.new_secret() for _ in range(100)}) == 100
    assert len(development.new_secret()) >= 43
