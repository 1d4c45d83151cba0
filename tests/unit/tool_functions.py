"""Functions that the tests of Python tools call by name."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from antiphon.tools import ToolContext, ToolFailed

A_VALUE = 1
started = threading.Event()
let_go = threading.Event()
was_cancelled = threading.Event()
threads: list[threading.Thread] = []


def add(a: float, b: float = 1) -> float:
    threads.append(threading.current_thread())
    return a + b


async def add_async(a: float, b: float = 1) -> dict[str, float]:
    threads.append(threading.current_thread())
    await asyncio.sleep(0)
    return {"sum": a + b}


def nothing() -> None:
    pass


def whatever(**given: Any) -> dict[str, Any]:
    return given


def who(context: ToolContext, **given: Any) -> list[Any]:
    return [context.call_id, context.session_id, context.user_id, context.cancelled.is_set(), given]


async def who_async(context: ToolContext) -> list[Any]:
    return [context.call_id, context.session_id, context.user_id, context.cancelled.is_set()]


def wait_for_cancel(context: ToolContext) -> None:
    started.set()
    if context.cancelled.wait(10):
        was_cancelled.set()


def hang() -> None:
    started.set()
    let_go.wait(10)


def hang_for_good() -> None:
    while True:
        time.sleep(60)


def fail_late() -> None:
    started.set()
    let_go.wait(10)
    raise LookupError("too late")


async def hang_async(context: ToolContext) -> None:
    started.set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        assert context.cancelled.is_set()
        was_cancelled.set()
        raise


async def fail_when_cancelled() -> None:
    started.set()
    try:
        await asyncio.Event().wait()
    finally:
        raise LookupError("on the way out")


async def linger() -> None:
    """Swallow the first cancellation, as none should."""
    started.set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.Event().wait()


async def cancel_itself() -> None:
    raise asyncio.CancelledError


def say_why(why: str) -> NoReturn:
    raise ToolFailed(why)


async def say_why_async(why: str) -> NoReturn:
    raise ToolFailed(why)


def look_up() -> object:
    return dict[str, object]()["the inner workings"]


async def look_up_async() -> object:
    return look_up()


def stop_iteration() -> object:
    return next(iter(()))


def time_out() -> NoReturn:
    raise TimeoutError


def interrupt() -> NoReturn:
    raise KeyboardInterrupt


def an_object() -> object:
    return object()


def too_much() -> str:
    return "x" * 70_000


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(20):
        value = [value]
    return value


def circular() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def hidden(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(**given: Any) -> Any:
        return function(**given)

    return wrapper


hidden_async = hidden(add_async)
part = functools.partial(add_async, b=5)


def by_position(a: float, /) -> float:
    return a


class Adder:
    async def __call__(self, a: float) -> float:
        return a + 1


adder = Adder()
