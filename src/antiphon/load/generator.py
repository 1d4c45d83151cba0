"""Many sessions on one event loop: opened, sent for by one timer, measured, closed."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from antiphon.load.connection import LoadError, Session, Target
from antiphon.load.histogram import Histogram
from antiphon.load.schedule import Wheel
from antiphon.load.speech import Voice
from antiphon.load.tally import Tally
from antiphon.load.verdict import Measurement

AT_A_TIME: Final = 32
"""Connections that are being opened at once."""
GRACE_S: Final = 1.0
"""How long answers to a window's chunks are waited for after its end."""

PROGRESS_S: Final = 0.25
HEAD_START_S: Final = 0.5
"""How long after the start of its stream a session begins to speak."""

_LEAST_TICK_S: Final = 0.001
"""The event loop's clock is no finer."""
_LOOK_S: Final = 0.02
_LEAVE_S: Final = 3.0

Progress = Callable[[float], None]
"""Is told how many sessions are open, or how many seconds of a measurement are over."""


class Generator:
    """Sessions before one gateway. Use as a context manager: at its end all are closed."""

    def __init__(self, target: Target, voice: Voice) -> None:
        self.tally = Tally()
        self.set_up = Histogram()
        """From the connection's opening until the token was taken."""
        self._target = target
        self._voice = voice
        self._sessions: list[Session] = []
        self._opened = 0
        self._wheel: Wheel[Session] = Wheel(voice.chunk_s, time.perf_counter())
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Generator:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.resize(0)
        self.pause()

    @property
    def sessions(self) -> int:
        """How many there are, lost ones too."""
        return len(self._sessions)

    async def resize(
        self,
        sessions: int,
        *,
        speaking: bool = True,
        a_second: float = float("inf"),
        progress: Progress | None = None,
    ) -> None:
        """Open or close sessions until there are so many, at most `a_second` of them in a second.

        Raises:
            LoadError: one cannot be opened.
        """
        if sessions < len(self._sessions):
            await self._close(self._sessions[sessions:])
            del self._sessions[sessions:]
        begin_s = time.perf_counter()
        fresh: list[Session] = []
        while len(self._sessions) < sessions:
            opening = [self._open() for _ in range(min(AT_A_TIME, sessions - len(self._sessions)))]
            # Gathered, not grouped: one sentence is to come out of it, and none of it is left behind.
            opened = await asyncio.gather(*opening, return_exceptions=True)
            found = [session for session in opened if isinstance(session, Session)]
            self._sessions += found
            for failure in opened:
                if isinstance(failure, BaseException):
                    raise failure
            if speaking:
                for session in found:
                    session.start()
            fresh += found
            if progress:
                progress(len(fresh))
            await asyncio.sleep(max(0.0, begin_s + len(fresh) / a_second - time.perf_counter()))
        if speaking and fresh:
            await self._let_speak(fresh)

    async def speak(self, chunks: int | None = None) -> list[Session]:
        """Let the sessions speak that do not yet, so many chunks or without end; return them."""
        speaking = set(self._wheel)
        silent = [session for session in self._sessions if session not in speaking]
        for session in silent:
            session.start(chunks)
        await self._let_speak(silent)
        return silent

    async def _let_speak(self, sessions: list[Session]) -> None:
        # By then the model's side is open: what was said before would wait, and be answered all at once.
        await asyncio.sleep(HEAD_START_S)
        for session in sessions:
            self._wheel.add(session, time.perf_counter())
        self.resume()

    def resume(self) -> None:
        """Let chunks be sent, where none are."""
        if self._timer is None:
            self._wheel.skip(time.perf_counter())
            self._tick()

    def pause(self) -> None:
        """Let no more chunks be sent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def measure(
        self, seconds: float, settle_s: float = 0.0, progress: Progress | None = None
    ) -> Measurement:
        """Return what came of the chunks that were due in so many seconds, from now or a while later on."""
        begin_s = time.perf_counter() + settle_s
        self.tally.open(len(self._sessions), begin_s, begin_s + seconds)
        await asyncio.sleep(settle_s)
        cpu_s = time.process_time()
        while (left_s := begin_s + seconds - time.perf_counter()) > 0:
            await asyncio.sleep(left_s if progress is None else min(left_s, PROGRESS_S))
            if progress:
                progress(min(seconds, time.perf_counter() - begin_s))
        cpu_s = time.process_time() - cpu_s
        if self._target.answers != "none":
            for _ in range(round(GRACE_S / _LOOK_S)):
                if not self.tally.outstanding:
                    break
                await asyncio.sleep(_LOOK_S)
        measured = self.tally.close()
        measured.cpu_s = cpu_s
        return measured

    @property
    def lost(self) -> int:
        """Sessions whose connection was lost."""
        return sum(session.is_lost for session in self._sessions)

    def _tick(self) -> None:
        now_s = time.perf_counter()
        for session, due_s in self._wheel.due(now_s):
            session.speak(due_s, now_s)
        wait_s = max(_LEAST_TICK_S, self._wheel.wait_s(time.perf_counter()))
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._tick)

    async def _open(self) -> Session:
        number, self._opened = self._opened, self._opened + 1
        target = self._target
        session = Session(number, target, self._voice, self.tally)
        parts = urlsplit(target.url)
        secure = parts.scheme == "wss"
        begin_s = time.perf_counter()
        try:
            async with asyncio.timeout(target.timeout_s):
                await asyncio.get_running_loop().create_connection(
                    lambda: session,
                    parts.hostname or "",
                    parts.port or (443 if secure else 80),
                    ssl=target.tls if secure else None,
                    server_hostname=parts.hostname if secure else None,
                )
                await session.ready
        except TimeoutError:
            session.leave()
            raise LoadError(f"A session was not open within {target.timeout_s:g} seconds.") from None
        except ssl.SSLError as error:
            why = getattr(error, "verify_message", None) or error.reason
            raise LoadError(f"{target.url} cannot be reached securely: {why}.") from None
        except ConnectionRefusedError:
            raise LoadError(f"Nothing listens at {target.url}; is the gateway running?") from None
        except OSError as error:
            raise LoadError(f"{target.url} cannot be reached: {error.strerror or error}.") from None
        except LoadError:
            session.leave()
            raise
        self.set_up.add(time.perf_counter() - begin_s)
        return session

    async def _close(self, sessions: list[Session]) -> None:
        speaking = set(self._wheel)
        for session in sessions:
            if session in speaking:
                self._wheel.remove(session)
            session.leave()
        waits = [session.gone for session in sessions if not session.gone.done()]
        if waits:
            await asyncio.wait(waits, timeout=_LEAVE_S)
