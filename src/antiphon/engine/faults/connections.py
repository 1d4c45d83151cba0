"""The faults of a running engine: stands between gRPC and the service, and does what an `Injector` wants.

To the service a `Connection` is gRPC's servicer context; what it reads and writes goes through the injector.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol, assert_never

import grpc
from google.rpc import error_details_pb2, status_pb2

from antiphon.engine.faults import summary
from antiphon.engine.faults.actions import Finish, Inject, Report
from antiphon.engine.faults.armory import report
from antiphon.engine.faults.injector import Injector
from antiphon.engine.faults.kinds import MaxStreams
from antiphon.engine.faults.plan import Plan
from antiphon.engine.faults.script import Script
from antiphon.engine.service import Converse

MAX_HELD_BYTES: Final = 16 * 1024 * 1024
"""Of messages that are late; beyond, the engine waits as for a client that does not read."""
LAST_WRITE_S: Final = 2.0
"""What was being sent before the end may take so long to leave."""


class Context(Protocol):
    """The part of gRPC's servicer context that is used."""

    async def read(self) -> Any: ...

    async def write(self, message: Any) -> None: ...

    async def abort(self, code: Any, details: str, trailing_metadata: Any) -> None: ...

    def set_trailing_metadata(self, trailing_metadata: Any) -> None: ...


class Faults:
    """The faults of one engine, over all its connections; `tell` is given a line for each that strikes."""

    def __init__(self, script: Script, tell: Callable[[str], object]) -> None:
        self._script = script
        self._plan = Plan(script)
        self._tell = tell
        self._serving = 0
        self._freed = asyncio.Event()

    def summary(self) -> list[str]:
        """Return what will happen, in lines."""
        return list(summary.lines(self._script))

    def around(self, converse: Converse) -> Converse:
        """Return a handler of the RPC that serves as `converse` does, with faults."""

        async def faulty(_requests: Any, context: Context) -> None:
            finish = await self._serve(converse, context)
            if finish and finish.status != "OK":
                code = grpc.StatusCode[finish.status]
                await context.abort(code, finish.details, _trailers(code, finish))

        return faulty

    async def _serve(self, converse: Converse, context: Context) -> Finish | None:
        """Serve a connection; return how it is to end, None where the client has left."""
        number = self._plan.connect()
        if refusal := await self._admit(number):
            return refusal
        loop = asyncio.get_running_loop()
        self._serving += 1
        try:
            injector = Injector(number, self._plan, loop.time())
            return await Connection(context, injector, self._tell).run(converse)
        finally:
            self._serving -= 1
            self._plan.book.closed(number, loop.time())
            self._freed.set()
            self._freed = asyncio.Event()

    async def _admit(self, connection: int) -> Finish | None:
        """Let a connection wait for its place, or return how it is refused one."""
        for number, fault in self._plan.faults_for(connection):
            if not isinstance(fault, MaxStreams) or self._serving < fault.streams:
                continue
            if not self._plan.strikes(number, connection, 1):
                continue
            self._tell(report(number, fault, connection, 0.0).line)
            if fault.excess == "refuse":
                return Finish(fault.status, fault.details, fault.retry_s)
            while self._serving >= fault.streams:
                await self._freed.wait()
        return None


class _Over(Exception):  # noqa: N818 (it ends the tasks of a connection, whatever its end)
    pass


class Connection:
    """One connection. `read`, `write` and `abort` are the service's."""

    def __init__(self, context: Context, injector: Injector, tell: Callable[[str], object]) -> None:
        self._context = context
        self._injector = injector
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._received: deque[Any] = deque()
        self._writing = False
        self._aborted = ("OK", "")
        self._over: asyncio.Future[Finish | None] = self._loop.create_future()
        self._moved = asyncio.Event()

    async def run(self, converse: Converse) -> Finish | None:
        """Serve; return how it is to end, None where the client has left."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read())
                tasks.create_task(self._write())
                tasks.create_task(self._act())
                tasks.create_task(self._converse(converse))
                await self._until_over()
        except* _Over:
            pass
        return self._over.result()

    async def _until_over(self) -> None:
        await self._over
        raise _Over  # which cancels the group's other tasks

    # ---- the service's side

    async def read(self) -> Any:
        """Return the next message of the client's, as gRPC does."""
        while not self._received:
            await self._move()
        data = self._received.popleft()
        self._has_moved()
        return data

    async def write(self, message: Any) -> None:
        """Send a message, as gRPC does: return when the client could take it."""
        self._injector.send(message, self._loop.time())
        self._has_moved()
        while self._is_behind():
            await self._move()

    async def abort(self, code: grpc.StatusCode, details: str, trailing_metadata: Any = ()) -> None:
        """Note how the service ends."""
        self._aborted = (code.name, details)
        if trailing_metadata:
            self._context.set_trailing_metadata(trailing_metadata)

    async def _converse(self, converse: Converse) -> None:
        await converse(None, self)
        self._injector.ended(*self._aborted, self._loop.time())
        self._has_moved()

    def _is_behind(self) -> bool:
        late = self._injector.sends_at <= self._loop.time()
        return self._writing or late or self._injector.held_bytes > MAX_HELD_BYTES

    # ---- the client's side

    async def _read(self) -> None:
        data = None
        while data is not grpc.aio.EOF:
            # One that the service has not taken yet, and no more: who sends is to feel it.
            while self._received:
                await self._move()
            while (reads_at := self._injector.reads_at) > self._loop.time():
                await self._move(reads_at)
            data = await self._context.read()
            if data is grpc.aio.EOF or self._injector.receive(data, self._loop.time()):
                self._received.append(data)
            self._has_moved()

    async def _write(self) -> None:
        while True:
            message = self._injector.next_message(self._loop.time())
            self._writing = message is not None
            self._has_moved()
            if message is None:
                await self._move(self._injector.sends_at)
                continue
            try:
                await self._context.write(message)
            except grpc.aio.BaseError:
                self._end(None)
                return

    async def _act(self) -> None:
        while True:
            sends_at = self._injector.sends_at
            action = self._injector.next_action(self._loop.time())
            if self._injector.sends_at < sends_at:
                self._has_moved()
            match action:
                case None:
                    await self._move(self._injector.acts_at)
                case Report(line=line):
                    self._tell(line)
                case Inject(data=data):
                    self._received.append(data)
                    self._has_moved()
                case Finish() as finish:
                    await self._finish_writing()
                    self._end(finish)
                    return
                case _:
                    assert_never(action)

    async def _finish_writing(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WRITE_S):
                while self._writing:
                    await self._move()

    def _end(self, finish: Finish | None) -> None:
        if not self._over.done():
            self._over.set_result(finish)

    # ---- waiting

    def _has_moved(self) -> None:
        """Let everyone look again who waits."""
        self._moved.set()
        self._moved = asyncio.Event()

    async def _move(self, until: float = float("inf")) -> None:
        """Wait for something to have happened, until a time of the loop's."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until if until < float("inf") else None):
                await self._moved.wait()


def _trailers(code: grpc.StatusCode, finish: Finish) -> tuple[tuple[str, bytes], ...]:
    """Return the trailing metadata of an end: a google.rpc.Status where it has a RetryInfo."""
    if finish.retry_s is None:
        return ()
    status = status_pb2.Status(code=code.value[0], message=finish.details)
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(round(finish.retry_s * 1000))
    status.details.add().Pack(retry)
    return (("grpc-status-details-bin", status.SerializeToString()),)
