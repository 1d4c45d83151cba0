"""The tools of a client: functions of the application that the model may call."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from antiphon.extension import ToolCall, ToolResult
from antiphon.messages import MAX_MESSAGE_BYTES, encode

Tool = Callable[..., Any]
"""What carries a command out, with the call's arguments by name: a coroutine function, or a plain one that
is quick, since the event loop waits for it. What it returns must be JSON; what it raises is logged."""

MAX_CALLS: Final = 32
"""Calls that are carried out at once; another is refused."""

_log = logging.getLogger(__name__)


class ToolRunner:
    """Carry calls out, each in a task of its own."""

    def __init__(self, tools: Mapping[str, Tool], send: Callable[[ToolResult], Awaitable[None]]) -> None:
        self._tools = tools
        self._send = send
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def call(self, call: ToolCall) -> ToolResult | None:
        """Begin a call, if there is a tool for it; return the answer where it is refused."""
        if call.name not in self._tools or call.call_id in self._tasks:
            return None
        if len(self._tasks) >= MAX_CALLS:
            sentence = f"{call.name} was not carried out: too much is to be done at once."
            return ToolResult(call_id=call.call_id, error=sentence)
        task = asyncio.create_task(self._carry_out(call))
        self._tasks[call.call_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(call.call_id))
        return None

    def cancel(self, call_id: str) -> None:
        """Stop working on a call."""
        if task := self._tasks.get(call_id):
            task.cancel()

    async def aclose(self) -> None:
        """Stop all work, and wait until it has stopped."""
        if tasks := list(self._tasks.values()):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _carry_out(self, call: ToolCall) -> None:
        try:
            async with asyncio.timeout(call.deadline_ms / 1000):
                result = await self._result(call)
        except TimeoutError:
            return  # The gateway has told the model; a result would be late.
        await self._send(result)

    async def _result(self, call: ToolCall) -> ToolResult:
        try:
            value = self._tools[call.name](**call.args)
            if inspect.isawaitable(value):
                value = await value
            result = ToolResult(call_id=call.call_id, result=value)
            size = len(encode(result))
        except Exception:  # noqa: BLE001 (whatever the application's code raises)
            _log.exception("The tool %s failed", call.name)
            return ToolResult(call_id=call.call_id, error=f"{call.name} could not be carried out.")
        if size > MAX_MESSAGE_BYTES:
            _log.error("The result of the tool %s is too long: %d bytes", call.name, size)
            return ToolResult(call_id=call.call_id, error=f"The result of {call.name} is too long.")
        return result
