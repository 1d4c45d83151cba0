"""Whatever a server ends a call with arrives, whenever it does."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from antiphon.gemini.upstream import ClientName
from antiphon.rpc import Status
from rpc.conformance.conftest import Serve
from rpc.conformance.using import WITHIN_S, Call, calling, connected, end_of, outcome

DETAILS = {
    "nothing": "",
    "plain": "The model is not here.",
    "UTF-8": "zu viel: ä€𝄞 — 太多",
    "what looks encoded": "100 % of 5%25, %zz, %",
    "control characters": "one\ntwo\r\n\ttab\x7f\0",
    "long": "long " * 400,
}


def rich(size: int = 10) -> bytes:
    """Return what Google puts in grpc-status-details-bin."""
    detail = AnyMessage()
    detail.Pack(error_details_pb2.ErrorInfo(reason="API_KEY_INVALID", domain="x" * size))
    packed: bytes = status_pb2.Status(code=3, message="ä", details=[detail]).SerializeToString()
    return packed


def told(after: int, status: Status, details: str = "", binary: bytes = b"") -> str:
    return f"end {after} {status.value} {details.encode().hex()} {binary.hex()}".strip()


async def talked(call: Call, messages: int) -> None:
    """Have so many messages sent back, and read on."""
    await call.connected()
    for number in range(messages):
        await call.write(bytes([number]))
        assert await call.read() == bytes([number])
    await call.read()


@pytest.mark.parametrize("after", [0, 2], ids=["at once", "after messages"])
@pytest.mark.parametrize("status", list(Status), ids=lambda status: status.name)
async def test_every_status(client: ClientName, serve: Serve, status: Status, after: int) -> None:
    """At once means that no headers come before the trailers, as nothing was answered."""
    details = "" if status is Status.OK else f"it is {status.name}"
    async with (
        serve() as server,
        calling(client, server.target, told(after, status, details, rich())) as calls,
        calls.call() as call,
    ):
        ended = await outcome(talked(call, after))
        assert ended.status is status
        assert ended.details == details or status is Status.OK  # of which grpc-js says "OK"
        assert dict(ended.trailers)["x-why"] == "told so"
        assert dict(ended.trailers)["grpc-status-details-bin"] == rich()
        assert (await outcome(call.read())).status is status, "it stays so"
        assert (await outcome(call.write(b"more"))).status is status


@pytest.mark.parametrize("details", DETAILS.values(), ids=DETAILS)
async def test_details_of_every_kind(client: ClientName, serve: Serve, details: str) -> None:
    words = told(1, Status.FAILED_PRECONDITION, details)
    async with serve() as server, calling(client, server.target, words) as calls, connected(calls) as call:
        await call.write(b"x")
        ended = await end_of(call)
        assert (ended.status, ended.details) == (Status.FAILED_PRECONDITION, details)


@pytest.mark.parametrize("size", [1, 2, 3, 3000])
async def test_binary_details_of_every_length(client: ClientName, serve: Serve, size: int) -> None:
    """The padding of base64 may be there or not."""
    words = told(1, Status.INVALID_ARGUMENT, "", rich(size))
    async with serve() as server, calling(client, server.target) as calls, connected(calls) as call:
        await call.write(words.encode())
        await call.write(b"x")
        assert dict((await end_of(call)).trailers)["grpc-status-details-bin"] == rich(size)


async def test_what_came_before_the_status_is_read_first(client: ClientName, serve: Serve) -> None:
    words = told(20, Status.ABORTED, "enough")
    async with serve() as server, calling(client, server.target, words) as calls, connected(calls) as call:
        for number in range(20):
            await call.write(bytes([number]) * 3000)
        async with asyncio.timeout(WITHIN_S):
            for number in range(20):
                assert await call.read() == bytes([number]) * 3000
        assert (await outcome(call.read())).details == "enough"


async def test_in_the_midst_of_writing(client: ClientName, serve: Serve) -> None:
    """Who writes more than the server reads is told what it ended the call with, not that writing failed.

    grpcio may not have kept it: its write fails, with a status of its own that replaces the server's.
    """
    expected = {(Status.RESOURCE_EXHAUSTED, "quota")}
    if client == "grpcio":
        expected.add((Status.UNAVAILABLE, "The call failed and did not say with what."))

    async def write_on() -> None:
        while True:
            await call.write(bytes(50_000))

    words = told(3, Status.RESOURCE_EXHAUSTED, "quota")
    async with serve() as server, calling(client, server.target, words) as calls, connected(calls) as call:
        ended = await outcome(write_on())
        assert (ended.status, ended.details) in expected
        ended = await end_of(call)
        assert (ended.status, ended.details) in expected


async def test_a_status_for_each_of_many_calls_on_one_connection(client: ClientName, serve: Serve) -> None:
    async def one(status: Status) -> None:
        async with connected(calls) as call:
            await call.write(told(1, status, f"it is {status.name}").encode())
            await call.write(b"x")
            assert (await end_of(call)).status is status

    async with serve() as server, calling(client, server.target) as calls:
        async with asyncio.TaskGroup() as tasks:
            for status in [*Status, *Status, *Status]:
                tasks.create_task(one(status))
        assert calls.connections == 1
