"""The secret of a gateway that was started without one: random, for this run, for this user only.

It lies in a file that nobody else may read, so that `antiphon talk` and `antiphon token` in a second
terminal need no configuration. It goes when the gateway does.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

USER: Final = "developer"
"""Whom the tokens speak for that are made without asking."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def new_secret() -> str:
    return secrets.token_urlsafe(32)


@contextmanager
def published(secret: str, port: int, environ: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Keep the secret of the gateway at `port` where the same user's commands find it."""
    path = _path(port, environ)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret)
    try:
        yield
    finally:
        if find(port, environ) == secret:
            path.unlink(missing_ok=True)


def find(port: int, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the secret of the gateway that this user runs at `port`, if there is one."""
    try:
        return _path(port, environ).read_text()
    except OSError:
        return None


def _path(port: int, environ: Mapping[str, str]) -> Path:
    runtime = environ.get("XDG_RUNTIME_DIR")
    cache = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(runtime) / "antiphon" if runtime else Path(cache) / "antiphon" / "run"
    return folder / f"gateway-{port}.secret"
