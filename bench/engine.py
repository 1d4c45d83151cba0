"""How many conversations the embedded engine carries on one core: its process, by the gateway's own client.

    python -m bench.engine [--conversations N] [--seconds S] [--core K] [--search] [--beyond B]

The engine has one core to itself and this load the others. Each conversation leaves its microphone open in
real time, in chunks of 100 ms: it speaks an utterance of a recording, waits for the answer to be over, is
silent for a moment and speaks the next. They begin one after the other over the first seconds, which do not
count. A final is late by the time from the end of speech, as the engine names it in the audio, to the final
result; a partial by that from the beginning of speech. `--beyond` tries to open so many more in the middle.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import numpy as np
import psutil
from msgspec import Struct, field

from antiphon import live
from antiphon.errors import GatewayError, first_of
from antiphon.gemini.client import Gemini, Upstream
from antiphon.gemini.profiles import EMBEDDED, Voice
from antiphon.gemini.stream import ModelStream
from bench import machine
from recordings import recordings, word_errors, words

CHUNK_S: Final = 0.1
CHUNK_BYTES: Final = 3_200
STAGGER_S: Final = 8.0
SHORTEST_S: Final = 3.0
LONGEST_S: Final = 8.0
ANSWER_S: Final = 15.0
"""Nobody waits longer for an answer to be over."""
GOAL_S: Final = 1.5
COLUMNS: Final = (
    "conversations",
    "finals",
    "late: p50 / p95 / max",
    "first partial: p50 / p95 / max",
    "a partial every",
    "partials replaced + stopped",
    "WER",
    "CPU (others on that core)",
    "load's own delay",
    "refused, ended",
)
SEARCHED: Final = (4, 6, 8, 10, 12, 14, 16, 20, 24)


class Utterance(Struct, frozen=True):
    """What is said in one go, and its words where they are known."""

    pcm: bytes
    reference: str | None = None


class Tally(Struct):
    """What was measured, in seconds, after the first `STAGGER_S`."""

    finals: list[float] = field(default_factory=list)
    first_partials: list[float] = field(default_factory=list)
    partials: int = 0
    spoken_s: float = 0.0
    behind_s: float = 0.0
    """How late this load itself has sent a chunk, at worst."""
    unanswered: int = 0
    wrong: int = 0
    words: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)


class Speaker:
    """One conversation."""

    def __init__(self, utterances: Sequence[Utterance], tally: Tally, chance: random.Random) -> None:
        self._utterances = utterances
        self._tally = tally
        self._chance = chance
        self._loop = asyncio.get_running_loop()
        self._began = 0.0
        self._count_from = 0.0
        self._asked = False
        self._answered = asyncio.Event()
        self._edge: tuple[bool, float] | None = None
        self._heard: list[str] = []

    async def run(self, gemini: Gemini, number: int, delay_s: float, count_from: float, until: float) -> None:
        await asyncio.sleep(delay_s)
        self._count_from = count_from
        try:
            async with gemini.connect(live.Setup("en-US")) as stream, asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(self._listen(stream))
                await self._speak(stream, number, until)
                listening.cancel()
        except* GatewayError as group:
            error = first_of(group)
            assert isinstance(error, GatewayError)
            self._tally.ended[error.code] += 1

    async def _speak(self, stream: ModelStream, number: int, until: float) -> None:
        self._began = self._loop.time()
        sent = 0

        async def send(pcm: bytes) -> None:
            nonlocal sent
            sent += 1
            due = self._began + sent * CHUNK_S
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            self._tally.behind_s = max(self._tally.behind_s, self._loop.time() - due)
            await stream.send(live.Audio(pcm))

        turn = number
        while self._loop.time() < until:
            for _ in range(self._chance.randrange(5, 20)):
                await send(bytes(CHUNK_BYTES))
            utterance = self._utterances[turn % len(self._utterances)]
            turn += 1
            self._answered.clear()
            self._heard.clear()
            counts = self._loop.time() >= self._count_from
            for start in range(0, len(utterance.pcm), CHUNK_BYTES):
                await send(utterance.pcm[start : start + CHUNK_BYTES].ljust(CHUNK_BYTES, b"\0"))
            give_up_at = self._loop.time() + ANSWER_S
            while not self._answered.is_set() and self._loop.time() < give_up_at:
                await send(bytes(CHUNK_BYTES))
            if counts:
                self._count(utterance)

    def _count(self, utterance: Utterance) -> None:
        self._tally.spoken_s += len(utterance.pcm) / 32_000
        self._tally.unanswered += not self._answered.is_set()
        if utterance.reference:
            self._tally.wrong += word_errors(utterance.reference, " ".join(self._heard))
            self._tally.words += len(words(utterance.reference))

    async def _listen(self, stream: ModelStream) -> None:
        async for event in stream:
            now = self._loop.time()
            counts = now >= self._count_from
            match event:
                case live.VoiceActivity(started=started, at_ms=at_ms) if at_ms is not None:
                    self._edge = (started, self._began + at_ms / 1000)
                    if started:  # over the answer to what was said before
                        self._asked = False
                case live.Heard(final=True, whole=whole):
                    self._heard.append(whole or "")
                    self._asked = True
                    self._late(self._tally.finals, started=False, now=now)
                case live.Heard():
                    self._tally.partials += counts
                    self._late(self._tally.first_partials, started=True, now=now)
                case live.TurnEnded() if self._asked:
                    self._answered.set()
                case _:
                    pass

    def _late(self, times: list[float], *, started: bool, now: float) -> None:
        """Note how long after the last edge of speech something comes, if it is the first of its kind."""
        if self._edge and self._edge[0] is started:
            if self._edge[1] >= self._count_from:
                times.append(now - self._edge[1])
            self._edge = None


def all_utterances() -> list[Utterance]:
    """Return the recordings, the long one cut at its pauses into what one says in a turn."""
    found = []
    for one in recordings():
        if one.seconds <= LONGEST_S:
            found.append(Utterance(one.pcm, one.reference))
            continue
        found += [Utterance(pcm) for pcm in cut(one.pcm)]
    return found


def cut(pcm: bytes) -> list[bytes]:
    """Cut speech into pieces of `SHORTEST_S` to `LONGEST_S`, each where it is quietest."""
    pieces = []
    while len(pcm) > LONGEST_S * 32_000:
        samples = np.frombuffer(pcm, np.int16)[int(SHORTEST_S * 16_000) : int(LONGEST_S * 16_000)]
        power = np.square(samples.astype(np.float64)).reshape(-1, 320).mean(axis=1)
        quiet = np.convolve(power, np.ones(10), "valid").argmin() + 5
        end = (int(SHORTEST_S * 16_000) + int(quiet) * 320) * 2
        pieces.append(pcm[:end])
        pcm = pcm[end:]
    return [*pieces, pcm]


@asynccontextmanager
async def engine(core: int, conversations: int) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run the engine on one core, and this process on the others; yield it and its address."""
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})  # which a child inherits
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "antiphon.engine", "--port", "0"),
            *("--max-conversations", str(conversations)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    finally:
        os.sched_setaffinity(0, everywhere - {core} or everywhere)
    try:
        assert process.stdout
        line = (await process.stdout.readline()).decode()
        if not line.startswith("engine ready on "):
            raise SystemExit("The engine did not start; `antiphon engine` says why.")
        yield process, line.split()[-1]
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()
        os.sched_setaffinity(0, everywhere)


async def measure(conversations: int, seconds: float, core: int, beyond: int) -> tuple[Tally, dict[str, Any]]:
    """Hold conversations, and return what was measured of them and of the engine's process."""
    tally = Tally()
    said = all_utterances()
    loop = asyncio.get_running_loop()
    async with engine(core, conversations) as (process, target):
        gemini = Gemini(Upstream(target, tls=False, voice=Voice(EMBEDDED), tries=1))
        count_from = loop.time() + STAGGER_S
        until = count_from + seconds
        async with asyncio.TaskGroup() as tasks:
            for number in range(conversations):
                speaker = Speaker(said, tally, random.Random(number))  # noqa: S311 (the same each time)
                delay_s = STAGGER_S * number / conversations
                tasks.create_task(speaker.run(gemini, 3 * number, delay_s, count_from, until))
            await asyncio.sleep(STAGGER_S)
            watched = psutil.Process(process.pid)
            before, busy_before, began = watched.cpu_times(), busy_s(core), loop.time()
            if beyond:
                tasks.create_task(_one_too_many(gemini, beyond, tally, seconds / 2))
            await asyncio.sleep(max(0.0, until - loop.time()))
            after, measured_s = watched.cpu_times(), loop.time() - began
            own_s = after.user + after.system - before.user - before.system
            others_s = busy_s(core) - busy_before - own_s
            told = {"cpu": own_s / measured_s, "others": max(0.0, others_s) / measured_s}
        await gemini.aclose()
        process.terminate()
        _, log = await process.communicate()
    for line in log.decode().splitlines():
        _, found, counts = line.partition("recognition: ")
        if found:
            told.update(json.loads(counts))
    return tally, told


async def _one_too_many(gemini: Gemini, times: int, tally: Tally, after_s: float) -> None:
    await asyncio.sleep(after_s)
    for _ in range(times):
        try:
            async with gemini.connect(live.Setup("en-US")):
                tally.refused["let in"] += 1
        except GatewayError as error:
            tally.refused[error.code] += 1


def busy_s(core: int) -> float:
    """Return for how many seconds a core has worked, for whomever."""
    times = psutil.cpu_times(percpu=True)[core]
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def spread(values: Sequence[float]) -> str:
    """Return median, 95th percentile and worst."""
    if not values:
        return "-"
    middle, high = np.percentile(values, (50, 95))
    return f"{middle:.2f} / {high:.2f} / {max(values):.2f} s"


def row(conversations: int, tally: Tally, told: dict[str, Any]) -> str:
    rate = f"{tally.wrong / tally.words:.1%}" if tally.words else "-"
    rhythm = f"{tally.spoken_s / tally.partials:.1f} s" if tally.partials else "-"
    other = {**tally.ended, **tally.refused, **({"unanswered": tally.unanswered} if tally.unanswered else {})}
    notes = ", ".join(f"{count} {what}" for what, count in other.items()) or "none"
    cells = (
        str(conversations),
        str(len(tally.finals)),
        spread(tally.finals),
        spread(tally.first_partials),
        rhythm,
        f"{told.get('partials_replaced', '?')} + {told.get('partials_stopped', '?')}",
        rate,
        f"{told['cpu']:.0%} ({told['others']:.0%})",
        f"{tally.behind_s * 1000:.0f} ms",
        notes,
    )
    return f"| {' | '.join(cells)} |"


async def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--conversations", type=int, default=8, help="at once (%(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (%(default)g)")
    parser.add_argument("--core", type=int, default=0, help="the engine's core (%(default)s)")
    parser.add_argument("--beyond", type=int, default=2, help="more to try beyond the limit (%(default)s)")
    parser.add_argument("--search", action="store_true", help="more and more, until finals are too late")
    args = parser.parse_args()
    load = " ".join(f"{one:.2f}" for one in os.getloadavg())
    print(f"{machine.describe()}; load before: {load}; the engine on core {args.core} alone\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    for conversations in SEARCHED if args.search else (args.conversations,):
        tally, told = await measure(conversations, args.seconds, args.core, args.beyond)
        print(row(conversations, tally, told), flush=True)
        if args.search and (not tally.finals or np.percentile(tally.finals, 95) > GOAL_S):
            break
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
