"""What ASGI 3 hands over, as far as it is used (https://asgi.readthedocs.io/en/latest/specs/www.html)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]


def route(scope: Scope) -> str:
    """Return the path below the place where the application is mounted; `/` for that place itself.

    Servers and frameworks disagree whether `path` begins with `root_path`; both are understood.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    return path or "/"


def field(scope: Scope, name: bytes) -> str | None:
    """Return a header's value, several being one list (RFC 9110, section 5.2); None where it is missing."""
    values = [value.decode("latin-1") for found, value in scope["headers"] if found.lower() == name]
    return ", ".join(values) if values else None
