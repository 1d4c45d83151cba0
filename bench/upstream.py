"""A model's server for a benchmark: one coroutine, over real gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from antiphon.gemini.client import METHOD
from antiphon.gemini.codec import ClientMessage, ServerMessage


@asynccontextmanager
async def serving(converse: Callable[[AsyncIterator[Any], Any], Awaitable[None]]) -> AsyncIterator[str]:
    """Serve conversations with `converse(requests, context)`; yields the address."""
    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(
        converse,
        request_deserializer=ClientMessage.FromString,
        response_serializer=ServerMessage.SerializeToString,
    )
    service, _, method = METHOD.strip("/").partition("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
