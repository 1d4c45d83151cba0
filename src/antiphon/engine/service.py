"""The service of `BidiGenerateContent`: admission, setup and resumption of calls, and their end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
from google.ai.generativelanguage_v1beta.types import generative_service
from google.rpc import error_details_pb2, status_pb2

from antiphon.engine import wire
from antiphon.engine.admission import RETRY_S, Admission
from antiphon.engine.memory import HandleInUse, HandleUnknown, Memory
from antiphon.engine.stream import CallEnded, Parts, Stream

SERVICE: Final = "google.ai.generativelanguage.v1beta.GenerativeService"
METHOD: Final = "BidiGenerateContent"

SETUP_TIMEOUT_S: Final = 10.0
RELEASE_TIMEOUT_S: Final = 1.0
"""How long a resumption waits for the old connection to be gone."""

BUSY_REASON: Final = "ENGINE_BUSY"
BUSY_DOMAIN: Final = "antiphon"
"""In the ErrorInfo of a refusal, for the gateway."""

Converse = Callable[[Any, Any], Awaitable[None]]
"""A handler of the RPC: takes the requests, which it ignores, and the servicer context."""


def unchanged(converse: Converse) -> Converse:
    """Return a handler as it is."""
    return converse


class Service:
    """The method of the RPC, for `max_conversations` at once; `around` may stand before each."""

    def __init__(
        self, parts: Parts, max_conversations: int, around: Callable[[Converse], Converse] = unchanged
    ) -> None:
        self._parts = parts
        self._around = around
        self._admission = Admission(max_conversations)
        self._streams: set[Stream] = set()
        self._released = asyncio.Event()
        self._draining = False

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a gRPC server serves. Requests stay bytes, so that a bad one has its own status."""
        method = grpc.stream_stream_rpc_method_handler(
            self._around(self._converse),
            request_deserializer=None,
            response_serializer=generative_service.BidiGenerateContentServerMessage.pb().SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE, {METHOD: method})

    def drain(self, time_left_s: float) -> None:
        """Announce the end to the calls that are open, and set up no others."""
        self._draining = True
        for stream in tuple(self._streams):
            stream.drain(time_left_s)

    async def _converse(self, _requests: Any, context: Any) -> None:
        ended = await self._serve(context)
        if ended.status not in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED):
            await context.abort(ended.status, ended.sentence, _trailers(ended))

    async def _serve(self, context: Any) -> CallEnded:
        if why := self._admission.call():
            return CallEnded(grpc.StatusCode.RESOURCE_EXHAUSTED, why, busy=True)
        owner = object()
        try:
            setup = await self._setup(context)
            memory = await self._restore(setup.handle, owner)
            if why := self._admission.admit(self._parts.delay_s(), renewal=bool(setup.handle)):
                return CallEnded(grpc.StatusCode.RESOURCE_EXHAUSTED, why, busy=True)
            try:
                return await self._run(Stream(context, setup, memory, owner, self._parts))
            finally:
                self._admission.leave()
        except CallEnded as ended:
            return ended
        finally:
            self._admission.hang_up()
            self._parts.handles.release(owner)
            self._released.set()
            self._released = asyncio.Event()

    async def _setup(self, context: Any) -> wire.Setup:
        try:
            async with asyncio.timeout(SETUP_TIMEOUT_S):
                setup = _setup_in(await context.read())
        except TimeoutError:
            raise CallEnded(grpc.StatusCode.DEADLINE_EXCEEDED, "No setup came in time.") from None
        except wire.Invalid as invalid:
            raise CallEnded(grpc.StatusCode.INVALID_ARGUMENT, str(invalid)) from None
        if self._draining:
            raise CallEnded(grpc.StatusCode.UNAVAILABLE, "The server is stopping.")
        return setup

    async def _run(self, stream: Stream) -> CallEnded:
        self._streams.add(stream)
        try:
            return await stream.run()
        finally:
            self._streams.discard(stream)

    async def _restore(self, handle: str, owner: object) -> Memory:
        """Return the memory behind a handle, giving its old connection a moment to be gone."""
        if not handle:
            return Memory()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                while True:
                    try:
                        return self._parts.handles.resume(handle, owner, loop.time())
                    except HandleInUse:
                        await self._released.wait()
        except TimeoutError:
            sentence = "The conversation of this handle is still connected; end that connection first."
            raise CallEnded(grpc.StatusCode.FAILED_PRECONDITION, sentence) from None
        except HandleUnknown:
            sentence = "No conversation can be resumed with this handle; it may have expired."
            raise CallEnded(grpc.StatusCode.NOT_FOUND, sentence) from None


def _setup_in(data: Any) -> wire.Setup:
    first = wire.parse(data) if data is not grpc.aio.EOF else []
    match first:
        case [wire.Setup() as setup]:
            return setup
        case _:
            raise wire.Invalid("The first message must be a setup.")


def _trailers(ended: CallEnded) -> tuple[tuple[str, bytes], ...]:
    """Return what tells a client that is refused for the load from one whose quota is used up (AIP-193)."""
    if not ended.busy:
        return ()
    status = status_pb2.Status(code=ended.status.value[0], message=ended.sentence)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=BUSY_REASON, domain=BUSY_DOMAIN))
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(round(RETRY_S * 1000))
    status.details.add().Pack(retry)
    return (("grpc-status-details-bin", status.SerializeToString()),)
