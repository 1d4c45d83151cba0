"""`antiphon serve --workers N`: starts the workers and the embedded engine, watches them, and stops them.

It serves nobody itself. It keeps the port, counts the connections of each user over all workers, and speaks
for the whole: one development secret, one line each when all listen, when all are ready, and when all stop.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from functools import partial
from typing import Final

import msgspec
from msgspec.structs import replace

from antiphon import node, workers
from antiphon.config import Config, ConfigError, needs_engine
from antiphon.errors import first_of
from antiphon.local import EngineProcess, engine_process
from antiphon.upstreams import describe_upstream
from antiphon.workers import Orders, Roll, WorkersFailed

FIRST_BACKOFF_S: Final = 0.1
MAX_BACKOFF_S: Final = 5.0
STEADY_AFTER_S: Final = 30.0
"""A worker that served so long is started again without delay."""
SHORT_LIFE_S: Final = 2.0
"""A worker that ends sooner, once it listens, has ended right after its start."""
MAX_SHORT_LIVES: Final = 5
"""So many of one worker in a row end the gateway."""
STOP_S: Final = 15.0
"""How long workers may take to stop beyond their drain, before they are killed."""
FLUSH_S: Final = 5.0
"""How long a worker may take to end when all of them have to, before it is killed."""

_log = logging.getLogger(__name__)


async def serve(config: Config, announce: Callable[[str], None], engine: EngineProcess | None = None) -> None:
    """Run `config.workers` workers until SIGTERM or SIGINT; `announce` gets the lines a person is to see.

    The `engine`, which is run here and used by all workers, may be prepared.

    Raises:
        ConfigError: the settings do not go together, or the address cannot be listened on.
        local.EngineFailed: the embedded engine cannot be started.
        WorkersFailed: a worker ends again and again right after its start.
    """
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigError("This system cannot share a port among processes (SO_REUSEPORT): set workers to 1.")
    secret = node.development_secret(config)
    if secret:
        config = replace(config, jwt_secret=secret, provocations=node.provocations(config, secret))
    try:
        async with AsyncExitStack() as stack:
            stopping = stack.enter_context(node.signals())
            port = stack.enter_context(reserved(config))
            folder = stack.enter_context(_private_folder())
            roll = Roll(config.max_connections_per_user)
            if engine is None and needs_engine(config):
                engine = engine_process(config)
            crew = [
                Worker(
                    Orders(
                        number,
                        config.workers,
                        workers.written(workers.settings_of(config, number, port)),
                        sys.path,
                        folder,
                        engine.target if engine else None,
                    ),
                    roll,
                    engine,
                )
                for number in range(config.workers)
            ]
            if engine:
                engine.changed = partial(_tell_of_engine, engine, crew)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            running_engine = tasks.create_task(engine.run()) if engine else None
            running = [tasks.create_task(worker.run()) for worker in crew]
            if await node.until_ready(lambda: all(worker.listens for worker in crew), stopping):
                url = node.url_of(config, port)
                announce(f"Listening on {url} (upstream: {describe_upstream(config)}; {len(crew)} workers).")
                if secret:
                    node.publish(secret, port, stack)
                if await node.until_ready(lambda: all(worker.is_ready for worker in crew), stopping):
                    announce(node.invitation(url, secret, config))
                    await stopping.wait()
            drain_s = config.drain_s if stopping.orderly else 0.0
            announce(f"Stopping{f'; connections have {drain_s:g} s' if drain_s else ''}.")
            await _stop(crew, running, drain_s, orderly=stopping.orderly)
            if running_engine:
                running_engine.cancel()
    except BaseExceptionGroup as group:
        raise first_of(group) from None


def _tell_of_engine(engine: EngineProcess, crew: Sequence[Worker]) -> None:
    for worker in crew:
        worker.tell(workers.EngineReady(engine.ready))


async def _stop(
    crew: Sequence[Worker], running: Sequence[asyncio.Task[None]], drain_s: float, *, orderly: bool
) -> None:
    """Have all workers stop at the same time; kill those that take too long."""
    for worker in crew:
        worker.stop(signal.SIGTERM if orderly else signal.SIGINT)
    _, late = await asyncio.wait(running, timeout=drain_s + STOP_S)
    if late:
        _log.warning("%d workers did not stop in time and are killed", len(late))
        for worker in crew:
            worker.kill()
        await asyncio.wait(running)


class Worker:
    """One worker, kept running while `run` does."""

    def __init__(self, orders: Orders, roll: Roll, engine: EngineProcess | None) -> None:
        self.listens = self.is_ready = False
        """Of the process that runs now."""
        self._orders = orders
        self._name = f"Worker {orders.number}"
        self._roll = roll
        self._engine = engine
        self._said = ""
        self._ever_listened = False
        self._listened_at = float("inf")
        self._process: Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._stops = asyncio.Event()

    async def run(self) -> None:
        """Keep the worker running until it is told to stop, or cancelled; then end it.

        Raises:
            ConfigError: it cannot work with its settings.
            WorkersFailed: it ended again and again right after its start.
        """
        backoff_s, short_lives = FIRST_BACKOFF_S, 0
        loop = asyncio.get_running_loop()
        while not self._stops.is_set():
            status = await self._run_once()
            if self._stops.is_set():
                return
            if self._said and not self._ever_listened:
                raise ConfigError(self._said)
            served_s = loop.time() - self._listened_at
            short_lives = 0 if served_s >= SHORT_LIFE_S else short_lives + 1
            if short_lives >= MAX_SHORT_LIVES:
                raise WorkersFailed(
                    self._said or f"{self._name} ended {short_lives} times in a row: {status}."
                )
            if served_s >= STEADY_AFTER_S:
                backoff_s = FIRST_BACKOFF_S
            _log.warning("%s ended (%s); it is started again in %.1f s.", self._name, status, backoff_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(backoff_s):
                    await self._stops.wait()
            backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)

    def stop(self, number: signal.Signals) -> None:
        """Have it end by a signal, and start it no more."""
        self._stops.set()
        self._signal(number)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def tell(self, message: workers.ToWorker | Orders) -> None:
        """Tell the worker something, if it is there. Little is told, or in answer to what it asks."""
        if self._writer is not None and not self._writer.transport.is_closing():
            self._writer.write(workers.line_of(message))

    def _signal(self, number: signal.Signals) -> None:
        if number is signal.SIGINT and not self.listens:
            # While it loads its modules, Python would make a traceback of SIGINT. It has no clients yet.
            number = signal.SIGTERM
        if self._process:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _run_once(self) -> str:
        """Start the worker and wait for its end; return what ended it."""
        self._listened_at = float("inf")
        self._said = ""
        ours, theirs = socket.socketpair()
        try:
            process = self._process = await asyncio.create_subprocess_exec(
                # -P: it is told by its orders where modules are looked for.
                *(sys.executable, "-P", "-m", "antiphon.worker", str(self._orders.number)),
                stdin=theirs.fileno(),
                # A terminal's Ctrl-C is for the supervisor, which then stops the workers.
                start_new_session=True,
            )
        finally:
            theirs.close()
            if self._process is None:
                ours.close()
        try:
            reader, self._writer = await asyncio.open_unix_connection(sock=ours, limit=workers.MAX_LINE_BYTES)
            self.tell(self._orders)
            self.tell(workers.EngineReady(self._engine is not None and self._engine.ready))
            await self._listen(reader)
            await process.wait()
        finally:
            self.listens = self.is_ready = False
            await self._end(process)
            self._roll.ended(self._orders.number)
            self._process = None
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.close()
        code = process.returncode
        assert code is not None
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    async def _end(self, process: Process) -> None:
        """End the process, if it runs: at once, as by Ctrl-C, or by force."""
        if process.returncode is not None:
            return
        try:
            self._signal(signal.SIGINT)
            async with asyncio.timeout(FLUSH_S):
                await process.wait()
        except TimeoutError:
            _log.warning("%s did not end within %.0f s and is killed.", self._name, FLUSH_S)
        finally:
            if process.returncode is None:
                self.kill()
                await process.wait()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Take what the worker says, until it is gone."""
        try:
            while line := await reader.readline():
                self._take(workers.to_supervisor(line))
        except ConnectionError:
            pass
        except (ValueError, msgspec.DecodeError) as error:
            _log.error("%s cannot be understood (%s) and is killed", self._name, error)
            self.kill()

    def _take(self, message: workers.ToSupervisor) -> None:
        number = self._orders.number
        match message:
            case workers.Stage(name="Listening"):
                self.listens = self._ever_listened = True
                self._listened_at = asyncio.get_running_loop().time()
            case workers.Stage(name=name):
                self.is_ready = name == "Ready"
            case workers.Failed(sentence=sentence):
                self._said = sentence
            case workers.Admit(number=question, user_id=user_id, session_id=session_id):
                admitted = self._roll.admit(number, user_id, session_id)
                self.tell(workers.Counted(question, admitted))
            case workers.Leave(user_id=user_id, session_id=session_id):
                self._roll.leave(user_id, session_id)


@contextmanager
def reserved(config: Config) -> Iterator[int]:
    """Keep the port for the workers, without listening; yield its number, a free one where 0 is configured.

    Raises:
        ConfigError: the address cannot be had, or somebody listens on it.
    """
    sockets: list[socket.socket] = []
    port = config.port
    try:
        try:
            for family, _, _, _, address in socket.getaddrinfo(
                config.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            ):
                if port:
                    # Other workers of this user's would let us in, and have half of our clients.
                    with _socket(family) as probe:
                        probe.bind((address[0], port, *address[2:]))
                sockets.append(_socket(family, share=True))
                sockets[-1].bind((address[0], port, *address[2:]))
                port = sockets[-1].getsockname()[1]
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigError(f"Cannot listen on {config.host} port {config.port}: {reason}.") from error
        yield port
    finally:
        for each in sockets:
            each.close()


def _socket(family: int, *, share: bool = False) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if share:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as event loops do
    return made


@contextmanager
def _private_folder() -> Iterator[str]:
    """Have a folder that only this user may enter."""
    folder = tempfile.mkdtemp(prefix="antiphon-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
