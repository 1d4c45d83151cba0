"""`antiphon bench`: what it takes, and what it ends with."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import ssl
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from antiphon import event_loop
from antiphon.audio.recording import Recording, RecordingError
from antiphon.load import report
from antiphon.load.connection import Answers, LoadError, Target
from antiphon.load.generator import Generator
from antiphon.load.report import Outcome
from antiphon.load.speech import Voice, noise
from antiphon.load.turns import Turns, take_turns
from antiphon.load.verdict import Limits, judge

SETTLE_S: Final = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `antiphon bench` takes."""
    parser.epilog = (
        "By default every session says noise in the shape of speech, and what is measured is how long it "
        "takes until a chunk is acknowledged (antiphon.v1 only). With --file a recording is said to its end, "
        "again and again, and the times to the final transcript and to the first audio of the answer are "
        "measured. A gateway allows a user 5 connections unless it is told otherwise: without --token, on "
        "the machine of the gateway, each session is of a user of its own."
    )
    parser.add_argument(
        "url",
        nargs="?",
        metavar="URL",
        default=os.environ.get("ANTIPHON_URL", "ws://127.0.0.1:8080/ws"),
        help="the gateway (ANTIPHON_URL, default ws://127.0.0.1:8080/ws)",
    )
    parser.add_argument("--sessions", type=_count, default=10, metavar="N", help="sessions at once (10)")
    parser.add_argument(
        "--seconds", type=_positive, default=10.0, metavar="S", help="how long is measured (10)"
    )
    parser.add_argument(
        "--ramp", type=_positive, default=50.0, metavar="N", help="sessions opened a second (50)"
    )
    parser.add_argument(
        "--token",
        action="append",
        help="who speaks (ANTIPHON_TOKEN); several times: used in turn, a session each",
    )
    parser.add_argument("--file", type=Path, metavar="FILE", help="a sound file that every session says")
    parser.add_argument(
        "--format", choices=("LINEAR16", "FLAC"), default="LINEAR16", help="how audio is sent (LINEAR16)"
    )
    parser.add_argument(
        "--chunk-ms", type=int, choices=(20, 40, 100), default=100, help="audio in a message (100)"
    )
    parser.add_argument("--language", default="en-US", metavar="TAG", help="what is spoken (en-US)")
    parser.add_argument("--base", action="store_true", help="speak the base messages only, not antiphon.v1")
    parser.add_argument("--binary", action="store_true", help="send and take audio as binary frames")
    parser.add_argument(
        "--answers",
        choices=("number", "audio", "ack", "none"),
        help="what answers a chunk: a transcript that is its number, 100 ms of audio for each 100 ms, an "
        "acknowledgement (ack; without --base), nothing (none; with --base or --file)",
    )
    parser.add_argument(
        "--p99-ms", type=_positive, metavar="MS", help="fail when answers take longer than this (p99)"
    )
    parser.add_argument("--ca", type=Path, metavar="FILE", help="PEM file of whom to trust with wss://")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with tables and plots")


def run(args: argparse.Namespace, tokens: Sequence[str]) -> int:
    """Load the gateway; return the exit status: 0 nothing went wrong, 1 something did, 130 interrupted."""
    try:
        return event_loop.run(bench(args, tokens))
    except (LoadError, RecordingError) as error:
        print(f"antiphon: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


async def bench(args: argparse.Namespace, tokens: Sequence[str]) -> int:
    """Load the gateway, print what came of it, and return the exit status.

    Raises:
        LoadError, RecordingError: with a sentence for the terminal.
    """
    voice = _voice(args)
    target = _target(args, tokens)
    chunks = voice.count if args.file else None
    _raise_limits(args.sessions)
    turns = Turns() if args.file else None
    with _progress() as progress:
        async with Generator(target, voice) as load:
            opening = progress.add_task("Opening sessions", total=args.sessions)
            await load.resize(
                args.sessions,
                speaking=not chunks,
                a_second=args.ramp,
                progress=lambda count: progress.update(opening, completed=count),
            )
            measuring = progress.add_task("Measuring", total=args.seconds)

            def over(seconds: float) -> None:
                progress.update(measuring, completed=seconds)

            if turns and chunks:
                window = asyncio.create_task(load.measure(args.seconds))
                try:
                    await take_turns(load, chunks, args.seconds, turns, over)
                finally:
                    measured = await window
            else:
                measured = await load.measure(args.seconds, SETTLE_S, over)
            texts = load.tally.texts
    verdict = judge(measured, _limits(args, target))
    outcome = Outcome(args.url, target.answers, load.set_up, measured, texts, verdict, turns)
    _show(outcome)
    if args.html:
        try:
            args.html.write_text(report.page(outcome, _machine()))
        except OSError as error:
            raise LoadError(f"{args.html} cannot be written: {error.strerror}.") from None
        print(f"The page is {args.html}.")
    unanswered = turns.unanswered if turns else 0
    return 0 if verdict.passed and not unanswered else 1


def _voice(args: argparse.Namespace) -> Voice:
    recording = Recording.read(args.file) if args.file else None
    return Voice(
        recording.pcm if recording else noise(),
        rate_hz=recording.rate_hz if recording else 16_000,
        chunk_ms=args.chunk_ms,
        audio_format=args.format,
        as_binary=args.binary,
    )


def _target(args: argparse.Namespace, tokens: Sequence[str]) -> Target:
    parts = urlsplit(args.url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise LoadError(f"{args.url} is not the address of a gateway; one looks like ws://127.0.0.1:8080/ws.")
    if not tokens:
        raise LoadError(
            "There is no token: give --token, set ANTIPHON_TOKEN or ANTIPHON_JWT_SECRET, or start a gateway "
            "on this machine with `antiphon serve`."
        )
    if args.binary and args.base:
        raise LoadError("--binary is of antiphon.v1: leave --base out.")
    answers: Answers = args.answers or ("none" if args.base or args.file else "ack")
    if answers == "ack" and args.base:
        raise LoadError("Acknowledgements are of antiphon.v1: leave --base out, or say --answers none.")
    try:
        tls = ssl.create_default_context(cafile=args.ca) if parts.scheme == "wss" else None
    except OSError as error:
        raise LoadError(f"{args.ca} cannot be used: {error.strerror or error}.") from None
    return Target(
        args.url,
        tuple(tokens),
        extended=not args.base,
        as_binary=args.binary,
        answers=answers,
        answer_bytes=48 * args.chunk_ms,
        language=args.language,
        tls=tls,
    )


def _limits(args: argparse.Namespace, target: Target) -> Limits:
    least = 0.0 if target.answers == "none" else Limits().answered_share
    return Limits(p99_s=args.p99_ms / 1000 if args.p99_ms else float("inf"), answered_share=least)


def _raise_limits(sessions: int) -> None:
    """Allow this process as many sockets as it needs, where there is such a limit."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = sessions + 100
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise LoadError(
            f"This machine allows a process {hard} files, too few for {sessions} sessions (ulimit -n)."
        )
    if wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def _progress() -> Iterator[Progress]:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress


def _show(outcome: Outcome) -> None:
    head, *rows = report.rows(outcome)
    table = Table(head[0])
    for name in head[1:]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    for sentence in report.sentences(outcome):
        print(sentence)


def _machine() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, measured from {platform.system()} ({platform.machine()})"


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise ValueError
    return value
