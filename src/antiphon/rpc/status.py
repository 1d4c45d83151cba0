"""How an RPC ends: gRPC's status codes, and the errors of HTTP/2 (RFC 9113, section 7)."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """gRPC's status codes (`grpc/doc/statuscodes.md`)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Http2Code(IntEnum):
    """HTTP/2's error codes."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class RpcError(Exception):
    """An RPC has ended, with this status; `trailers` came with it, `-bin` ones decoded."""

    def __init__(
        self, status: Status, details: str = "", trailers: tuple[tuple[str, str | bytes], ...] = ()
    ) -> None:
        self.status = status
        self.details = details
        self.trailers = trailers
        super().__init__(f"{status.name}: {details}" if details else status.name)


class Http2Error(Exception):
    """The peer breaks HTTP/2, so that the connection is of no use any more."""

    def __init__(self, code: Http2Code, sentence: str) -> None:
        self.code = code
        super().__init__(sentence)
