"""Every failure a client can be told of: its code, what follows from it, and nothing that leaks.

`DISPOSITIONS` is the one table. The reference page, the JSON Schema and the TypeScript types are
generated from it, and no other place decides whether an error closes the connection.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, NamedTuple


class ErrorCode(StrEnum):
    """Codes of the wire's `error` message, in families by prefix."""

    AUTH_REQUIRED = "AUTH_REQUIRED"
    AUTH_TIMEOUT = "AUTH_TIMEOUT"
    AUTH_TOKEN_INVALID = "AUTH_TOKEN_INVALID"  # noqa: S105 (a code, not a secret)
    AUTH_TOKEN_EXPIRED = "AUTH_TOKEN_EXPIRED"  # noqa: S105
    AUTH_RENEWAL_REFUSED = "AUTH_RENEWAL_REFUSED"
    AUTH_USER_CHANGED = "AUTH_USER_CHANGED"
    AUTH_ORIGIN_REFUSED = "AUTH_ORIGIN_REFUSED"
    AUTH_UNAVAILABLE = "AUTH_UNAVAILABLE"
    PROTOCOL_ACTIVITY_ORDER = "PROTOCOL_ACTIVITY_ORDER"
    PROTOCOL_BAD_BINARY = "PROTOCOL_BAD_BINARY"
    PROTOCOL_BAD_FRAME = "PROTOCOL_BAD_FRAME"
    PROTOCOL_BAD_ENCODING = "PROTOCOL_BAD_ENCODING"
    PROTOCOL_BAD_JSON = "PROTOCOL_BAD_JSON"
    PROTOCOL_BAD_MESSAGE = "PROTOCOL_BAD_MESSAGE"
    PROTOCOL_BINARY_UNEXPECTED = "PROTOCOL_BINARY_UNEXPECTED"
    PROTOCOL_PROVOKE_REFUSED = "PROTOCOL_PROVOKE_REFUSED"
    PROTOCOL_TOO_BIG = "PROTOCOL_TOO_BIG"
    PROTOCOL_TOO_MANY_ERRORS = "PROTOCOL_TOO_MANY_ERRORS"
    PROTOCOL_UNKNOWN_RESPONSE = "PROTOCOL_UNKNOWN_RESPONSE"
    PROTOCOL_UNKNOWN_TYPE = "PROTOCOL_UNKNOWN_TYPE"
    AUDIO_CORRUPT = "AUDIO_CORRUPT"
    AUDIO_RATE_MISMATCH = "AUDIO_RATE_MISMATCH"
    AUDIO_SEQUENCE_GAP = "AUDIO_SEQUENCE_GAP"
    AUDIO_STREAM_ACTIVE = "AUDIO_STREAM_ACTIVE"
    AUDIO_STREAM_INACTIVE = "AUDIO_STREAM_INACTIVE"
    AUDIO_TOO_FAST = "AUDIO_TOO_FAST"
    AUDIO_UNSUPPORTED = "AUDIO_UNSUPPORTED"
    SESSION_CLIENT_SLOW = "SESSION_CLIENT_SLOW"
    SESSION_IDLE = "SESSION_IDLE"
    SESSION_MAX_DURATION = "SESSION_MAX_DURATION"
    SESSION_RESUME_REFUSED = "SESSION_RESUME_REFUSED"
    SESSION_RESUME_UNAVAILABLE = "SESSION_RESUME_UNAVAILABLE"
    SESSION_TAKEN_OVER = "SESSION_TAKEN_OVER"
    QUOTA_CONNECTIONS = "QUOTA_CONNECTIONS"
    TOOL_CALL_UNKNOWN = "TOOL_CALL_UNKNOWN"
    TOOL_RESULT_LATE = "TOOL_RESULT_LATE"
    TOOL_RESULT_REPEATED = "TOOL_RESULT_REPEATED"
    UPSTREAM_BUSY = "UPSTREAM_BUSY"
    UPSTREAM_INTERNAL = "UPSTREAM_INTERNAL"
    UPSTREAM_LOST = "UPSTREAM_LOST"
    UPSTREAM_QUOTA = "UPSTREAM_QUOTA"
    UPSTREAM_REFUSED = "UPSTREAM_REFUSED"
    UPSTREAM_SLOW = "UPSTREAM_SLOW"
    UPSTREAM_TIMEOUT = "UPSTREAM_TIMEOUT"
    UPSTREAM_UNAUTHORIZED = "UPSTREAM_UNAUTHORIZED"
    UPSTREAM_UNAVAILABLE = "UPSTREAM_UNAVAILABLE"
    UPSTREAM_UNSUPPORTED = "UPSTREAM_UNSUPPORTED"
    SERVER_AT_CAPACITY = "SERVER_AT_CAPACITY"
    SERVER_DRAINING = "SERVER_DRAINING"
    SERVER_INTERNAL = "SERVER_INTERNAL"
    SERVER_STOPPING = "SERVER_STOPPING"


class Disposition(NamedTuple):
    """What follows from an error code.

    `close` is the WebSocket close code, or None where the connection lives on; `retryable` says
    whether the same attempt may succeed later; `message` is the sentence for a person.
    """

    close: int | None
    retryable: bool
    message: str


C = ErrorCode
DISPOSITIONS: Final[dict[ErrorCode, Disposition]] = {
    C.AUTH_REQUIRED: Disposition(None, False, "Send an auth message with a token first."),
    C.AUTH_TIMEOUT: Disposition(4401, True, "No valid auth message came in time; connect and send it first."),
    C.AUTH_TOKEN_INVALID: Disposition(
        4401, False, "The token is not valid here; get a new one and reconnect."
    ),
    C.AUTH_TOKEN_EXPIRED: Disposition(4440, True, "The token has expired; get a new one and reconnect."),
    C.AUTH_RENEWAL_REFUSED: Disposition(
        None, True, "The renewed token is not valid; the present one counts until it expires."
    ),
    C.AUTH_USER_CHANGED: Disposition(
        4403, False, "A token may only be renewed for the same user; reconnect."
    ),
    C.AUTH_ORIGIN_REFUSED: Disposition(
        4403, False, "Pages of this origin may not connect; the operator can allow it (ANTIPHON_ORIGINS)."
    ),
    C.AUTH_UNAVAILABLE: Disposition(1013, True, "Tokens cannot be verified at the moment; try again later."),
    C.PROTOCOL_ACTIVITY_ORDER: Disposition(
        None, False, "An activity is begun by activity_start and ended by activity_end, in turns."
    ),
    C.PROTOCOL_BAD_BINARY: Disposition(None, False, "The binary frame is not one of this protocol."),
    C.PROTOCOL_BAD_FRAME: Disposition(1002, False, "The frame violates the WebSocket protocol."),
    C.PROTOCOL_BAD_ENCODING: Disposition(None, False, "The text frame is not valid UTF-8."),
    C.PROTOCOL_BAD_JSON: Disposition(None, False, "The text frame is not valid JSON."),
    C.PROTOCOL_BAD_MESSAGE: Disposition(None, False, "A field is missing or has the wrong type."),
    C.PROTOCOL_BINARY_UNEXPECTED: Disposition(None, False, "Binary frames are not accepted; send JSON text."),
    C.PROTOCOL_PROVOKE_REFUSED: Disposition(
        None,
        False,
        "Nothing may be provoked at this gateway; its operator can allow it (ANTIPHON_PROVOCATIONS).",
    ),
    C.PROTOCOL_TOO_BIG: Disposition(1009, False, "The message is larger than this server takes; send less."),
    C.PROTOCOL_TOO_MANY_ERRORS: Disposition(4400, False, "Too many messages could not be understood."),
    C.PROTOCOL_UNKNOWN_RESPONSE: Disposition(None, False, "There is no response of this id."),
    C.PROTOCOL_UNKNOWN_TYPE: Disposition(None, False, "The message type is not known."),
    C.AUDIO_CORRUPT: Disposition(None, False, "Part of the audio could not be decoded and was left out."),
    C.AUDIO_RATE_MISMATCH: Disposition(
        None, False, "The FLAC stream has another sample rate than was announced; its own counts."
    ),
    C.AUDIO_SEQUENCE_GAP: Disposition(
        None, False, "Audio chunks are missing; the stream goes on without them."
    ),
    C.AUDIO_STREAM_ACTIVE: Disposition(None, False, "An audio stream is already open; it goes on."),
    C.AUDIO_STREAM_INACTIVE: Disposition(
        None, False, "No audio stream is open; send audio_stream_start first."
    ),
    C.AUDIO_TOO_FAST: Disposition(
        None, False, "The audio comes faster than four times real time; it is read more slowly for now."
    ),
    C.AUDIO_UNSUPPORTED: Disposition(
        None, False, "This kind of audio is not supported; the stream was ended."
    ),
    C.SESSION_CLIENT_SLOW: Disposition(4413, True, "The client reads too slowly; reconnect."),
    C.SESSION_IDLE: Disposition(4408, True, "The session was idle for too long; reconnect when needed."),
    C.SESSION_MAX_DURATION: Disposition(4441, True, "The session reached its longest duration; start anew."),
    C.SESSION_RESUME_REFUSED: Disposition(
        None,
        False,
        "This session cannot be resumed: it is over, or the token is spent. Send auth to begin anew.",
    ),
    C.SESSION_RESUME_UNAVAILABLE: Disposition(
        1013, True, "Sessions cannot be resumed at the moment; try again shortly."
    ),
    C.SESSION_TAKEN_OVER: Disposition(4409, False, "The session goes on over another connection."),
    C.QUOTA_CONNECTIONS: Disposition(4429, True, "This user has too many connections; close one or wait."),
    C.TOOL_CALL_UNKNOWN: Disposition(None, False, "There is no tool call of this id."),
    C.TOOL_RESULT_LATE: Disposition(
        None, False, "The result came too late: the call was cancelled, or its deadline has passed."
    ),
    C.TOOL_RESULT_REPEATED: Disposition(None, False, "The call has its result already; this one is dropped."),
    C.UPSTREAM_BUSY: Disposition(
        1013, True, "The model has all the conversations that it can carry; try again later."
    ),
    C.UPSTREAM_INTERNAL: Disposition(1011, True, "The model failed; reconnect."),
    C.UPSTREAM_LOST: Disposition(1011, True, "The connection to the model was lost; reconnect."),
    C.UPSTREAM_QUOTA: Disposition(4429, True, "The model's quota is used up; try again later."),
    C.UPSTREAM_REFUSED: Disposition(1011, False, "The model refused the request."),
    C.UPSTREAM_SLOW: Disposition(1011, True, "The model did not take the audio in time; reconnect."),
    C.UPSTREAM_TIMEOUT: Disposition(1011, True, "The model did not answer in time; reconnect."),
    C.UPSTREAM_UNAUTHORIZED: Disposition(
        1011, False, "The gateway may not use the model; tell its operator."
    ),
    C.UPSTREAM_UNAVAILABLE: Disposition(1011, True, "The model cannot be reached; try again later."),
    C.UPSTREAM_UNSUPPORTED: Disposition(
        1011, False, "The model does not offer live conversation; tell the operator."
    ),
    C.SERVER_AT_CAPACITY: Disposition(1013, True, "This server is full; try again later."),
    C.SERVER_DRAINING: Disposition(1001, True, "This server is stopping; reconnect."),
    C.SERVER_INTERNAL: Disposition(1011, True, "Something went wrong in the server; reconnect."),
    C.SERVER_STOPPING: Disposition(1013, True, "This server is stopping; connect again, to another one."),
}
del C


class GatewayError(Exception):
    """A foreseen failure, with the code a client is told.

    `message` replaces the table's sentence where more can be said; like `details` (JSON values) it
    reaches the client, so neither may hold anything internal.
    """

    def __init__(self, code: ErrorCode, message: str | None = None, **details: object) -> None:
        self.code = code
        self.message = message or DISPOSITIONS[code].message
        self.details = details
        super().__init__(f"{code}: {self.message}")


def first_of(group: BaseExceptionGroup[Any]) -> BaseException:
    """Return the first error of a group. What broke together has one cause, and a person is told of one."""
    error: BaseException = group.exceptions[0]
    return first_of(error) if isinstance(error, BaseExceptionGroup) else error
