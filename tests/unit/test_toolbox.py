"""toolbox.py with Python functions: how they are called, what becomes of results, errors and cancellation."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from antiphon.tools import ToolFailed, slots
from antiphon.tools import python_worker as python_tool
from antiphon.tools.call import Call, ClientTool, HttpTool, PythonTool
from antiphon.tools.toolbox import Toolbox, ToolboxError
from unit import tool_functions


@pytest.fixture(autouse=True)
def _afresh() -> None:
    for event in (tool_functions.started, tool_functions.let_go, tool_functions.was_cancelled):
        event.clear()
    tool_functions.threads.clear()


@asynccontextmanager
async def toolbox(*functions: str) -> AsyncIterator[Toolbox]:
    tools = Toolbox({name: PythonTool(f"unit.tool_functions:{name}") for name in functions})
    try:
        yield tools
    finally:
        tool_functions.let_go.set()
        await tools.aclose()


def call(name: str, deadline_s: float = 10, **args: Any) -> Call:
    return Call("c1", name, args, "s1", "alice", deadline_s)


async def result(name: str, **args: Any) -> dict[str, Any]:
    async with toolbox(name) as tools:
        return await tools.run(call(name, **args))


async def failure(name: str, deadline_s: float = 10, **args: Any) -> str:
    async with toolbox(name) as tools:
        with pytest.raises(ToolFailed) as failed:
            await tools.run(call(name, deadline_s, **args))
        return str(failed.value)


async def happened(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 10)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.001)


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()


# ---- calls and results


async def test_a_plain_function_runs_in_a_thread() -> None:
    assert await result("add", a=1, b=2) == {"output": 3}
    assert tool_functions.threads[0] is not threading.current_thread()


async def test_a_coroutine_function_runs_in_the_loop() -> None:
    assert await result("add_async", a=1) == {"sum": 2}
    assert tool_functions.threads == [threading.current_thread()]


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("nothing", {}, {"output": "done"}),
        ("whatever", {"x": [1], "context": "theirs"}, {"x": [1], "context": "theirs"}),
        ("who", {"x": 1, "context": "theirs"}, {"output": ["c1", "s1", "alice", False, {"x": 1}]}),
        ("who_async", {}, {"output": ["c1", "s1", "alice", False]}),
        ("part", {"a": 1}, {"sum": 6}),
        ("adder", {"a": 1}, {"output": 2}),
    ],
)
async def test_results(name: str, args: dict[str, Any], expected: dict[str, Any]) -> None:
    assert await result(name, **args) == expected


@pytest.mark.parametrize("name", ["an_object", "too_much", "deep", "circular", "hidden_async"])
async def test_results_that_cannot_be_used(name: str, caplog: pytest.LogCaptureFixture) -> None:
    args = {"a": 1} if name == "hidden_async" else {}
    assert await failure(name, **args) == "The tool's answer cannot be used."
    assert f"The tool {name} returned a result that cannot be used: it is " in caplog.text


@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        ("add", {}, "missing a required argument: 'a'"),
        ("add", {"a": 1, "c": 2}, "got an unexpected keyword argument 'c'"),
        ("who_async", {"x": 1}, "got an unexpected keyword argument 'x'"),
    ],
)
async def test_arguments_that_do_not_fit(name: str, args: dict[str, Any], says: str) -> None:
    assert await failure(name, **args) == f"The arguments are not right: {says}."


# ---- errors


@pytest.mark.parametrize("name", ["look_up", "look_up_async", "stop_iteration", "time_out", "cancel_itself"])
async def test_errors_are_the_operators_and_not_the_models(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert await failure(name) == "The tool failed."
    assert f"The tool {name} " in caplog.text
    if "look_up" in name:
        assert "KeyError: 'the inner workings'" in caplog.text
        assert "Traceback" in caplog.text


@pytest.mark.parametrize("name", ["say_why", "say_why_async"])
@pytest.mark.parametrize(
    ("why", "says"),
    [("It is sold out.", "It is sold out."), ("", "The tool failed."), ("x" * 1000, "x" * 500)],
)
async def test_a_function_says_itself_why_it_failed(name: str, why: str, says: str) -> None:
    assert await failure(name, why=why) == says


async def test_an_interrupt_is_not_swallowed() -> None:
    async with toolbox("interrupt") as tools:
        with pytest.raises(KeyboardInterrupt):
            await tools.run(call("interrupt"))


# ---- deadlines and cancellation


@pytest.mark.parametrize("name", ["hang", "wait_for_cancel", "hang_async", "linger"])
async def test_the_deadline_is_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_tool, "GRACE_S", 0.05)
    async with asyncio.timeout(3):
        assert await failure(name, 0.05) == "The tool did not answer in time."
    if name in ("wait_for_cancel", "hang_async"):
        await happened(tool_functions.was_cancelled)


@pytest.mark.parametrize("name", ["wait_for_cancel", "hang_async"])
async def test_a_cancellation_reaches_the_function(name: str) -> None:
    async with toolbox(name) as tools:
        task = asyncio.create_task(tools.run(call(name)))
        await until(tool_functions.started.is_set)
        await cancelled(task)
        await happened(tool_functions.was_cancelled)


@pytest.mark.parametrize("name", ["fail_when_cancelled", "fail_late"])
async def test_what_fails_after_its_cancellation_is_logged(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with toolbox(name) as tools:
        task = asyncio.create_task(tools.run(call(name)))
        await until(tool_functions.started.is_set)
        await cancelled(task)
        tool_functions.let_go.set()
        await until(lambda: f"The tool {name} failed after it was cancelled" in caplog.text)
        assert "LookupError" in caplog.text


async def test_a_function_that_hangs_keeps_its_slot_and_no_other_tools(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slots, "PARALLEL", 1)
    async with toolbox("hang", "add") as tools:
        for _ in range(2):
            with pytest.raises(ToolFailed, match="in time"):
                await tools.run(call("hang", 0.02))
        assert await tools.run(call("add", a=1)) == {"output": 2}
        tool_functions.let_go.set()
        assert await tools.run(call("hang")) == {"output": "done"}


async def test_so_many_wait_for_a_slot_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "PARALLEL", 1)
    monkeypatch.setattr(slots, "MAX_WAITING", 1)
    async with toolbox("hang") as tools:
        first = asyncio.create_task(tools.run(call("hang")))
        await until(tool_functions.started.is_set)
        second = asyncio.create_task(tools.run(call("hang")))
        await asyncio.sleep(0)
        with pytest.raises(ToolFailed, match="The tool is busy"):
            await tools.run(call("hang"))
        await cancelled(second)  # whoever leaves the queue makes room in it
        third = asyncio.create_task(tools.run(call("hang")))
        await asyncio.sleep(0)
        tool_functions.let_go.set()
        assert [await first, await third] == [{"output": "done"}] * 2


async def test_without_a_thread_to_be_had_the_tool_is_busy(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(slots, "PARALLEL", 1)
    async with toolbox("add") as tools:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            with pytest.raises(ToolFailed, match="busy"):
                await tools.run(call("add", a=1))
        assert "can't start new thread" in caplog.text
        assert await tools.run(call("add", a=1)) == {"output": 2}


async def test_closing_cancels_what_nobody_waits_for(caplog: pytest.LogCaptureFixture) -> None:
    async with toolbox("linger") as tools:
        task = asyncio.create_task(tools.run(call("linger")))
        await until(tool_functions.started.is_set)
        await cancelled(task)  # the function swallows it
        await asyncio.sleep(0)
    assert "does not end" not in caplog.text


async def test_closing_does_not_wait_for_what_never_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(python_tool, "GRACE_S", 0.02)
    tools = Toolbox({"hang": PythonTool("unit.tool_functions:hang")})
    with pytest.raises(ToolFailed, match="in time"):
        await tools.run(call("hang", 0.02))
    await tools.aclose()
    assert "The tool hang does not end though it was cancelled" in caplog.text
    tool_functions.let_go.set()


def test_a_function_may_end_after_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        tools = Toolbox({"hang": PythonTool("unit.tool_functions:hang")})
        with pytest.raises(ToolFailed, match="in time"):
            await tools.run(call("hang", 0.02))

    with asyncio.Runner() as runner:
        runner.run(run())
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "tool hang")
    caplog.clear()
    tool_functions.let_go.set()
    thread.join(10)
    assert caplog.text == ""


def test_a_function_that_hangs_does_not_keep_the_process_from_ending() -> None:
    program = """
        import asyncio
        from antiphon.tools.toolbox import Toolbox
        from antiphon.tools import ToolFailed
        from antiphon.tools.call import Call, PythonTool

        async def main() -> None:
            tools = Toolbox({"t": PythonTool("unit.tool_functions:hang_for_good")})
            try:
                await tools.run(Call("c", "t", {}, "s", "u", 0.05))
            except ToolFailed as error:
                print(error)

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "The tool did not answer in time.\n"), done.stderr
    assert "Traceback" not in done.stderr


# ---- construction


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("no_such_shop.tools:order", "there is no module no_such_shop. Install it"),
        ("unit.no_such:order", "there is no module unit.no_such"),
        ("unit.tool_functions:no_such", "unit.tool_functions has no no_such"),
        ("unit.tool_functions:A_VALUE", "unit.tool_functions:A_VALUE is no function"),
        ("unit.tool_functions:by_position", "its parameter a takes none"),
        ("builtins:dict", "does not tell its parameters"),
    ],
)
def test_functions_that_cannot_be_had(function: str, says: str) -> None:
    with pytest.raises(ToolboxError, match=r"^The tool order cannot work: .*\.$") as refused:
        Toolbox({"order": PythonTool(function)})
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import no_such_thing", "ModuleNotFoundError: No module named 'no_such_thing'."),
        ("1 +", "SyntaxError: "),
        ("{}['key']", "KeyError: 'key'."),
        ("raise SystemExit(3)", "SystemExit: 3."),
    ],
)
def test_modules_that_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, says: str
) -> None:
    (tmp_path / "broken_shop.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    with pytest.raises(ToolboxError, match="importing broken_shop failed with") as refused:
        Toolbox({"order": PythonTool("broken_shop:order")})
    assert says in str(refused.value)


async def test_the_clients_tools_are_left_to_it() -> None:
    tools = Toolbox({"show": ClientTool()})
    with pytest.raises(KeyError):
        await tools.run(call("show"))
    await tools.aclose()


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        (None, "set ANTIPHON_TOOL_SECRET"),
        ("", "set ANTIPHON_TOOL_SECRET"),
        ("x" * 31, "shorter than 32 bytes"),
    ],
)
def test_http_tools_need_a_good_secret(secret: str | None, says: str) -> None:
    with pytest.raises(ToolboxError, match=says):
        Toolbox({"order": HttpTool("https://shop.example.com/")}, secret=secret)
    Toolbox({"show": ClientTool()}, secret=secret)


def test_certificates_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(ToolboxError, match="certificates of SSL_CERT_FILE cannot be used"):
        Toolbox({"order": HttpTool("https://shop.example.com/")}, secret="x" * 32)
