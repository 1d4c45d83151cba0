"""Tools that are Python functions of the operator's own."""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import inspect
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Final

from antiphon.tools.call import (
    BUSY,
    FAILED,
    MAX_SENTENCE,
    UNUSABLE,
    Call,
    PythonTool,
    ToolboxError,
    ToolContext,
    ToolFailed,
    result_of,
)
from antiphon.tools.slots import Slots

GRACE_S: Final = 1.0
"""How long cancelled functions may take to end when the toolbox closes."""

_log = logging.getLogger(__name__)


class PythonWorker:
    """Calls one function: an `async def` in the event loop, any other in a thread of its own.

    Whoever cancels `run` does not wait for the function. A coroutine is cancelled, a thread cannot be: it
    is told by `context.cancelled`. Either keeps its slot until it has ended, so what never ends can at
    most use up the slots of its own tool.

    Raises:
        ToolboxError: the function cannot be imported, is none, or takes no keywords.
    """

    def __init__(self, name: str, tool: PythonTool) -> None:
        self._name = name
        self._function = _import(name, tool.function)
        self._signature = _signature(name, tool.function, self._function)
        self._takes_context = "context" in self._signature.parameters
        self._is_async = inspect.iscoroutinefunction(self._function) or inspect.iscoroutinefunction(
            type(self._function).__call__
        )
        self._slots = Slots()
        self._running: dict[asyncio.Future[Future[Any]] | asyncio.Task[Any], ToolContext] = {}

    async def run(self, call: Call) -> dict[str, Any]:
        """Return the function's result for the model.

        Raises:
            ToolFailed: the function said so or raised, the arguments do not fit, or the result is no JSON.
        """
        context = ToolContext(call.call_id, call.session_id, call.user_id, threading.Event())
        arguments = dict(call.args)
        if self._takes_context:
            arguments["context"] = context
        try:
            self._signature.bind(**arguments)
        except TypeError as error:
            raise ToolFailed(f"The arguments are not right: {error}."[:MAX_SENTENCE]) from None
        await self._slots.take()
        try:
            work = self._start(arguments)
        except RuntimeError as error:
            self._slots.give_back()
            _log.error("The tool %s gets no thread: %s", self._name, error)
            raise ToolFailed(BUSY) from None
        self._running[work] = context
        work.add_done_callback(self._ended)
        try:
            await asyncio.wait({work})
        finally:
            if not work.done():
                self._cancel(work)
        return self._result(work)

    async def aclose(self) -> None:
        """Cancel what still runs, and give it a second to end; threads that go on do not hold up the exit."""
        for work in list(self._running):
            self._cancel(work)
        if self._running:
            await asyncio.wait(self._running, timeout=GRACE_S)
        if self._running:
            _log.warning("The tool %s does not end though it was cancelled", self._name)

    def _start(self, arguments: dict[str, Any]) -> asyncio.Future[Future[Any]] | asyncio.Task[Any]:
        if self._is_async:
            return asyncio.create_task(_awaited(self._function, arguments), name=f"tool {self._name}")
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Future[Any]] = loop.create_future()
        call = partial(contextvars.copy_context().run, partial(self._function, **arguments))
        in_thread(call, f"tool {self._name}").add_done_callback(partial(_tell, loop, ended))
        return ended

    def _cancel(self, work: asyncio.Future[Any]) -> None:
        context = self._running[work]
        context.cancelled.set()
        if isinstance(work, asyncio.Task):
            work.cancel()

    def _ended(self, work: asyncio.Future[Any]) -> None:
        context = self._running.pop(work)
        self._slots.give_back()
        error = None if work.cancelled() else _outcome(work).exception()
        if error is not None and context.cancelled.is_set() and not isinstance(error, ToolFailed):
            _log.error("The tool %s failed after it was cancelled", self._name, exc_info=error)

    def _result(self, work: asyncio.Future[Any]) -> dict[str, Any]:
        if work.cancelled():
            _log.error("The tool %s cancelled itself", self._name)
            raise ToolFailed(FAILED)
        outcome = _outcome(work)
        match outcome.exception():
            case None:
                return self._usable(outcome.result())
            case ToolFailed() as error:
                raise ToolFailed(str(error)[:MAX_SENTENCE] or FAILED)
            case Exception() as error:
                _log.error("The tool %s failed", self._name, exc_info=error)
                raise ToolFailed(FAILED)
            case error:
                raise error

    def _usable(self, value: Any) -> dict[str, Any]:
        if inspect.iscoroutine(value):
            value.close()  # or Python warns that it was never awaited
        try:
            return result_of("done" if value is None else value)
        except ValueError as error:
            _log.error("The tool %s returned a result that cannot be used: %s", self._name, error)
            raise ToolFailed(UNUSABLE) from None


def in_thread(function: Callable[[], Any], name: str) -> Future[Any]:
    """Call a function in a thread of its own and return its future.

    The thread is a daemon, unlike those of a pool: Python waits for these at exit, so that one function
    that hangs would keep the gateway from stopping.
    """
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 (all of it goes to whoever looks at the future)
            future.set_exception(error)

    threading.Thread(target=work, name=name, daemon=True).start()
    return future


def _tell(loop: asyncio.AbstractEventLoop, ended: asyncio.Future[Future[Any]], outcome: Future[Any]) -> None:
    """Tell the loop, from the thread, that the thread has ended."""
    with suppress(RuntimeError):  # the loop has ended first
        loop.call_soon_threadsafe(ended.set_result, outcome)


def _outcome(work: asyncio.Future[Any]) -> asyncio.Future[Any] | Future[Any]:
    # A thread's outcome stays in its own future: asyncio's takes no StopIteration.
    outcome: asyncio.Future[Any] | Future[Any] = work if isinstance(work, asyncio.Task) else work.result()
    return outcome


async def _awaited(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    return await function(**arguments)


def _import(name: str, function: str) -> Any:
    module_name, _, attribute = function.partition(":")
    # In a thread, since a module may raise anything and a future holds it.
    module = in_thread(partial(importlib.import_module, module_name), f"import {module_name}")
    match module.exception():
        case None:
            pass
        case ModuleNotFoundError() as error if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise ToolboxError(
                f"The tool {name} cannot work: there is no module {error.name}. "
                "Install it, or name its folder in PYTHONPATH."
            )
        case error:
            raise ToolboxError(
                f"The tool {name} cannot work: importing {module_name} failed with "
                f"{type(error).__name__}: {error}."
            ) from error
    if not hasattr(module.result(), attribute):
        raise ToolboxError(f"The tool {name} cannot work: {module_name} has no {attribute}.")
    found = getattr(module.result(), attribute)
    if not callable(found):
        raise ToolboxError(f"The tool {name} cannot work: {function} is no function.")
    return found


def _signature(name: str, function: str, found: Any) -> inspect.Signature:
    try:
        signature = inspect.signature(found)
    except (ValueError, TypeError):
        raise ToolboxError(f"The tool {name} cannot work: {function} does not tell its parameters.") from None
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.POSITIONAL_ONLY and parameter.default is parameter.empty:
            raise ToolboxError(
                f"The tool {name} cannot work: {function} is called with keywords, "
                f"and its parameter {parameter.name} takes none."
            )
    return signature
