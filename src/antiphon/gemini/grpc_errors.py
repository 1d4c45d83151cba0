"""What the statuses of gRPC mean to a client."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from antiphon.errors import DISPOSITIONS, ErrorCode, GatewayError
from antiphon.gemini.upstream import QUOTA_RETRY_AFTER_MS, QUOTA_RETRY_AT_MOST_MS
from antiphon.rpc import RpcError, Status

_log = logging.getLogger(__name__)

ERROR_CODES: Final = {
    Status.OK: ErrorCode.UPSTREAM_LOST,
    Status.ABORTED: ErrorCode.UPSTREAM_LOST,
    Status.CANCELLED: ErrorCode.UPSTREAM_LOST,
    Status.UNAVAILABLE: ErrorCode.UPSTREAM_LOST,
    Status.DEADLINE_EXCEEDED: ErrorCode.UPSTREAM_TIMEOUT,
    Status.RESOURCE_EXHAUSTED: ErrorCode.UPSTREAM_QUOTA,
    Status.UNAUTHENTICATED: ErrorCode.UPSTREAM_UNAUTHORIZED,
    Status.PERMISSION_DENIED: ErrorCode.UPSTREAM_UNAUTHORIZED,
    Status.INVALID_ARGUMENT: ErrorCode.UPSTREAM_REFUSED,
    Status.FAILED_PRECONDITION: ErrorCode.UPSTREAM_REFUSED,
    Status.OUT_OF_RANGE: ErrorCode.UPSTREAM_REFUSED,
    Status.ALREADY_EXISTS: ErrorCode.UPSTREAM_REFUSED,
    Status.NOT_FOUND: ErrorCode.UPSTREAM_UNSUPPORTED,
    Status.UNIMPLEMENTED: ErrorCode.UPSTREAM_UNSUPPORTED,
    Status.INTERNAL: ErrorCode.UPSTREAM_INTERNAL,
    Status.UNKNOWN: ErrorCode.UPSTREAM_INTERNAL,
    Status.DATA_LOSS: ErrorCode.UPSTREAM_INTERNAL,
}
"""What a status means once the conversation is open; during set-up a lost one is UPSTREAM_UNAVAILABLE."""

REASONS: Final = {
    "API_KEY_INVALID": ErrorCode.UPSTREAM_UNAUTHORIZED,  # Google says INVALID_ARGUMENT to a bad key
    "ENGINE_BUSY": ErrorCode.UPSTREAM_BUSY,  # the embedded engine's RESOURCE_EXHAUSTED
}
"""What an ErrorInfo means, whatever the status that it comes with."""


def describe(error: BaseException) -> str | None:
    """Return the status that an error is, for the operator; None for any other error."""
    return f"{error.status.name}: {error.details}" if isinstance(error, RpcError) else None


@contextmanager
def gateway_errors() -> Iterator[None]:
    """Raise what a call has ended with as what it means to a client."""
    try:
        yield
    except RpcError as error:
        raise gateway_error(error) from error


def gateway_error(error: RpcError) -> GatewayError:
    """Return what a status means to a client; the status itself is its cause."""
    code = ERROR_CODES[error.status]
    for info in _status_details(error, error_details_pb2.ErrorInfo):
        code = REASONS.get(info.reason, code)
    if DISPOSITIONS[code].retryable:
        _log.info("The upstream ended a conversation: %s", error.status.name)
    else:
        _log.error("The upstream refused a conversation: %s: %s", error.status.name, error.details)
    if code in (ErrorCode.UPSTREAM_QUOTA, ErrorCode.UPSTREAM_BUSY):
        found = GatewayError(code, retryAfterMs=_retry_after_ms(error))
    else:
        found = GatewayError(code)
    return found


def _retry_after_ms(error: RpcError) -> int:
    delays = [info.retry_delay for info in _status_details(error, error_details_pb2.RetryInfo)]
    wait_ms = max((delay.seconds * 1000 + delay.nanos // 1_000_000 for delay in delays), default=0)
    return min(wait_ms, QUOTA_RETRY_AT_MOST_MS) if wait_ms > 0 else QUOTA_RETRY_AFTER_MS


def _status_details(error: RpcError, kind: Any) -> list[Any]:
    """Return the details of one kind in an error's google.rpc.Status (AIP-193); none if it is garbled."""
    found = []
    for key, value in error.trailers:
        if key != "grpc-status-details-bin" or not isinstance(value, bytes):
            continue
        try:
            for detail in status_pb2.Status.FromString(value).details:
                message = kind()
                if detail.Unpack(message):
                    found.append(message)
        except DecodeError:
            _log.info("The upstream sent error details that cannot be read")
    return found
