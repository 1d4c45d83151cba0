"""The service of `BidiGenerateContent`: admission, setup and resumption of calls, and their end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
from google.ai.generativelanguage_v1beta.types import generative_service

from antiphon.engine import wire
from antiphon.engine.memory import HandleInUse, HandleUnknown, Memory
from antiphon.engine.stream import CallEnded, Parts, Stream

SERVICE: Final = "google.ai.generativelanguage.v1beta.GenerativeService"
METHOD: Final = "BidiGenerateContent"

SETUP_TIMEOUT_S: Final = 10.0
RELEASE_TIMEOUT_S: Final = 1.0
"""How long a resumption waits for the old connection to be gone."""

Converse = Callable[[Any, Any], Awaitable[None]]
"""A handler of the RPC: takes the requests, which it ignores, and the servicer context."""


def unchanged(converse: Converse) -> Converse:
    """Return a handler as it is."""
    return converse


class Service:
    """The method of the RPC, for at most `max_conversations` at once; `around` may stand before each."""

    def __init__(
        self, parts: Parts, max_conversations: int, around: Callable[[Converse], Converse] = unchanged
    ) -> None:
        self._parts = parts
        self._around = around
        self._max_conversations = max_conversations
        self._calls = 0
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
        self._calls += 1
        try:
            ended = await self._serve(context)
        finally:
            self._calls -= 1
        if ended.status not in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED):
            await context.abort(ended.status, ended.sentence)

    async def _serve(self, context: Any) -> CallEnded:
        if self._calls > self._max_conversations:
            sentence = f"All {self._max_conversations} conversations are taken; try again later."
            return CallEnded(grpc.StatusCode.RESOURCE_EXHAUSTED, sentence)
        try:
            async with asyncio.timeout(SETUP_TIMEOUT_S):
                setup = _setup_in(await context.read())
        except TimeoutError:
            return CallEnded(grpc.StatusCode.DEADLINE_EXCEEDED, "No setup came in time.")
        except wire.Invalid as invalid:
            return CallEnded(grpc.StatusCode.INVALID_ARGUMENT, str(invalid))
        if self._draining:
            return CallEnded(grpc.StatusCode.UNAVAILABLE, "The server is stopping.")
        owner = object()
        try:
            memory = await self._restore(setup.handle, owner)
            stream = Stream(context, setup, memory, owner, self._parts)
            self._streams.add(stream)
            try:
                return await stream.run()
            finally:
                self._streams.discard(stream)
        except CallEnded as ended:
            return ended
        finally:
            self._parts.handles.release(owner)
            self._released.set()
            self._released = asyncio.Event()

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
