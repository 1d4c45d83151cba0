"""Whole turns: every session says a recording to its end, and waits for what is answered."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from msgspec import Struct, field

from antiphon.load.connection import Session
from antiphon.load.generator import Generator, Progress
from antiphon.load.histogram import Histogram

ANSWER_S: Final = 15.0
"""How long an answer is waited for."""
SILENT_S: Final = 1.0
"""An answer is over when nothing of it has come for so long: it comes at most 250 ms ahead of real time."""
_LOOK_S: Final = 0.05


class Turns(Struct):
    """What came of the turns, in seconds from the end of the recording."""

    to_final: Histogram = field(default_factory=Histogram)
    """To the last final transcript before the answer; 0 where that was there already."""
    to_audio: Histogram = field(default_factory=Histogram)
    """To the first audio of the answer."""
    said: int = 0
    unanswered: int = 0


async def take_turns(
    load: Generator, chunks: int, seconds: float, turns: Turns, progress: Progress | None = None
) -> None:
    """Let every session say recordings of so many chunks, until time is over and the last is answered."""
    begin_s = time.perf_counter()
    running = await load.speak(chunks)
    while running:
        await asyncio.sleep(_LOOK_S)
        now_s = time.perf_counter()
        if progress:
            progress(min(seconds, now_s - begin_s))
        for session in list(running):
            if session.is_lost or _is_over(session, now_s, turns):
                if session.is_lost or now_s - begin_s >= seconds:
                    running.remove(session)
                else:
                    session.start(chunks)


def _is_over(session: Session, now_s: float, turns: Turns) -> bool:
    """Return whether a session's turn is over, and count it if it is."""
    ended_s = session.ended_s
    if ended_s is None:
        return False
    if session.last_audio_s > ended_s:
        if now_s - session.last_audio_s < SILENT_S:
            return False
        turns.to_audio.add(max(0.0, session.first_audio_s - ended_s))
        turns.to_final.add(max(0.0, session.last_final_s - ended_s))
    elif now_s - ended_s > ANSWER_S:
        turns.unanswered += 1
    else:
        return False
    turns.said += 1
    return True
