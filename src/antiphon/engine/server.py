"""`antiphon engine`: loads the models, serves the RPC, and stops in order."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc
import msgspec

from antiphon.engine.admission import CONVERSATIONS_A_CORE
from antiphon.engine.detector import DetectorModel
from antiphon.engine.ear import ListenerEar
from antiphon.engine.faults import ScriptError
from antiphon.engine.flags import BUILTIN, add_arguments
from antiphon.engine.listener import Listener, ListenerEvent
from antiphon.engine.memory import Handles
from antiphon.engine.models import ModelError, ModelStore, default_directory
from antiphon.engine.recognizer import Counts, Recognizer, cores
from antiphon.engine.service import Converse, Service, unchanged
from antiphon.engine.stream import Ear, OpenEar, Parts, Voice
from antiphon.engine.synthesizer import Synthesizer

if TYPE_CHECKING:
    from antiphon.engine.brain import Brain

__all__ = ["BrainUnusable", "CannotListen", "add_arguments", "listen", "run", "serving", "thinking"]

DRAIN_S: Final = 3.0
"""How long the open conversations have from the announcement to the end."""
MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""Of a client: 130 s of audio in one message is more than anybody sends."""

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # A second engine on the same port is to fail, not to share it.
    ("grpc.so_reuseport", 0),
    # A client whose host has vanished is noticed within half a minute.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
)

_log = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_run(args))


async def _run(args: argparse.Namespace) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if args.exit_with_parent:
        _watch_parent(lambda: loop.call_soon_threadsafe(stop.set))
    store = ModelStore(args.models_dir or default_directory())
    try:
        around = _faults(args.faults) if args.faults else unchanged
        # The address first: who connects while the models are loaded is served as soon as they are.
        server, port = listen(args.host, args.port)
        max_conversations = args.max_conversations or CONVERSATIONS_A_CORE * cores()
        async with load_speech(store, args.workers) as (open_ear, voice, delay_s), thinking(args) as brain:
            parts = Parts(open_ear, voice, Handles(), _local_time, args.max_connection_s, brain, delay_s)
            async with serving(server, parts, max_conversations, around):
                print(f"engine ready on {args.host}:{port}", flush=True)
                await stop.wait()
    except (ModelError, CannotListen, BrainUnusable, ScriptError) as error:
        print(f"antiphon engine: {error}", file=sys.stderr)
        return 1
    return 0


@asynccontextmanager
async def load_speech(
    store: ModelStore, workers: int | None
) -> AsyncIterator[tuple[OpenEar, Voice, Callable[[], float]]]:
    """Load the models; yield the ear, the voice, and what tells how long finals wait for a thread.

    Raises:
        ModelError: a model is missing or damaged.
    """
    detector, synthesizer, recognizer = await asyncio.gather(
        asyncio.to_thread(DetectorModel.load, store),
        asyncio.to_thread(Synthesizer.load, store),
        asyncio.to_thread(Recognizer.load, store, workers),
    )
    async with recognizer, synthesizer:
        # Nobody has said anything yet that is to be answered within that time.
        warming = asyncio.create_task(synthesizer.warm_up())

        def open_ear(on_event: Callable[[ListenerEvent], None], tasks: asyncio.TaskGroup) -> Ear:
            return ListenerEar(Listener(recognizer, detector, on_event, tasks))

        try:
            yield open_ear, synthesizer, recognizer.delay_s
        finally:
            warming.cancel()
            with suppress(asyncio.CancelledError):
                await warming
    if recognizer.counts != Counts():
        _log.info("recognition: %s", msgspec.json.encode(recognizer.counts).decode())


class BrainUnusable(Exception):  # noqa: N818 (it reads as what happened)
    """The brain's URL or key cannot be used; the text is a sentence."""


@asynccontextmanager
async def thinking(args: argparse.Namespace) -> AsyncIterator[Brain | None]:
    """Have the brain that is asked for, which is woken meanwhile; None for the built-in answers.

    Raises:
        BrainUnusable: its URL or key cannot be used. One that does not answer is no error.
    """
    if args.brain == BUILTIN:
        yield None
        return
    # Who has none need not load HTTP.
    from antiphon.engine.brain import KEY_VARIABLE, Brain

    try:
        brain = Brain(args.brain, args.brain_model, os.environ.get(KEY_VARIABLE, ""))
    except ValueError as error:
        raise BrainUnusable(str(error)) from None
    async with brain:
        waking = asyncio.create_task(brain.wake())
        try:
            yield brain
        finally:
            waking.cancel()
            with suppress(asyncio.CancelledError):
                await waking


class CannotListen(Exception):  # noqa: N818 (it reads as what happened)
    """The address is taken or not of this machine; the text is a sentence."""


def listen(host: str, port: int) -> tuple[grpc.aio.Server, int]:
    """Return a server that listens, 0 for any port, and the port; it serves later.

    Raises:
        CannotListen: the address cannot be listened on.
    """
    try:
        # gRPC itself prints what is wrong, and raises without saying it.
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
        server = grpc.aio.server(options=_OPTIONS)
        return server, server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except (OSError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it was taken a moment ago"
        raise CannotListen(f"Port {port} of {host} cannot be listened on: {why}.") from None


@asynccontextmanager
async def serving(
    server: grpc.aio.Server,
    parts: Parts,
    max_conversations: int,
    around: Callable[[Converse], Converse] = unchanged,
) -> AsyncIterator[None]:
    """Serve; on leaving, announce the end, give `DRAIN_S` to what is open, and end."""
    service = Service(parts, max_conversations, around)
    server.add_generic_rpc_handlers((service.handler(),))
    await server.start()
    try:
        yield
    finally:
        service.drain(DRAIN_S)
        # The calls end by themselves after DRAIN_S; what does not is cut off.
        await server.stop(DRAIN_S + 1)


def _watch_parent(gone: Callable[[], object]) -> None:
    """Call `gone` once standard input is closed, which it is when whoever holds its other end is killed."""

    def watch() -> None:
        with suppress(OSError):
            while os.read(0, 1024):
                pass
        gone()

    # A daemon: nothing else could end its read.
    threading.Thread(target=watch, daemon=True).start()


def _local_time() -> datetime:
    return datetime.now().astimezone()


def _faults(path: Path) -> Callable[[Converse], Converse]:
    """Return what puts the faults of a file before the service, and print what they will be.

    Raises:
        ScriptError: the file cannot be used.
    """
    # Who serves without faults need not load them.
    from antiphon.engine.faults import script
    from antiphon.engine.faults.connections import Faults

    faults = Faults(script.read(path), _tell)
    print("\n".join(faults.summary()), flush=True)
    return faults.around


def _tell(line: str) -> None:
    print(f"{_local_time():%H:%M:%S} {line}", file=sys.stderr, flush=True)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return None
    return uvloop.new_event_loop
