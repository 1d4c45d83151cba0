"""Gemini Live over gRPC: `BidiGenerateContent`, for Google, the embedded engine and anything like them.

No other module knows which gRPC client this is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from antiphon import live
from antiphon.errors import DISPOSITIONS, ErrorCode, GatewayError
from antiphon.gemini import codec
from antiphon.gemini.channels import ChannelPool, Slot, channel_maker
from antiphon.gemini.probe import seen
from antiphon.gemini.profiles import Profile
from antiphon.gemini.upstream import (
    QUOTA_RETRY_AFTER_MS,
    QUOTA_RETRY_AT_MOST_MS,
    Opening,
    Upstream,
)
from antiphon.live import LiveEvent, LiveInput, LiveStream

METHOD: Final = "/google.ai.generativelanguage.v1beta.GenerativeService/BidiGenerateContent"

_STATUS_TIMEOUT_S: Final = 1.0
_WRITE_FAILED: Final = "Internal error from Core"
"""What grpc.aio says of a write that failed, whatever became of the RPC."""

T = TypeVar("T")

_log = logging.getLogger(__name__)

_S = grpc.StatusCode
ERROR_CODES: Final = {
    _S.OK: ErrorCode.UPSTREAM_LOST,
    _S.ABORTED: ErrorCode.UPSTREAM_LOST,
    _S.CANCELLED: ErrorCode.UPSTREAM_LOST,
    _S.UNAVAILABLE: ErrorCode.UPSTREAM_LOST,
    _S.DEADLINE_EXCEEDED: ErrorCode.UPSTREAM_TIMEOUT,
    _S.RESOURCE_EXHAUSTED: ErrorCode.UPSTREAM_QUOTA,
    _S.UNAUTHENTICATED: ErrorCode.UPSTREAM_UNAUTHORIZED,
    _S.PERMISSION_DENIED: ErrorCode.UPSTREAM_UNAUTHORIZED,
    _S.INVALID_ARGUMENT: ErrorCode.UPSTREAM_REFUSED,
    _S.FAILED_PRECONDITION: ErrorCode.UPSTREAM_REFUSED,
    _S.OUT_OF_RANGE: ErrorCode.UPSTREAM_REFUSED,
    _S.ALREADY_EXISTS: ErrorCode.UPSTREAM_REFUSED,
    _S.NOT_FOUND: ErrorCode.UPSTREAM_UNSUPPORTED,
    _S.UNIMPLEMENTED: ErrorCode.UPSTREAM_UNSUPPORTED,
    _S.INTERNAL: ErrorCode.UPSTREAM_INTERNAL,
    _S.UNKNOWN: ErrorCode.UPSTREAM_INTERNAL,
    _S.DATA_LOSS: ErrorCode.UPSTREAM_INTERNAL,
}
"""What a status means once the conversation is open; during set-up a lost one is UPSTREAM_UNAVAILABLE."""


class GrpcTransport:
    """A client of one upstream over gRPC."""

    def __init__(self, upstream: Upstream) -> None:
        self.ready = False
        self.reached = asyncio.Event()
        self._upstream = upstream
        self._profile = upstream.voice.profile
        self._pool = ChannelPool(channel_maker(upstream), upstream.streams_a_channel)
        self._metadata: tuple[tuple[str, str], ...] = ()
        if upstream.api_key:
            self._metadata = (("x-goog-api-key", upstream.api_key),)

    @property
    def connections(self) -> int:
        return self._pool.size

    async def watch(self) -> None:
        """Keep a connection up and `ready` true to it; runs until cancelled."""
        channel = self._pool.first
        while True:
            state = channel.get_state(try_to_connect=True)
            self.ready = state is grpc.ChannelConnectivity.READY
            if self.ready:
                self.reached.set()
            await channel.wait_for_state_change(state)

    async def aclose(self) -> None:
        await self._pool.aclose()

    @asynccontextmanager
    async def conversation(self, opening: Opening) -> AsyncIterator[LiveStream]:
        async with self._pool.lease() as lease:
            stream = _Stream(
                lease, self._metadata, self._profile, wait_for_ready=self._upstream.wait_for_ready
            )
            try:
                try:
                    await stream.open(opening, self._upstream.setup_timeout_s)
                except GatewayError as error:
                    if error.code is ErrorCode.UPSTREAM_TIMEOUT:
                        lease.seal()
                    raise
                yield stream
            finally:
                stream.close()


class _Stream:
    """One RPC, as a `LiveStream`."""

    upstream: live.Upstream = "primary"

    def __init__(
        self,
        lease: Slot,
        metadata: Sequence[tuple[str, str]],
        profile: Profile,
        *,
        wait_for_ready: bool,
    ) -> None:
        method = lease.channel.stream_stream(
            METHOD,
            request_serializer=codec.ClientMessage.SerializeToString,
        )
        self._profile = profile
        self._probe = lease.probe
        self._call = method(metadata=metadata, wait_for_ready=wait_for_ready)
        self._status: asyncio.Future[grpc.aio.AioRpcError] = asyncio.get_running_loop().create_future()
        self._call.add_done_callback(partial(_keep_status, self._status))

    async def open(self, opening: Opening, timeout_s: float) -> None:
        """Send the set-up and wait until it is acknowledged; tell the history, if there is one."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._watched(self._call.wait_for_connection())
                await self._write(opening.setup)
                while not (await self._read()).HasField("setup_complete"):
                    pass
                if opening.history is not None:
                    await self._write(opening.history)
        except TimeoutError as error:
            raise GatewayError(ErrorCode.UPSTREAM_TIMEOUT) from error

    async def send(self, item: LiveInput) -> None:
        message = codec.input_message(item, self._profile)
        if message is not None:
            await self._write(message)

    async def ping(self) -> None:
        await self._probe.ask()

    async def __aiter__(self) -> AsyncIterator[LiveEvent]:
        while True:
            for event in codec.events(await self._read()):
                yield event

    def close(self) -> None:
        """End the RPC; nothing of it is left."""
        self._call.cancel()

    async def _read(self) -> Any:
        data = await self._watched(self._finished(self._call.read()))
        if data is grpc.aio.EOF:
            raise await self._failure()
        self._probe.heard()
        try:
            return codec.ServerMessage.FromString(data)
        except DecodeError as error:
            raise GatewayError(ErrorCode.UPSTREAM_INTERNAL) from error

    async def _write(self, message: Any) -> None:
        await self._watched(self._finished(self._call.write(message)))

    async def _watched(self, operation: Coroutine[Any, Any, T]) -> T:
        """Await an operation of the RPC, and raise what the RPC has ended with if that ends it."""
        try:
            return await operation
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
        raise await self._failure()

    async def _finished(self, operation: Coroutine[Any, Any, T]) -> T:
        """Await an operation of the RPC. When cancelled, cancel the RPC, which ends the operation.

        An operation that is cancelled itself never frees its message: 5 KiB a session (grpcio 1.85).
        """
        task = asyncio.ensure_future(operation)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(seen)  # nobody waits for it any more, and we may be cancelled once more
            if not task.done():
                self._call.cancel()
                await asyncio.wait([task])
            raise

    async def _failure(self) -> GatewayError:
        """Return what the RPC ended with; after a write that failed it may still be on its way."""
        try:
            async with asyncio.timeout(_STATUS_TIMEOUT_S):
                return _gateway_error(await asyncio.shield(self._status))
        except TimeoutError:
            return GatewayError(ErrorCode.UPSTREAM_LOST)


def describe(error: BaseException) -> str | None:
    """Return the status that an error is, for the operator; None for any other error."""
    return f"{error.code().name}: {error.details()}" if isinstance(error, grpc.aio.AioRpcError) else None


def _gateway_error(error: grpc.aio.AioRpcError) -> GatewayError:
    """Return what a status means to a client; the status itself is its cause."""
    code = ERROR_CODES[error.code()]
    if any(info.reason == "API_KEY_INVALID" for info in _status_details(error, error_details_pb2.ErrorInfo)):
        code = ErrorCode.UPSTREAM_UNAUTHORIZED  # Google says INVALID_ARGUMENT to a bad key
    if DISPOSITIONS[code].retryable:
        _log.info("The upstream ended a conversation: %s", error.code().name)
    else:
        _log.error("The upstream refused a conversation: %s: %s", error.code().name, error.details())
    if code is ErrorCode.UPSTREAM_QUOTA:
        found = GatewayError(code, retryAfterMs=_retry_after_ms(error))
    else:
        found = GatewayError(code)
    found.__cause__ = error
    return found


def _retry_after_ms(error: grpc.aio.AioRpcError) -> int:
    delays = [info.retry_delay for info in _status_details(error, error_details_pb2.RetryInfo)]
    wait_ms = max((delay.seconds * 1000 + delay.nanos // 1_000_000 for delay in delays), default=0)
    return min(wait_ms, QUOTA_RETRY_AT_MOST_MS) if wait_ms > 0 else QUOTA_RETRY_AFTER_MS


def _status_details(error: grpc.aio.AioRpcError, kind: Any) -> list[Any]:
    """Return the details of one kind in an error's google.rpc.Status (AIP-193); none if it is garbled."""
    found = []
    for key, value in error.trailing_metadata() or ():
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


def _is_cancelled() -> bool:
    """Whether the present task is cancelled; grpc.aio raises CancelledError for a CANCELLED status, too."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _keep_status(kept: asyncio.Future[grpc.aio.AioRpcError], call: Any) -> None:
    """Keep the status that an RPC ends with.

    grpc.aio puts a status of its own in its place when a write fails for that end, before it or after.
    """
    code, details = _at_once(call.code()), _at_once(call.details())
    if details != _WRITE_FAILED and not kept.done():
        metadata = _at_once(call.trailing_metadata())
        kept.set_result(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, details))


def _at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return cast(T, stop.value)
    raise RuntimeError("it waits")
