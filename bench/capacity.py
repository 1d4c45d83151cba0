"""How much a core carries, side by side: Antiphon, a FastAPI bridge, a Node bridge, HAProxy.

    python -m bench.capacity [--rounds N] [--systems antiphon,fastapi] [--mode up|updown|both] [--quick]

Each system in turn is alone on one processor; load and upstreams share the others. Every session sends 100 ms
of audio ten times a second and is answered for each. Rounds go through all systems, so that a machine that
changes its mind meanwhile does so for all. Settings of the gateway (ANTIPHON_*) may be given in the
environment; the Python that has FastAPI in BENCH_PYTHON. Names of systems: see bench/systems.py.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

import psutil
from msgspec.structs import replace

from antiphon import event_loop
from antiphon.load import Answers, Generator, Limits, LoadError, Target, Voice
from antiphon.load.speech import noise
from bench import machine, measuring, replies, systems, tables
from bench.systems import Cores, LeftOut, Place, Running, System
from bench.tables import Results

WHAT: Final = ("cpu", "memory", "capacity", "latency")
FIRST_GUESS: Final = 200
QUIET: Final = 0.05
"""What others may take of a processor before a word is said of it."""


async def main() -> int:
    args = _arguments()
    print(machine.describe(), flush=True)
    cores = Cores.of_this_machine()
    if cores.ours == cores.theirs:
        print("This machine has one processor: load and system share it, and no number means much.")
    os.sched_setaffinity(0, cores.ours)
    systems.raise_limits()
    gc.disable()  # a pause of the generator would count as latency
    modes: Sequence[str] = ("up", "updown") if args.mode == "both" else (args.mode,)
    tried = []
    with tempfile.TemporaryDirectory() as folder:
        for mode in modes:
            bench = Bench(args, mode, cores, Path(folder))
            results = await bench.run()
            tables.show(results)
            tried.append(results)
    if args.html:
        args.html.write_text(tables.page(tried, machine.describe()))
        print(f"\nThe plot is in {args.html}.")
    return 0 if all(tables.reached(results) for results in tried) else 1


class Bench:
    """All rounds of one mode."""

    def __init__(self, args: argparse.Namespace, mode: str, cores: Cores, folder: Path) -> None:
        self._args = args
        self._mode = mode
        self._cores = cores
        self._folder = folder
        self._left_out: set[str] = set()
        self._guesses: dict[str, int] = {}
        self._results = Results(mode, args.sessions)

    async def run(self) -> Results:
        """Measure; what cannot be is left out with a sentence."""
        for number in range(self._args.rounds):
            names = [name for name in self._args.systems if name not in self._left_out]
            # Each round begins with another one.
            for name in names[number % len(names) :] + names[: number % len(names)] if names else ():
                self._say = _Progress(f"{self._mode}, round {number + 1}/{self._args.rounds}, {name}")
                try:
                    await self._measure(systems.SYSTEMS[name], number)
                except LeftOut as error:
                    self._left_out.add(name)
                    print(f"{name} is left out. {error}", flush=True)
                except LoadError as error:
                    self._say(f"no result. {error}")
                except (psutil.Error, FileNotFoundError, ProcessLookupError):
                    self._say("no result. Its process ended.")
                gc.collect()
        return self._results

    async def _measure(self, system: System, number: int) -> None:
        args, results, say = self._args, self._results, self._say
        async with self._running(system) as (running, load):
            watch = measuring.Watch(running, self._cores.theirs)
            if "memory" in args.only:
                memory = await measuring.memory(load, running, args.sessions)
                results.add(system.name, number, idle_kb=memory.idle_kb)
                if memory.load_kb is None:
                    say(f"{memory.idle_kb:.1f} KB a session idle; it cannot carry so many at load")
                    await measuring.recover(load)
                else:
                    say(f"{memory.idle_kb:.1f} KB a session idle, {memory.load_kb:.1f} KB at load")
                    results.add(system.name, number, load_kb=memory.load_kb)
            if "cpu" in args.only:
                cost = await measuring.cost(load, running, args.sessions, args.seconds)
                if cost.measured.answered_share >= Limits().answered_share:
                    say(
                        f"{cost.system_us:.0f} µs a chunk (generator {cost.generator_us:.0f}, "
                        f"upstream {cost.upstream_us:.0f}); {tables.told(cost.measured)}"
                    )
                    results.add(system.name, number, cpu_us=cost.system_us)
                else:
                    say(f"no cost: it cannot carry so many sessions; {tables.told(cost.measured)}")
                    await measuring.recover(load)
            if "capacity" in args.only:
                start = self._guesses.get(system.name, FIRST_GUESS)
                found = await measuring.capacity(load, start, args.rung_s, Limits(), say)
                say(f"carries {'' if found.bounded else 'at least '}{found.sessions} sessions")
                if found.sessions:
                    self._guesses[system.name] = max(4, round(found.sessions * 0.85))
                    results.add(system.name, number, sessions=found.sessions)
                results.rungs.setdefault(system.name, []).extend(found.rungs)
                if not found.bounded:
                    results.notes.add(
                        f"{system.name}: the generator was the limit in a round, not the system"
                    )
            if (foreign := watch.foreign_share()) > QUIET:
                say(f"others took {foreign:.0%} of its processor meanwhile")
                results.notes.add("The machine was not quiet: others used the processor of what was measured")
        if "latency" in args.only and system.name.startswith("antiphon"):
            await self._latency(system, number)

    async def _latency(self, system: System, number: int) -> None:
        """Measure what is added at half of the capacity: the system's latency less that of nothing at all."""
        sessions = max(4, self._guesses.get(system.name, FIRST_GUESS) * 100 // 85 // 2)
        found = []
        for each in (system, systems.DIRECT):
            async with self._running(each, like=system) as (_, load):
                measured = await measuring.latency(load, sessions, self._args.seconds)
            self._say(f"{each.name}, {sessions} sessions: {tables.told(measured)}")
            found.append([measured.latency.percentile(share) * 1000 for share in (0.5, 0.99)])
        through, alone = found
        self._results.add(
            system.name, number, added_p50_ms=through[0] - alone[0], added_p99_ms=through[1] - alone[1]
        )

    def _running(
        self, system: System, like: System | None = None
    ) -> AbstractAsyncContextManager[tuple[Running, Generator]]:
        """Run a system; with `like`, it is spoken to as another one is."""
        like = like or system
        chunk_ms = self._args.chunk_ms if like.chunk_ms == 100 else like.chunk_ms
        voice = Voice(noise(), chunk_ms=chunk_ms, audio_format=like.audio_format, as_binary=like.as_binary)
        return running(system, voice, "number" if self._mode == "up" else "audio", self._cores, self._folder)


@asynccontextmanager
async def running(
    system: System, voice: Voice, answers: Answers, cores: Cores, folder: Path
) -> AsyncIterator[tuple[Running, Generator]]:
    """Run upstreams, a system before them, and a generator before that, with no session yet."""
    chunk_bytes = round(voice.chunk_s * voice.rate_hz) * 2
    answer_bytes = round(voice.chunk_s * replies.ANSWER_RATE_HZ) * 2
    async with systems.upstreams(cores, answers, chunk_bytes, answer_bytes) as ports:
        place = Place(cores, ports, folder, os.environ.get("BENCH_PYTHON", sys.executable))
        async with system.start(place) as found:
            target = Target(
                found.url,
                (found.token,),
                extended=system.extended,
                as_binary=system.as_binary,
                answers=answers,
                answer_bytes=answer_bytes,
                tls=found.tls,
            )
            async with Generator(target, voice) as load:
                yield replace(found, upstream=ports.process), load


class _Progress:
    """Says what was found, one line each, behind what it is about."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __call__(self, sentence: str) -> None:
        print(f"{self._what}: {sentence}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often each system is measured")
    parser.add_argument(
        "--systems",
        type=_names,
        default=",".join(systems.DEFAULT),
        help=f"which are measured, of {', '.join(systems.SYSTEMS)}",
    )
    parser.add_argument(
        "--mode",
        choices=("up", "updown", "both"),
        default="both",
        help="what is answered: a number, or audio",
    )
    parser.add_argument(
        "--only", type=_what, default=",".join(WHAT), help=f"what is measured, of {', '.join(WHAT)}"
    )
    parser.add_argument(
        "--sessions", type=int, default=300, help="sessions at which cost and memory are measured"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="how long cost and latency are measured")
    parser.add_argument("--rung-s", type=float, default=4.0, help="how long each number of sessions is tried")
    parser.add_argument(
        "--chunk-ms", type=int, choices=(20, 40, 100), default=100, help="how long a chunk is"
    )
    parser.add_argument(
        "--quick", action="store_true", help="two rounds and shorter ones: a first impression"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with p99 against sessions")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seconds, args.rung_s = min(args.rounds, 2), 3.0, 2.0
    return args


def _names(text: str) -> list[str]:
    return _chosen(text, systems.SYSTEMS, "system")


def _what(text: str) -> list[str]:
    return _chosen(text, WHAT, "measurement")


def _chosen(text: str, known: Collection[str], kind: str) -> list[str]:
    chosen = [name.strip() for name in text.split(",") if name.strip()]
    for name in chosen:
        if name not in known:
            raise argparse.ArgumentTypeError(f"there is no {kind} {name!r}, only {', '.join(known)}")
    return chosen


if __name__ == "__main__":
    try:
        sys.exit(event_loop.run(main()))
    except KeyboardInterrupt:
        sys.exit(130)
