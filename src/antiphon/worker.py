"""`python -m antiphon.worker`: one process of `antiphon serve --workers N`, started by the supervisor."""

from __future__ import annotations

import os

# See cli.py: gRPC reads these when it is imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import asyncio
import itertools
import logging
import signal
import socket
import stat
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from antiphon import logs, node, siblings, workers
from antiphon.admission import RETRY_AFTER_MS
from antiphon.config import Config, ConfigError
from antiphon.errors import ErrorCode, GatewayError
from antiphon.event_loop import run as run_loop
from antiphon.siblings import Siblings
from antiphon.workers import Orders

END_S: Final = 3.0
"""How long a worker may take to end once its supervisor is gone."""
COUNT_S: Final = 1.0
"""How long the supervisor may take to count; then this worker's own count is all there is."""
MAX_UNREAD_BYTES: Final = 1024 * 1024
"""A supervisor that has not read so much is as good as gone."""

_log = logging.getLogger(__name__)


def main() -> int:
    """Work until told to stop, or until the supervisor is gone; return the exit status."""
    if not stat.S_ISSOCK(os.fstat(0).st_mode):
        print("antiphon: A worker is started by `antiphon serve --workers N` only.", file=sys.stderr)
        return 2
    supervisor = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    try:
        return run_loop(_work(supervisor))
    except KeyboardInterrupt:
        return 130  # before it was ready to be told so


async def _work(connection: socket.socket) -> int:
    reader, writer = await asyncio.open_unix_connection(sock=connection, limit=workers.MAX_LINE_BYTES)
    line = await reader.readline()
    if not line:
        return 1
    orders = workers.orders(line)
    config = workers.read(orders.config)
    sys.path[:] = orders.path
    logs.start(config.log_level, f"[worker {orders.number}] ")
    supervisor = Supervisor(writer, orders)
    listening = asyncio.create_task(supervisor.listen(reader))
    try:
        await node.serve(
            config, supervisor.announce, supervisor.engine, _membership(config, orders, supervisor)
        )
    except ConfigError as error:
        supervisor.tell(workers.Failed(str(error)))
        return 1
    finally:
        listening.cancel()
        await asyncio.wait([listening])
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    return 0


def _membership(config: Config, orders: Orders, supervisor: Supervisor) -> node.Worker:
    has_store = config.valkey_url is not None
    others = Siblings(Path(orders.folder), orders.number, orders.count)
    return node.Worker(
        siblings.prefix(orders.number),
        None if has_store else others,
        None if has_store else supervisor,
    )


class SharedEngine:
    """The embedded engine that the supervisor runs."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.ready = False

    async def run(self) -> None:
        """Do nothing until cancelled: the supervisor says when it is ready."""
        await asyncio.Event().wait()


class Supervisor:
    """The supervisor, as a worker sees it: it is told how far the worker is, and counts connections."""

    def __init__(self, writer: asyncio.StreamWriter, orders: Orders) -> None:
        self.engine = SharedEngine(orders.engine) if orders.engine else None
        self._writer = writer
        self._orders = orders
        self._numbers = itertools.count(1)
        self._questions: dict[int, asyncio.Future[bool]] = {}
        self._stops = False

    def announce(self, line: str) -> None:
        """Pass on how far the node is, which the first word of a line tells."""
        name = line.partition(" ")[0].rstrip(".;")
        self._stops |= name == "Stopping"
        self.tell(workers.Stage(name))

    def tell(self, message: workers.ToSupervisor) -> None:
        transport = self._writer.transport
        if transport.is_closing():
            return
        self._writer.write(workers.line_of(message))
        if transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            transport.abort()

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Take what the supervisor says until cancelled; when it is gone, have this process end."""
        with suppress(ConnectionError):
            while line := await reader.readline():
                match workers.to_worker(line):
                    case workers.EngineReady(ready=ready):
                        if self.engine:
                            self.engine.ready = ready
                    case workers.Counted(number=number, admitted=admitted):
                        question = self._questions.get(number)
                        if question and not question.done():
                            question.set_result(admitted)
        self._orphaned()

    def _orphaned(self) -> None:
        """End, within END_S in any case; at once where this is ending already."""
        _log.warning("The supervisor is gone, so this worker ends")
        folder = Path(self._orders.folder)
        with suppress(OSError):  # the last one to go removes the folder, since who made it cannot
            siblings.socket_of(folder, self._orders.number).unlink(missing_ok=True)
            folder.rmdir()
        if self._stops:
            self._vanish()
        # A thread: it comes to its turn even if the loop does not.
        timer = threading.Timer(END_S, self._vanish)
        timer.daemon = True
        timer.start()
        signal.raise_signal(signal.SIGINT)

    def _vanish(self) -> None:
        os._exit(1)

    # ---- the census

    async def admit(self, user_id: str, session_id: str) -> None:
        """Count a session's connection in.

        Raises:
            GatewayError: QUOTA_CONNECTIONS, with `retryAfterMs`.
        """
        number = next(self._numbers)
        question = self._questions[number] = asyncio.get_running_loop().create_future()
        self.tell(workers.Admit(number, user_id, session_id))
        try:
            async with asyncio.timeout(COUNT_S):
                admitted = await question
        except TimeoutError:
            _log.warning(
                "The supervisor does not count: this worker's own count of connections is all there is"
            )
            return
        finally:
            del self._questions[number]
        if not admitted:
            raise GatewayError(ErrorCode.QUOTA_CONNECTIONS, retryAfterMs=RETRY_AFTER_MS)

    def leave(self, user_id: str, session_id: str) -> None:
        """Count it out."""
        self.tell(workers.Leave(user_id, session_id))


if __name__ == "__main__":
    sys.exit(main())
