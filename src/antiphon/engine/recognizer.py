"""Speech to text for every conversation: one model in memory, a few threads, finals before partials."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from types import TracebackType
from typing import Final, Protocol, Self

from antiphon.engine.models import ModelStore
from antiphon.engine.moonshine import NOTHING, Moonshine, Transcript

__all__ = ["NOTHING", "Recognizer", "Transcript"]

_FINAL_BEAMS: Final = 4
_PARTIAL_BEAMS: Final = 1


class Model(Protocol):
    """What turns speech into text; used from several threads at once."""

    def transcribe(self, pcm: bytes, stop: Event, beams: int) -> Transcript:
        """Return what is said in `pcm`, or `NOTHING` soon after `stop` is set."""
        ...


class Recognizer:
    """Transcribes pieces of speech on a few worker threads, finals before partials.

    Belongs to one event loop. Close it with `aclose`, or use it as a context manager.
    """

    def __init__(self, model: Model, workers: int | None = None) -> None:
        workers = workers or os.cpu_count() or 1
        self._model = model
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="recognizer")
        self._slots = asyncio.Semaphore(workers)
        self._partials: set[Event] = set()

    @classmethod
    def load(cls, store: ModelStore, workers: int | None = None) -> Self:
        """Load the model; `workers` threads decode, one a core by default.

        Raises:
            ModelError: a model file is missing or damaged.
        """
        return cls(Moonshine.load(store), workers)

    @property
    def busy(self) -> bool:
        """Whether a final would have to wait now, and a partial is not worth asking for."""
        return self._slots.locked()

    async def transcribe(self, pcm: bytes, *, final: bool) -> Transcript:
        """Return what is said in `pcm`, 16 kHz mono PCM16 of at most 30 s.

        Finals wait for a free thread in the order they came; a conversation has one at a time, which
        bounds the queue. A partial never waits, and gives way to a final: it then comes back as
        `NOTHING`. Cancelling stops the decoding at the next token.
        """
        if self._slots.locked():
            if not final:
                return NOTHING
            for stop in self._partials:
                stop.set()
        async with self._slots:
            stop = Event()
            if not final:
                self._partials.add(stop)
            try:
                beams = _FINAL_BEAMS if final else _PARTIAL_BEAMS
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._threads, self._model.transcribe, pcm, stop, beams)
            finally:
                stop.set()
                self._partials.discard(stop)

    async def aclose(self) -> None:
        """Wait for what is being decoded, and end the threads."""
        await asyncio.to_thread(self._threads.shutdown)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
