"""Gemini Live over gRPC: `BidiGenerateContent`, for Google, the embedded engine and anything like them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from antiphon.errors import DISPOSITIONS, ErrorCode, GatewayError
from antiphon.gemini import codec
from antiphon.gemini.calls import Call, Calls
from antiphon.gemini.profiles import Profile
from antiphon.gemini.stream import ModelStream
from antiphon.gemini.upstream import (
    QUOTA_RETRY_AFTER_MS,
    QUOTA_RETRY_AT_MOST_MS,
    Opening,
    Upstream,
)
from antiphon.live import Answered, Full, LiveEvent, LiveInput, Room, Take
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


class GrpcTransport:
    """A client of one upstream over gRPC, by whichever client of gRPC the settings name."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._profile = upstream.voice.profile
        self._calls = _calls(upstream)

    @property
    def ready(self) -> bool:
        return self._calls.ready

    @property
    def reached(self) -> asyncio.Event:
        return self._calls.reached

    @property
    def connections(self) -> int:
        return self._calls.connections

    async def watch(self) -> None:
        """Keep a connection up and `ready` true to it; runs until cancelled."""
        await self._calls.watch()

    async def aclose(self) -> None:
        await self._calls.aclose()

    @asynccontextmanager
    async def conversation(self, opening: Opening) -> AsyncIterator[ModelStream]:
        async with self._calls.call() as call:
            stream = _Stream(call, self._profile)
            try:
                async with asyncio.timeout(self._upstream.setup_timeout_s):
                    await stream.open(opening)
            except TimeoutError as error:
                call.distrust()
                raise GatewayError(ErrorCode.UPSTREAM_TIMEOUT) from error
            yield stream


class _Stream(ModelStream):
    """A call."""

    def __init__(self, call: Call, profile: Profile) -> None:
        self._call = call
        self._profile = profile

    async def open(self, opening: Opening) -> None:
        """Send the set-up and wait until it is acknowledged; tell the history, if there is one."""
        with _gateway_errors():
            await self._call.connected()
        await self._send(opening.setup)
        while not (await self._message()).HasField("setup_complete"):
            pass
        if opening.history is not None:
            await self._send(opening.history)

    def write(self, item: LiveInput) -> bool:
        message = codec.input_bytes(item, self._profile)
        if message is None:
            return True
        try:
            return self._call.write(message)
        except RpcError as error:
            raise _gateway_error(error) from error

    async def drain(self) -> None:
        with _gateway_errors():
            await self._call.drain()

    async def read(self) -> list[LiveEvent]:
        with _gateway_errors():
            return _events(await self._call.read())

    async def listen(self, take: Take, full: Full, room: Room) -> None:
        def taken(message: bytes) -> bool:
            for event in _events(message):
                take(event)
            return not full()

        with _gateway_errors():
            await self._call.listen(taken, room)

    def ask(self, answered: Answered) -> None:
        self._call.ask(answered)

    async def _message(self) -> Any:
        with _gateway_errors():
            return _parsed(await self._call.read())

    async def _send(self, message: Any) -> None:
        with _gateway_errors():
            if not self._call.write(message.SerializeToString()):
                await self._call.drain()


@contextmanager
def _gateway_errors() -> Iterator[None]:
    """Raise what a call has ended with as what it means to a client."""
    try:
        yield
    except RpcError as error:
        raise _gateway_error(error) from error


def _parsed(message: bytes) -> Any:
    try:
        return codec.ServerMessage.FromString(message)
    except DecodeError as error:
        raise GatewayError(ErrorCode.UPSTREAM_INTERNAL) from error


def _events(message: bytes) -> list[LiveEvent]:
    try:
        return codec.events_of(message)
    except DecodeError as error:
        raise GatewayError(ErrorCode.UPSTREAM_INTERNAL) from error


def describe(error: BaseException) -> str | None:
    """Return the status that an error is, for the operator; None for any other error."""
    return f"{error.status.name}: {error.details}" if isinstance(error, RpcError) else None


def _calls(upstream: Upstream) -> Calls:
    # Of the two, only the one that is used is loaded.
    if upstream.client == "native":
        from antiphon.gemini.native_calls import NativeCalls

        return NativeCalls(upstream)
    from antiphon.gemini.grpcio_calls import GrpcioCalls

    return GrpcioCalls(upstream)


def _gateway_error(error: RpcError) -> GatewayError:
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
