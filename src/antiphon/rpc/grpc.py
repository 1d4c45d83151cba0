"""gRPC over a stream of HTTP/2: messages, metadata, status (`grpc/doc/PROTOCOL-HTTP2.md`). Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from struct import Struct
from typing import Final
from urllib.parse import unquote_to_bytes

from antiphon.rpc.status import Http2Code, RpcError, Status

Metadata = Sequence[tuple[str, str | bytes]]
Pairs = Sequence[tuple[str, str]]

_PREFIX: Final = Struct(">BI")
PREFIX_BYTES: Final = _PREFIX.size
_OF_HTTP: Final = {
    400: Status.INTERNAL,
    401: Status.UNAUTHENTICATED,
    403: Status.PERMISSION_DENIED,
    404: Status.UNIMPLEMENTED,
    429: Status.UNAVAILABLE,
    502: Status.UNAVAILABLE,
    503: Status.UNAVAILABLE,
    504: Status.UNAVAILABLE,
}
"""What an answer that is not gRPC's means (`grpc/doc/http-grpc-status-mapping.md`)."""
_OF_RESET: Final = {
    Http2Code.REFUSED_STREAM: Status.UNAVAILABLE,
    Http2Code.CANCEL: Status.CANCELLED,
    Http2Code.ENHANCE_YOUR_CALM: Status.RESOURCE_EXHAUSTED,
    Http2Code.INADEQUATE_SECURITY: Status.PERMISSION_DENIED,
}
_OWN: Final = frozenset({"grpc-status", "grpc-message", "content-type"})


def framed(message: bytes) -> bytes:
    """Return a message as it travels, uncompressed."""
    return _PREFIX.pack(0, len(message)) + message


class Messages:
    """Cuts a stream's bytes into messages of at most `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._wanted = PREFIX_BYTES
        self._in_message = False

    @property
    def whole(self) -> bool:
        """Whether no message is begun."""
        return not self._size and not self._in_message

    def feed(self, data: bytes) -> list[bytes]:
        """Return the messages that are whole.

        Raises:
            RpcError: RESOURCE_EXHAUSTED, one is too long; INTERNAL, one is compressed, which was not offered.
        """
        if not self._size and not self._in_message and len(data) >= PREFIX_BYTES:
            compressed, length = _PREFIX.unpack_from(data)
            if len(data) == PREFIX_BYTES + length and not compressed and length <= self._max_bytes:
                return [data[PREFIX_BYTES:]]
        self._parts.append(data)
        self._size += len(data)
        if self._size < self._wanted:
            return []
        joined, at, found = b"".join(self._parts), 0, []
        while len(joined) - at >= self._wanted:
            begin, at = at, at + self._wanted
            if self._in_message:
                found.append(joined[begin:at])
                self._wanted = PREFIX_BYTES
            else:
                self._wanted = self._length(joined, begin)
            self._in_message = not self._in_message
        self._parts, self._size = [joined[at:]], len(joined) - at
        return found

    def _length(self, data: bytes, at: int = 0) -> int:
        compressed, length = _PREFIX.unpack_from(data, at)
        if compressed:
            raise RpcError(Status.INTERNAL, "A message is compressed, which was not offered.")
        if length > self._max_bytes:
            raise RpcError(Status.RESOURCE_EXHAUSTED, f"A message of {length} bytes is too long.")
        return int(length)


# ---- headers


def request_headers(
    authority: str, method: str, metadata: Metadata, *, secure: bool, timeout_s: float | None, agent: str
) -> list[tuple[str, str]]:
    """Return the headers of a call. `method` is as "/package.Service/Method"."""
    headers = [
        (":method", "POST"),
        (":scheme", "https" if secure else "http"),
        (":path", method),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", agent),
    ]
    if timeout_s is not None:
        headers.append(("grpc-timeout", f"{min(99_999_999, max(0, int(timeout_s * 1000)))}m"))
    for name, value in metadata:
        headers.append((name, value if isinstance(value, str) else base64.b64encode(value).decode()))
    return headers


def metadata_of(headers: Pairs) -> tuple[tuple[str, str | bytes], ...]:
    """Return what headers say beside the protocol; `-bin` is decoded, and left out where it is garbled."""
    found: list[tuple[str, str | bytes]] = []
    for name, value in headers:
        if name.startswith(":") or name in _OWN:
            continue
        if not name.endswith("-bin"):
            found.append((name, value))
            continue
        for part in value.split(","):
            try:
                found.append(
                    (name, base64.b64decode(part.strip() + "=" * (-len(part.strip()) % 4), validate=True))
                )
            except (binascii.Error, ValueError):
                continue
    return tuple(found)


def is_informational(headers: Pairs) -> bool:
    """Whether these are not yet the answer's headers (1xx)."""
    return next((value for name, value in headers if name == ":status"), "").startswith("1")


def refusal(headers: Pairs) -> RpcError | None:
    """Return what the first headers of an answer end the call with, where it is none of gRPC's."""
    fields = dict(headers)
    status, kind = fields.get(":status", ""), fields.get("content-type", "")
    if status == "200" and kind.startswith("application/grpc"):
        return None
    if "grpc-status" in fields:
        return ended(headers)
    code = (
        _OF_HTTP.get(int(status), Status.UNKNOWN)
        if status.isdecimal() and len(status) < 4
        else Status.UNKNOWN
    )
    return RpcError(code, f"The answer is HTTP {status[:20]} of the type {kind[:80]!r}, which is not gRPC.")


def ended(trailers: Pairs) -> RpcError:
    """Return the status that trailers end a call with."""
    fields = dict(trailers)
    status = fields.get("grpc-status", "")
    details = unquote_to_bytes(fields.get("grpc-message", "")).decode("utf-8", "replace")
    if not (status.isascii() and status.isdecimal()) or len(status) > 9:
        return RpcError(Status.UNKNOWN, "The answer ends without a status.", metadata_of(trailers))
    code = Status(int(status)) if int(status) in Status._value2member_map_ else Status.UNKNOWN
    return RpcError(code, details, metadata_of(trailers))


def reset(code: int) -> RpcError:
    """Return the status that a reset stream ends its call with."""
    try:
        name = Http2Code(code)
    except ValueError:
        return RpcError(Status.INTERNAL, f"The stream was reset with the code {code}.")
    return RpcError(_OF_RESET.get(name, Status.INTERNAL), f"The stream was reset: {name.name}.")
