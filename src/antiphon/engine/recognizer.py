"""Speech to text for every conversation: one model in memory, a few threads, finals before partials."""

from __future__ import annotations

import asyncio
import functools
import os
from asyncio import TimerHandle
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from types import TracebackType
from typing import Final, Protocol, Self

from msgspec import Struct

from antiphon.engine.models import ModelStore
from antiphon.engine.moonshine import NOTHING, Moonshine, Transcript
from antiphon.engine.schedule import Schedule, Work

__all__ = ["NOTHING", "Recognizer", "Transcript", "cores"]

_FINAL_BEAMS: Final = 4
_PARTIAL_BEAMS: Final = 1


class Model(Protocol):
    """What turns speech into text; used from several threads at once."""

    def transcribe(self, pcm: bytes, stop: Event, beams: int, draft: Sequence[int] = ()) -> Transcript:
        """Return what is said in `pcm`, or `NOTHING` soon after `stop` is set."""
        ...


class Counts(Struct):
    """What was done since the start."""

    finals: int = 0
    partials: int = 0
    partials_replaced: int = 0
    """That were never begun: taken back, or asked for again."""
    partials_stopped: int = 0
    """That gave way to a final."""


class _Job(Struct):
    audio: Callable[[], bytes]
    beams: int
    draft: Sequence[int]
    result: asyncio.Future[Transcript]
    stop: Event


class Recognizer:
    """Transcribes pieces of speech on a few worker threads, as a `Schedule` says.

    Belongs to one event loop. Close it with `aclose`, or use it as a context manager.
    """

    def __init__(self, model: Model, workers: int | None = None) -> None:
        workers = workers or cores()
        self.counts = Counts()
        self._model = model
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="recognizer")
        self._schedule = Schedule(workers)
        self._waiting: dict[Work, _Job] = {}
        self._running: dict[Work, _Job] = {}
        self._alarm: TimerHandle | None = None

    @classmethod
    def load(cls, store: ModelStore, workers: int | None = None) -> Self:
        """Load the model; `workers` threads decode, one a core by default.

        Raises:
            ModelError: a model file is missing or damaged.
        """
        return cls(Moonshine.load(store), workers)

    def delay_s(self) -> float:
        """Return how long finals wait for a thread at present."""
        return self._schedule.delay_s(asyncio.get_running_loop().time())

    async def transcribe(self, pcm: bytes, *, final: bool, due_in_s: float = 0.0) -> Transcript:
        """Return what is said in `pcm`, 16 kHz mono PCM16 of at most 30 s.

        Finals wait for a free thread in the order in which somebody begins to wait for them, which is in
        `due_in_s`. A conversation has two at a time at most, which bounds the queue. Cancelling stops the
        decoding at the next token.
        """
        if not final:
            return await self.partial(object(), lambda: pcm)
        now = asyncio.get_running_loop().time()
        return await self._result(self._schedule.final(now + due_in_s), lambda: pcm, _FINAL_BEAMS, ())

    async def partial(
        self,
        owner: Hashable,
        audio: Callable[[], bytes],
        draft: Sequence[int] = (),
        due_in_s: float = 0.0,
    ) -> Transcript:
        """Return what is said in the audio there is when its turn comes; `NOTHING` where it gives way.

        It gives way to finals, and to the next one of the same owner while it waits. Those go first that are
        due first. `draft` is what was recognised in the beginning of the audio.
        """
        now = asyncio.get_running_loop().time()
        work, before = self._schedule.partial(owner, now + due_in_s)
        if before:
            self.counts.partials_replaced += 1
            self._waiting.pop(before).result.set_result(NOTHING)
        return await self._result(work, audio, _PARTIAL_BEAMS, draft)

    async def _result(
        self, work: Work, audio: Callable[[], bytes], beams: int, draft: Sequence[int]
    ) -> Transcript:
        job = _Job(audio, beams, draft, asyncio.get_running_loop().create_future(), Event())
        self._waiting[work] = job
        self._go_on()
        try:
            return await job.result
        except asyncio.CancelledError:
            job.stop.set()
            self._withdraw(work)
            raise

    def _withdraw(self, work: Work) -> None:
        if self._schedule.withdraw(work):
            self.counts.partials_replaced += not work.is_final
            self._waiting.pop(work).result.cancel()

    def _go_on(self) -> None:
        """Give the threads what they are to do now."""
        loop = asyncio.get_running_loop()
        while work := self._schedule.begin(loop.time()):
            job = self._running[work] = self._waiting.pop(work)
            done = loop.run_in_executor(
                self._threads, self._model.transcribe, job.audio(), job.stop, job.beams, job.draft
            )
            done.add_done_callback(functools.partial(self._ended, work))
        for work in self._schedule.give_way():
            self.counts.partials_stopped += 1
            self._running[work].stop.set()
        if self._alarm:
            self._alarm.cancel()
        wake_at = self._schedule.wake_at()
        self._alarm = loop.call_at(wake_at, self._go_on) if wake_at < float("inf") else None

    def _ended(self, work: Work, done: asyncio.Future[Transcript]) -> None:
        job = self._running.pop(work)
        self._schedule.end(work, asyncio.get_running_loop().time())
        self.counts.finals += work.is_final
        self.counts.partials += not work.is_final and not job.stop.is_set()
        error = done.exception()
        if job.result.done():  # who asked has left
            pass
        elif error:
            job.result.set_exception(error)
        else:
            job.result.set_result(done.result())
        self._go_on()

    async def aclose(self) -> None:
        """Wait for what is being decoded, take back what waits, and end the threads."""
        for work in tuple(self._waiting):
            self._withdraw(work)
        if self._alarm:
            self._alarm.cancel()
        await asyncio.to_thread(self._threads.shutdown)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def cores() -> int:
    """Return how many cores this process may use."""
    # macOS has no affinity.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
