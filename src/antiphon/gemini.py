"""Gemini Live over gRPC: `BidiGenerateContent`, for Google, the embedded engine and anything like them.

No other module knows which gRPC client this is.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from msgspec import Struct

from antiphon import gemini_codec as codec
from antiphon.errors import DISPOSITIONS, ErrorCode, GatewayError
from antiphon.gemini_codec import Voice
from antiphon.live import LiveEvent, LiveInput, LiveStream, Setup

METHOD: Final = "/google.ai.generativelanguage.v1beta.GenerativeService/BidiGenerateContent"
GOOGLE: Final = "generativelanguage.googleapis.com:443"
STREAMS_A_CHANNEL: Final = 80
"""Servers commonly allow 100 streams a connection, and the 101st hangs in silence."""

_STATUS_TIMEOUT_S: Final = 1.0
_WRITE_FAILED: Final = "Internal error from Core"
"""What grpc.aio says of a write that failed, whatever became of the RPC."""

QUOTA_RETRY_AFTER_MS: Final = 30_000
"""What a client is told to wait when the service does not say how long."""
QUOTA_RETRY_AT_MOST_MS: Final = 24 * 3600 * 1000

T = TypeVar("T")

_log = logging.getLogger(__name__)

_CHANNEL_OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),  # else every channel shares one connection
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.primary_user_agent", "antiphon"),
)

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

_RETRIED: Final = frozenset(
    {ErrorCode.UPSTREAM_LOST, ErrorCode.UPSTREAM_TIMEOUT, ErrorCode.UPSTREAM_INTERNAL}
)


class Upstream(Struct, frozen=True):
    """Where the model is and how it is asked.

    `api_key` goes along to whatever `target` is set. Without one, Google's own application default
    credentials are used where `adc` says so. `tls` is off for loopback and private addresses only.
    """

    target: str = GOOGLE
    tls: bool = True
    api_key: str | None = None
    adc: bool = False
    voice: Voice = Voice("gemini-3.8-live")
    setup_timeout_s: float = 5.0
    tries: int = 3
    backoff_s: float = 0.25
    wait_for_ready: bool = False
    """Whether set-up waits for a server that is not there yet, as one that is being started again."""
    streams_a_channel: int = STREAMS_A_CHANNEL

    def __repr__(self) -> str:
        return f"Upstream(target={self.target!r}, tls={self.tls})"


class Gemini:
    """A client of one upstream; `connect` is a `live.Connect`."""

    def __init__(self, upstream: Upstream) -> None:
        self.ready = False
        self.reached = asyncio.Event()
        self._upstream = upstream
        self._pool = ChannelPool(_channel_maker(upstream), upstream.streams_a_channel)
        self._metadata: tuple[tuple[str, str], ...] = ()
        if upstream.api_key:
            self._metadata = (("x-goog-api-key", upstream.api_key),)

    @property
    def connections(self) -> int:
        """How many connections to the upstream are held."""
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
        """Close every connection."""
        await self._pool.aclose()

    @asynccontextmanager
    async def connect(self, setup: Setup) -> AsyncIterator[LiveStream]:
        """Open a conversation; entering returns when the model is ready.

        A connection that fails during set-up is tried again, with backoff and jitter.

        Raises:
            GatewayError: UPSTREAM_UNAVAILABLE after the last try, or at once what a status means
                that another try would not mend.
        """
        message = codec.setup_message(setup, self._upstream.voice)
        for tries_left in reversed(range(self._upstream.tries)):
            async with self._pool.lease() as lease:
                stream = _Stream(lease.channel, self._metadata, wait_for_ready=self._upstream.wait_for_ready)
                try:
                    try:
                        await stream.open(message, self._upstream.setup_timeout_s)
                    except GatewayError as error:
                        if error.code is ErrorCode.UPSTREAM_TIMEOUT:
                            lease.seal()
                        if error.code not in _RETRIED:
                            raise
                        if not tries_left:
                            raise GatewayError(ErrorCode.UPSTREAM_UNAVAILABLE) from error
                    else:
                        yield stream
                        return
                finally:
                    stream.close()
            tried = self._upstream.tries - tries_left
            await asyncio.sleep(self._upstream.backoff_s * 2**tried * random.uniform(0.5, 1.0))  # noqa: S311


class _Stream:
    """One RPC, as a `LiveStream`."""

    def __init__(
        self, channel: grpc.aio.Channel, metadata: Sequence[tuple[str, str]], *, wait_for_ready: bool
    ) -> None:
        method = channel.stream_stream(
            METHOD,
            request_serializer=codec.ClientMessage.SerializeToString,
        )
        self._call = method(metadata=metadata, wait_for_ready=wait_for_ready)
        self._status: asyncio.Future[grpc.aio.AioRpcError] = asyncio.get_running_loop().create_future()
        self._call.add_done_callback(partial(_keep_status, self._status))

    async def open(self, setup: Any, timeout_s: float) -> None:
        """Send the set-up and wait until it is acknowledged."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._watched(self._call.wait_for_connection())
                await self._write(setup)
                while not (await self._read()).HasField("setup_complete"):
                    pass
        except TimeoutError as error:
            raise GatewayError(ErrorCode.UPSTREAM_TIMEOUT) from error

    async def send(self, item: LiveInput) -> None:
        await self._write(codec.input_message(item))

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
            if not task.done():
                self._call.cancel()
                await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # seen, for the event loop's sake: nobody waits for it any more
            raise

    async def _failure(self) -> GatewayError:
        """Return what the RPC ended with; after a write that failed it may still be on its way."""
        try:
            async with asyncio.timeout(_STATUS_TIMEOUT_S):
                return _gateway_error(await asyncio.shield(self._status))
        except TimeoutError:
            return GatewayError(ErrorCode.UPSTREAM_LOST)


class ChannelPool:
    """Connections to one server, with a bounded number of streams on each; grows on demand.

    A channel on which a set-up timed out gets no more streams, since the server may allow fewer than
    assumed. Channels other than the first are closed when their last stream ends.
    """

    def __init__(self, make: Callable[[], grpc.aio.Channel], streams_a_channel: int) -> None:
        self._make = make
        self._streams_a_channel = streams_a_channel
        self._slots = [_Slot(make())]

    @property
    def first(self) -> grpc.aio.Channel:
        return self._slots[0].channel

    @property
    def size(self) -> int:
        """How many connections are held."""
        return len(self._slots)

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[_Slot]:
        """Hold room for one stream."""
        limit = self._streams_a_channel
        slot = next((slot for slot in self._slots if slot.streams < limit and not slot.sealed), None)
        if slot is None:
            slot = _Slot(self._make())
            self._slots.append(slot)
        slot.streams += 1
        try:
            yield slot
        finally:
            slot.streams -= 1
            if not slot.streams:
                slot.sealed = False
                if slot is not self._slots[0]:
                    self._slots.remove(slot)
                    await slot.channel.close()

    async def aclose(self) -> None:
        for slot in self._slots:
            await slot.channel.close()


class _Slot:
    """A channel and the streams on it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.streams = 0
        self.sealed = False

    def seal(self) -> None:
        """Give the channel no more streams until it is empty."""
        self.sealed = True


def explain(error: GatewayError) -> str:
    """Return what an operator should know and a client should not: the status behind an error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, grpc.aio.AioRpcError):
            return f"{cause.code().name}: {cause.details()}"
        cause = cause.__cause__
    return error.message


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


def is_private(host: str) -> bool:
    """Whether plaintext may be spoken to a host: loopback and private addresses, and `localhost`."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return address.is_loopback or address.is_private


def _channel_maker(upstream: Upstream) -> Callable[[], grpc.aio.Channel]:
    options = list(_CHANNEL_OPTIONS)
    if not upstream.tls:
        return lambda: grpc.aio.insecure_channel(upstream.target, options=options)
    credentials = grpc.ssl_channel_credentials()
    if upstream.adc and not upstream.api_key:
        credentials = grpc.composite_channel_credentials(credentials, _default_credentials())
    return lambda: grpc.aio.secure_channel(upstream.target, credentials, options=options)


def _default_credentials() -> grpc.CallCredentials:
    """Return Google's application default credentials.

    Raises:
        GatewayError: UPSTREAM_UNAUTHORIZED, when the machine has none.
    """
    import google.auth
    import google.auth.exceptions
    import google.auth.transport.grpc
    import google.auth.transport.requests

    scopes = ["https://www.googleapis.com/auth/generative-language"]
    try:
        credentials, _ = google.auth.default(scopes=scopes)
    except google.auth.exceptions.DefaultCredentialsError as error:
        raise GatewayError(
            ErrorCode.UPSTREAM_UNAUTHORIZED,
            "Neither GEMINI_API_KEY is set nor does this machine have Google's application default login.",
        ) from error
    request = google.auth.transport.requests.Request()
    # google-auth leaves this constructor without annotations.
    plugin = google.auth.transport.grpc.AuthMetadataPlugin(credentials, request)  # type: ignore[no-untyped-call]
    return grpc.metadata_call_credentials(plugin)
