"""The client against a real server of gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from antiphon.rpc.channel import Channel
from antiphon.rpc.status import RpcError, Status


class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]
    def service(self, details: Any) -> Any:
        match details.method:
            case "/test.Echo/Echo":
                return grpc.stream_stream_rpc_method_handler(self.echo)
            case "/test.Echo/Fail":
                return grpc.stream_stream_rpc_method_handler(self.fail)
            case "/test.Echo/Flood":
                return grpc.stream_stream_rpc_method_handler(self.flood)
            case _:
                return None

    async def echo(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        await context.send_initial_metadata((("a", "b"),))
        async for request in requests:
            yield request

    async def fail(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request
            context.set_trailing_metadata((("x-bin", b"\0\1"), ("y", "z")))
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "zu viel: ä%")

    async def flood(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            for _ in range(int(request)):
                yield bytes(50_000)


@asynccontextmanager
async def server(**options: int) -> AsyncIterator[int]:
    serving = grpc.aio.server(options=list(options.items()))
    serving.add_generic_rpc_handlers((Echo(),))
    port = serving.add_insecure_port("127.0.0.1:0")
    await serving.start()
    try:
        yield port
    finally:
        await serving.stop(0)


@asynccontextmanager
async def channel(port: int, **options: Any) -> AsyncIterator[Channel]:
    made = Channel("127.0.0.1", port, **options)
    try:
        yield made
    finally:
        await made.aclose()


async def test_messages_come_back() -> None:
    async with server() as port, channel(port) as made, made.call("/test.Echo/Echo") as call:
        for size in (0, 1, 5000, 16_379, 16_380, 100_000, 1_000_000):
            call.write(bytes([size % 251]) * size)
            await call.drained()
            assert await call.read() == bytes([size % 251]) * size
        assert ("a", "b") in call.metadata
        call.close_write()
        with pytest.raises(RpcError) as ended:
            await call.read()
        assert ended.value.status is Status.OK


async def test_a_status_comes_with_its_details() -> None:
    async with server() as port, channel(port) as made, made.call("/test.Echo/Fail") as call:
        call.write(b"hi")
        assert await call.read() == b"hi"
        with pytest.raises(RpcError) as ended:
            await call.read()
        assert (ended.value.status, ended.value.details) == (Status.RESOURCE_EXHAUSTED, "zu viel: ä%")
        assert dict(ended.value.trailers)["x-bin"] == b"\0\1"


async def test_many_at_once() -> None:
    async def one(made: Channel, number: int) -> None:
        async with made.call("/test.Echo/Echo") as call:
            for at in range(50):
                message = bytes([number, at]) * (number * at)
                call.write(message)
                assert await call.read() == message

    async with server(**{"grpc.max_concurrent_streams": 10}) as port, channel(port) as made:
        async with asyncio.TaskGroup() as tasks:
            for number in range(35):
                tasks.create_task(one(made, number))
        assert made.size <= 4


async def test_a_slow_reader_bounds_the_server() -> None:
    async with server() as port, channel(port) as made, made.call("/test.Echo/Flood") as call:
        call.write(b"100")
        await asyncio.sleep(0.3)
        assert sum(len(message) for message, _ in call._unread) <= 256 * 1024
        for _ in range(100):
            assert len(await call.read()) == 50_000


@pytest.mark.parametrize("messages", [0, 500])
async def test_what_comes_is_dropped_and_how_it_ends_returned(messages: int) -> None:
    async with server() as port, channel(port) as made, made.call("/test.Echo/Flood") as call:
        call.write(str(messages).encode())
        call.close_write()
        async with asyncio.timeout(10):
            ended = await call.outcome()
        assert (ended.status, ended.__traceback__) == (Status.OK, None)
        assert not call._unread


async def test_unknown_method_and_nobody_there() -> None:
    async with server() as port, channel(port) as made:
        async with made.call("/test.Echo/Nothing") as call:
            with pytest.raises(RpcError) as ended:
                await call.read()
        assert ended.value.status is Status.UNIMPLEMENTED
    async with channel(port) as made:
        with pytest.raises(RpcError) as ended:
            async with made.call("/test.Echo/Echo"):
                pass
        assert ended.value.status is Status.UNAVAILABLE


async def test_deadline() -> None:
    async with server() as port, channel(port) as made, made.call("/test.Echo/Echo", timeout_s=0.1) as call:
        with pytest.raises(RpcError) as ended:
            await call.read()
        assert ended.value.status is Status.DEADLINE_EXCEEDED
