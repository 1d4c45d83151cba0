"""How the parts of a session are written down and come back.

A part names the attributes that make up its state, and their types, in `KEPT`; an attribute that is a part
itself has its class there. `dump()` and `load()` are MessagePack: plain values, whoever wrote them.
"""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar, Protocol

import msgspec


class Part(Protocol):
    """Something with a state that is kept."""

    KEPT: ClassVar[dict[str, Any]]


def dump(part: Part) -> bytes:
    """Return the state of a part."""
    return _encoder.encode(_state(part))


def load(part: Part, data: bytes) -> None:
    """Put a state back into a part that was made as ever.

    Raises:
        msgspec.DecodeError: it is not one of such a part.
    """
    _restore(part, msgspec.msgpack.decode(data, type=dict[str, Any]))


def _state(part: Part) -> dict[str, Any]:
    state = {}
    for name, kind in part.KEPT.items():
        value = getattr(part, name)
        state[name] = _state(value) if hasattr(kind, "KEPT") else value
    return state


def _restore(part: Part, state: dict[str, Any]) -> None:
    for name, kind in part.KEPT.items():
        if name not in state:
            raise msgspec.ValidationError(f"The state has no {name}.")
        if hasattr(kind, "KEPT"):
            _restore(getattr(part, name), msgspec.convert(state[name], dict[str, Any]))
            continue
        value = msgspec.convert(state[name], kind)
        before = getattr(part, name)
        setattr(part, name, deque(value, maxlen=before.maxlen) if isinstance(before, deque) else value)


def _plain(value: Any) -> Any:
    if isinstance(value, deque):
        return list(value)
    raise TypeError(f"{type(value).__name__} cannot be kept")


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
