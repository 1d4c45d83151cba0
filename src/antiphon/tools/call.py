"""Commands that are carried out: who does it, what a call is, what becomes of its result, how it is signed.

A function of the operator's own (`by = "python"`) takes from here `ToolFailed` and `ToolContext`, an HTTP
endpoint in Python `verify`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from threading import Event
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

MAX_RESULT_BYTES: Final = 64 * 1024
MAX_RESULT_DEPTH: Final = 16
"""A level of JSON is several of a protobuf Struct, whose readers give up at 100."""
MAX_SENTENCE: Final = 500
SIGNATURE_TOLERANCE_S: Final = 300.0

FAILED: Final = "The tool failed."
LATE: Final = "The tool did not answer in time."
BUSY: Final = "The tool is busy."
UNREACHABLE: Final = "The tool cannot be reached."
UNUSABLE: Final = "The tool's answer cannot be used."

_Deadline = Annotated[float, Meta(gt=0, le=600)]
_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", re.ASCII)


class ToolFailed(Exception):  # noqa: N818 (it is an outcome that the model hears of)
    """The call came to nothing; the text is a sentence for the model and holds nothing internal."""


class ToolboxError(Exception):
    """A tool cannot work as it is configured; the text is a sentence that says why, and what to do."""


class ClientTool(Struct, tag_field="by", tag="client", frozen=True, forbid_unknown_fields=True):
    """The client carries it out and sends the result within `deadline_s`."""

    deadline_s: _Deadline = 30.0


class HttpTool(Struct, tag_field="by", tag="http", frozen=True, forbid_unknown_fields=True):
    """An HTTP endpoint carries it out: https://, or http:// on loopback and private networks."""

    url: str
    deadline_s: _Deadline = 10.0

    def __post_init__(self) -> None:
        if not self.url.startswith(("https://", "http://")):
            raise ValueError("The `url` of a tool begins with https:// (or http:// on your own networks)")


class PythonTool(Struct, tag_field="by", tag="python", frozen=True, forbid_unknown_fields=True):
    """A Python function of the operator's own carries it out, named as `package.module:name`."""

    function: str
    deadline_s: _Deadline = 10.0

    def __post_init__(self) -> None:
        if not _FUNCTION.fullmatch(self.function):
            raise ValueError("The `function` of a tool is named as package.module:name")


Tool = ClientTool | HttpTool | PythonTool


class Call(Struct, frozen=True):
    """One call of a tool. `args` are JSON values; `deadline_s` counts from when it is handed over."""

    call_id: str
    name: str
    args: dict[str, Any]
    session_id: str
    user_id: str
    deadline_s: float


class ToolContext(Struct, frozen=True):
    """What a Python function learns of its call by a parameter named `context`.

    `cancelled` is set when nobody waits for the result any more: a long function looks at it.
    """

    call_id: str
    session_id: str
    user_id: str
    cancelled: Event


def result_of(value: Any) -> dict[str, Any]:
    """Return a value as a result for the model: an object as it is, anything else as its `output`.

    What comes back consists of plain JSON values that a protobuf Struct can hold.

    Raises:
        ValueError: it is no JSON, larger than 64 KiB or nested deeper than 16; the text says which.
    """
    try:
        encoded = msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"it is no JSON: {error}") from None
    return read_result(encoded)


def read_result(body: bytes) -> dict[str, Any]:
    """Return JSON text as a result for the model, as `result_of` does.

    Raises:
        ValueError: it is no JSON, larger than 64 KiB or nested deeper than 16; the text says which.
    """
    if len(body) > MAX_RESULT_BYTES:
        raise ValueError(f"it is larger than {MAX_RESULT_BYTES} bytes")
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"it is no JSON: {error}") from None
    _check(value, MAX_RESULT_DEPTH)
    return value if isinstance(value, dict) else {"output": value}


def _check(value: Any, levels: int) -> None:
    if isinstance(value, dict | list):
        if not levels:
            raise ValueError(f"it is nested deeper than {MAX_RESULT_DEPTH}")
        for inner in value.values() if isinstance(value, dict) else value:
            _check(inner, levels - 1)
    elif isinstance(value, int) and value.bit_length() > 1023:
        raise ValueError("it holds a number that is too large")


def sign(secret: str, body: bytes, now: float) -> str:
    """Return the signature of a request: `t=<now in Unix seconds>,v1=<hex>`.

    `v1` is the HMAC-SHA256, by the secret's UTF-8 bytes, of the digits of `t`, a full stop and the body.
    """
    return f"t={int(now)},v1={_digest(secret, str(int(now)), body)}"


def verify(
    secret: str, signature: str, body: bytes, now: float, tolerance_s: float = SIGNATURE_TOLERANCE_S
) -> bool:
    """Whether a request's `Antiphon-Signature` was made with the secret and is fresh.

    `body` is what was received, byte for byte; `now` is in Unix seconds. The digests are compared in
    constant time. A request can still come twice within `tolerance_s`: tell them by `sessionId` and `callId`.
    """
    fields = [part.strip().partition("=") for part in signature.split(",")]
    times = [value for name, _, value in fields if name == "t"]
    # Ten digits last until 2286.
    if len(times) != 1 or not re.fullmatch("[0-9]{1,10}", times[0]):
        return False
    if abs(now - int(times[0])) > tolerance_s:
        return False
    expected = _digest(secret, times[0], body).encode()
    given = [value.encode(errors="replace") for name, _, value in fields if name == "v1"]
    return any(hmac.compare_digest(expected, value) for value in given)


def _digest(secret: str, time: str, body: bytes) -> str:
    # surrogateescape: as the environment hands on what is no UTF-8.
    key = secret.encode(errors="surrogateescape")
    return hmac.new(key, b"%s.%s" % (time.encode(), body), hashlib.sha256).hexdigest()
