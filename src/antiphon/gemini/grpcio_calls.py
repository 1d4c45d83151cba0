"""Calls by grpcio (`grpc.aio`). No other module of the gateway knows it.

It gives a channel one connection, and lets a call that a connection has no room for wait in silence. So
channels are pooled here, each with a bounded number of calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeVar, cast

import grpc
import grpc.aio

from antiphon.gemini.calls import HEALTH_METHOD, METHOD
from antiphon.gemini.probe import Probe
from antiphon.gemini.upstream import MAX_MESSAGE_BYTES, Upstream, google_credentials
from antiphon.live import Answered
from antiphon.rpc import RpcError, Status

_CHANNEL_OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),  # else every channel shares one connection
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # which is how long one attempt may take, not the wait after it
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.primary_user_agent", "antiphon"),
)
_STATUS_TIMEOUT_S: Final = 1.0
_WRITE_FAILED: Final = "Internal error from Core"
"""What grpc.aio says of a write that failed, whatever became of the RPC."""

T = TypeVar("T")


class GrpcioCalls:
    """See `calls.Calls`. A channel on which a set-up timed out gets no more calls until it is empty, since
    the server may allow fewer than assumed. Channels other than the first are closed with their last call.
    """

    def __init__(self, upstream: Upstream) -> None:
        self.ready = False
        self.reached = asyncio.Event()
        self._make = _channel_maker(upstream)
        self._calls_a_channel = upstream.streams_a_channel
        self._wait_for_ready = upstream.wait_for_ready
        self._metadata = upstream.metadata
        self._slots = [_Slot(self._make())]

    @property
    def connections(self) -> int:
        return len(self._slots)

    async def watch(self) -> None:
        channel = self._slots[0].channel
        while True:
            state = channel.get_state(try_to_connect=True)
            self.ready = state is grpc.ChannelConnectivity.READY
            if self.ready:
                self.reached.set()
            await channel.wait_for_state_change(state)

    async def aclose(self) -> None:
        for slot in self._slots:
            await slot.aclose()

    @asynccontextmanager
    async def call(self) -> AsyncIterator[_Call]:
        async with self._lease() as slot:
            call = _Call(slot, self._metadata, wait_for_ready=self._wait_for_ready)
            try:
                yield call
            finally:
                call.cancel()

    @asynccontextmanager
    async def _lease(self) -> AsyncIterator[_Slot]:
        """Hold room for one call."""
        limit = self._calls_a_channel
        slot = next((slot for slot in self._slots if slot.calls < limit and not slot.sealed), None)
        if slot is None:
            slot = _Slot(self._make())
            self._slots.append(slot)
        slot.calls += 1
        try:
            yield slot
        finally:
            slot.calls -= 1
            if not slot.calls:
                slot.unseal()
                if slot is not self._slots[0]:
                    self._slots.remove(slot)
                    await slot.aclose()


class _Slot:
    """A channel and the calls on it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.probe = Probe(partial(_check, channel.unary_unary(HEALTH_METHOD)))
        self.calls = 0
        self.sealed = False

    def seal(self) -> None:
        """Give the channel no more calls until it is empty."""
        self.sealed = True
        self.probe.distrust()

    def unseal(self) -> None:
        """Give it calls again: it is empty."""
        self.sealed = False
        self.probe.trust()

    async def aclose(self) -> None:
        await self.probe.aclose()
        await self.channel.close()


class _Call:
    """See `calls.Call`."""

    def __init__(self, slot: _Slot, metadata: tuple[tuple[str, str], ...], *, wait_for_ready: bool) -> None:
        self._slot = slot
        self._call = slot.channel.stream_stream(METHOD)(metadata=metadata, wait_for_ready=wait_for_ready)
        self._unwritten: bytes | None = None
        self._status: asyncio.Future[RpcError] = asyncio.get_running_loop().create_future()
        self._call.add_done_callback(partial(_keep_status, self._status))

    async def connected(self) -> None:
        await self._watched(self._call.wait_for_connection())

    def write(self, message: bytes) -> bool:
        self._unwritten = message  # grpc.aio writes within a coroutine only
        return False

    async def drain(self) -> None:
        message, self._unwritten = self._unwritten, None
        if message is not None:
            await self._watched(self._finished(self._call.write(message)))

    async def read(self) -> bytes:
        message = await self._watched(self._finished(self._call.read()))
        if message is grpc.aio.EOF:
            raise await self._failure()
        self._slot.probe.heard += 1
        return cast(bytes, message)

    async def listen(self, take: Callable[[bytes], bool], room: Callable[[], Awaitable[None]]) -> None:
        while True:
            if not take(await self.read()):
                await room()

    def ask(self, answered: Answered) -> None:
        self._slot.probe.ask(answered)

    def distrust(self) -> None:
        self._slot.seal()

    def cancel(self) -> None:
        """End the call, if it has not ended."""
        self._call.cancel()

    async def _watched(self, operation: Coroutine[Any, Any, T]) -> T:
        """Await an operation of the call, and raise what the call has ended with if that ends it."""
        try:
            return await operation
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
        raise await self._failure()

    async def _finished(self, operation: Coroutine[Any, Any, T]) -> T:
        """Await an operation of the call. When cancelled, cancel the call, which ends the operation.

        An operation that is cancelled itself never frees its message: 5 KiB a session (grpcio 1.85).
        """
        task = asyncio.ensure_future(operation)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_seen)  # nobody waits for it any more, and we may be cancelled once more
            if not task.done():
                self._call.cancel()
                await asyncio.wait([task])
            raise

    async def _failure(self) -> RpcError:
        """Return what the call ended with; after a write that failed it may still be on its way."""
        try:
            async with asyncio.timeout(_STATUS_TIMEOUT_S):
                return await asyncio.shield(self._status)
        except TimeoutError:
            return RpcError(Status.UNAVAILABLE, "The call failed and did not say with what.")


def _seen(task: asyncio.Task[Any]) -> None:
    """Take note of how it ended: whoever asked may no longer be there."""
    if not task.cancelled():
        task.exception()


async def _check(method: Callable[..., Any], timeout_s: float) -> None:
    try:
        await method(b"", timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        raise _rpc_error(error.code(), error.details(), error.trailing_metadata()) from error


def _rpc_error(code: grpc.StatusCode, details: str | None, trailers: Any) -> RpcError:
    return RpcError(
        Status(code.value[0]), details or "", tuple((key, value) for key, value in trailers or ())
    )


def _is_cancelled() -> bool:
    """Whether the present task is cancelled; grpc.aio raises CancelledError for a CANCELLED status, too."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _keep_status(kept: asyncio.Future[RpcError], call: Any) -> None:
    """Keep the status that a call ends with.

    grpc.aio puts a status of its own in its place when a write fails for that end, before it or after.
    """
    code, details = _at_once(call.code()), _at_once(call.details())
    if details != _WRITE_FAILED and not kept.done():
        kept.set_result(_rpc_error(code, details, _at_once(call.trailing_metadata())))


def _at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return cast(T, stop.value)
    raise RuntimeError("it waits")


def _channel_maker(upstream: Upstream) -> Callable[[], grpc.aio.Channel]:
    """Return what makes connections to an upstream."""
    options = list(_CHANNEL_OPTIONS)
    if not upstream.tls:
        return lambda: grpc.aio.insecure_channel(upstream.target, options=options)
    credentials = grpc.ssl_channel_credentials()
    if upstream.adc and not upstream.api_key:
        credentials = grpc.composite_channel_credentials(credentials, _call_credentials())
    return lambda: grpc.aio.secure_channel(upstream.target, credentials, options=options)


def _call_credentials() -> grpc.CallCredentials:
    """Return Google's application default credentials, as gRPC takes them."""
    import google.auth.transport.grpc
    import google.auth.transport.requests

    request = google.auth.transport.requests.Request()
    # google-auth leaves this constructor without annotations.
    plugin = google.auth.transport.grpc.AuthMetadataPlugin(google_credentials(), request)  # type: ignore[no-untyped-call]
    return grpc.metadata_call_credentials(plugin)
