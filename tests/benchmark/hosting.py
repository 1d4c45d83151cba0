"""An upstream of the benchmark on a port of this loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from bench.grpc_upstream import GrpcUpstream
from bench.websocket_upstream import WebSocketUpstream


@asynccontextmanager
async def hosted(make: Callable[[], GrpcUpstream | WebSocketUpstream]) -> AsyncIterator[int]:
    """Serve connections that `make` makes; yields the port. They are closed at the end."""
    made: list[GrpcUpstream | WebSocketUpstream] = []

    def connected() -> GrpcUpstream | WebSocketUpstream:
        made.append(make())
        return made[-1]

    server = await asyncio.get_running_loop().create_server(connected, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for each in made:
            each.close()
        async with asyncio.timeout(10):
            while any(each.is_open for each in made):
                await asyncio.sleep(0.01)
