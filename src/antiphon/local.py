"""The embedded engine as a child process: started, watched, and started again when it dies."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Self

from antiphon.config import Config

READY_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 5.0
FIRST_BACKOFF_S: Final = 0.1
MAX_BACKOFF_S: Final = 5.0
STEADY_AFTER_S: Final = 30.0
"""An engine that lived so long is started again without delay."""
MAX_FAILED_STARTS: Final = 3
"""So many in a row, before it was ever ready, are final."""

_HOST: Final = "127.0.0.1"
_PORTS: Final = range(20_000, 32_000)
"""Below those of outgoing connections, one of which could take the port while the engine restarts."""
_PROGRESS_EVERY_S: Final = 10.0
_MAX_LINE_BYTES: Final = 16 * 1024

_log = logging.getLogger(__name__)
_engine_log = logging.getLogger("antiphon.engine")


class EngineFailed(Exception):  # noqa: N818 (it reads as what happened)
    """The engine cannot be started; the text is a sentence, the engine's own if it said one."""


class EngineProcess:
    """Keeps one engine running while `run` does, on the same address over every restart."""

    def __init__(self, models_dir: Path | None = None, arguments: Sequence[str] = ()) -> None:
        self.changed: Callable[[], None] = lambda: None
        """Called when it becomes ready, and when it no longer is."""
        self._port = _free_port()
        self._arguments = [*arguments]
        if models_dir:
            self._arguments += ["--models-dir", str(models_dir)]
        self._ready = asyncio.Event()
        self._was_ready = False
        self._said = ""
        self._began = 0.0
        self._process: Process | None = None
        self._prepared: Process | None = None

    @property
    def target(self) -> str:
        """The address, as a gRPC target."""
        return f"{_HOST}:{self._port}"

    @property
    def ready(self) -> bool:
        """Whether the engine answers at this moment."""
        return self._ready.is_set()

    @property
    def pid(self) -> int | None:
        """The process's id, None while there is none."""
        return self._process.pid if self._process else None

    async def wait_ready(self) -> None:
        """Return once the engine answers."""
        await self._ready.wait()

    @asynccontextmanager
    async def prepared(self) -> AsyncIterator[Self]:
        """Start the process ahead of `run`, which takes it over; stop it if that never comes."""
        self._prepared = await self._start()
        try:
            yield self
        finally:
            if self._prepared is not None:
                await _stop(self._prepared)
                self._prepared = None

    async def run(self) -> None:
        """Keep the engine running until cancelled, then stop it in order.

        Raises:
            EngineFailed: it never became ready, however often it was started.
        """
        backoff_s = FIRST_BACKOFF_S
        failed_starts = 0
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            status = await self._run_once()
            if not self._was_ready:
                failed_starts += 1
                if failed_starts >= MAX_FAILED_STARTS:
                    raise EngineFailed(self._said or f"The engine could not be started: {status}.")
            if loop.time() - began >= STEADY_AFTER_S:
                backoff_s = FIRST_BACKOFF_S
            _log.warning("The engine ended (%s); it is started again in %.1f s.", status, backoff_s)
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)

    async def _run_once(self) -> str:
        """Start the engine and wait for its end; return what ended it."""
        process, self._prepared = self._prepared, None
        if process is None:
            process = await self._start()
        self._process = process
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read_output(process))
                tasks.create_task(self._read_log(process))
                try:
                    await process.wait()
                finally:
                    self._ready.clear()
                    self.changed()
                    await _stop(process)
        finally:
            self._process = None
        return _status(process)

    async def _start(self) -> Process:
        self._began = asyncio.get_running_loop().time()
        return await asyncio.create_subprocess_exec(
            # -P: what lies in the folder where the gateway was started is none of the engine's modules.
            *(sys.executable, "-P", "-m", "antiphon.engine", "--exit-with-parent"),
            *("--host", _HOST, "--port", str(self._port), *self._arguments),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            limit=_MAX_LINE_BYTES,
            # A terminal's Ctrl-C is for the gateway, which then stops the engine.
            start_new_session=True,
        )

    async def _read_output(self, process: Process) -> None:
        """Wait for the line that says the engine is ready, and kill it if that does not come."""
        assert process.stdout
        loop = asyncio.get_running_loop()
        began = self._began
        line = "."
        while line and not line.startswith("engine ready"):
            waited_s = loop.time() - began
            if waited_s >= READY_TIMEOUT_S:
                self._said = f"The engine was not ready after {READY_TIMEOUT_S:.0f} s."
                _kill(process)
                return
            try:
                async with asyncio.timeout(min(_PROGRESS_EVERY_S, READY_TIMEOUT_S - waited_s)):
                    line = await _read_line(process.stdout)
            except TimeoutError:
                _log.info("The engine is still starting after %.0f s.", loop.time() - began)
        if line:
            _log.info("The engine is ready on %s after %.1f s.", self.target, loop.time() - began)
            self._was_ready = True
            self._ready.set()
            self.changed()
        while await _read_line(process.stdout):
            pass

    async def _read_log(self, process: Process) -> None:
        """Pass on what the engine logs, and keep its last words."""
        assert process.stderr
        while line := await _read_line(process.stderr):
            if said := line.strip():
                self._said = said.removeprefix("antiphon engine: ")
                _engine_log.info("%s", said)


def engine_process(config: Config) -> EngineProcess:
    """Return what runs the engine that the settings ask for."""
    return EngineProcess(config.models_dir, engine_arguments(config))


def engine_arguments(config: Config) -> list[str]:
    """Return what the engine's process is told of the settings."""
    arguments = [f"--brain={config.engine_brain}", f"--brain-model={config.engine_brain_model}"]
    if config.engine_conversations:
        arguments.append(f"--max-conversations={config.engine_conversations}")
    return arguments


async def _stop(process: Process) -> None:
    """Ask the process to end, and end it if it does not."""
    if process.returncode is not None:
        return
    try:
        with suppress(ProcessLookupError):
            process.terminate()
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        _log.warning("The engine did not stop within %.0f s and is killed.", STOP_TIMEOUT_S)
    finally:
        if process.returncode is None:
            _kill(process)
            await process.wait()


def _kill(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()


async def _read_line(reader: asyncio.StreamReader) -> str:
    """Return the next line, "" at the end; of one that is too long, a dot."""
    try:
        return (await reader.readline()).decode(errors="replace")
    except ValueError:
        return "."


def _status(process: Process) -> str:
    code = process.returncode
    assert code is not None
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _free_port() -> int:
    """Return a port that nothing listens on.

    Raises:
        EngineFailed: none was found.
    """
    for port in random.sample(_PORTS, min(64, len(_PORTS))):
        with socket.socket() as probe:
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            return port
    raise EngineFailed("No free port was found for the engine.")
