"""`antiphon talk`: speak audio files to a gateway, show what it hears and answers.

All files go over one connection, one after the other, as turns of one conversation.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import wave
from email.message import Message as MimeHeader
from pathlib import Path
from typing import Final

from msgspec import UNSET
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from antiphon import event_loop
from antiphon.client import Client, ClientError, Closed, connect
from antiphon.messages import AudioResponse, Error, RecognitionResult, ServerMessage
from antiphon.recording import Recording, RecordingError

_TOKEN_CODES: Final = ("AUTH_TOKEN_INVALID", "AUTH_TOKEN_EXPIRED")


class TalkError(Exception):
    """What went wrong, as a sentence."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `antiphon talk` takes."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a WAV or FLAC file of any kind")
    parser.add_argument(
        "--url",
        default=os.environ.get("ANTIPHON_URL", "ws://127.0.0.1:8080/ws"),
        help="the gateway (ANTIPHON_URL, default ws://127.0.0.1:8080/ws)",
    )
    parser.add_argument(
        "--token",
        default=os.environ.get("ANTIPHON_TOKEN"),
        help="who speaks (ANTIPHON_TOKEN; a gateway of yours on this machine needs none)",
    )
    parser.add_argument(
        "--format", choices=("LINEAR16", "FLAC"), default="LINEAR16", help="how audio is sent"
    )
    parser.add_argument("--language", default="en-US", metavar="TAG", help="what is spoken (en-US)")
    parser.add_argument("--json", action="store_true", help="print each server message, one a line")
    parser.add_argument("--save", type=Path, metavar="DIR", help="write each answer to DIR/NAME.answer.wav")
    parser.add_argument("--fast", action="store_true", help="send faster than real time")


def run(args: argparse.Namespace) -> int:
    """Talk, and return the exit status: 0 all was answered, 1 it was not, 130 interrupted."""
    try:
        return event_loop.run(talk(args))
    except (ClientError, RecordingError, TalkError) as error:
        print(f"antiphon: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


async def talk(args: argparse.Namespace) -> int:
    """Speak the files, wait for the answers, and return the exit status.

    Raises:
        ClientError, RecordingError, TalkError: with a sentence for the terminal.
    """
    if not args.token:
        raise TalkError(
            "There is no token: give --token, set ANTIPHON_TOKEN, or start a gateway on this machine with "
            "`antiphon serve`."
        )
    recordings = [Recording.read(path) for path in args.files]
    status = 0
    with View(as_json=args.json) as view:
        try:
            async with connect(args.url, args.token, on_frame=view.frame) as client:
                for recording in recordings:
                    turn = await _converse(client, recording, args, view)
                    if complaint := turn.complaint(recording.path.name):
                        view.warn(complaint)
                        status = 1
        except ClientError as error:
            if error.code in _TOKEN_CODES:
                hint = "get a new one with `antiphon token --user NAME`."
                raise TalkError(f"The gateway at {args.url} refused the token; {hint}") from None
            raise
    return status


async def _converse(client: Client, recording: Recording, args: argparse.Namespace, view: View) -> Turn:
    """Speak one recording and listen until it is answered."""
    now = asyncio.get_running_loop().time
    # An engine hears at four times real time or better: what was sent faster than that, it may still hear.
    turn = Turn(behind_s=recording.duration_s / 4 * args.fast)
    keeper = Keeper(args.save / f"{recording.path.stem}.answer.wav") if args.save else None
    view.begin(recording.path.name, recording.duration_s)
    try:
        async with asyncio.TaskGroup() as tasks:
            try:
                async with asyncio.timeout(None) as patience:
                    tasks.create_task(_speak(client, recording, args, view, turn, patience))
                    async for message in client:
                        turn.receive(message, now())
                        patience.reschedule(turn.deadline)
                        view.show(message)
                        if keeper and isinstance(message, AudioResponse):
                            keeper.add(message)
                    raise client.closed()
            except TimeoutError:
                if not patience.expired():
                    raise
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group
    finally:
        if keeper:
            keeper.close()
        view.end()
    return turn


async def _speak(
    client: Client,
    recording: Recording,
    args: argparse.Namespace,
    view: View,
    turn: Turn,
    patience: asyncio.Timeout,
) -> None:
    """Send the recording, each chunk when a microphone would have it."""
    now = asyncio.get_running_loop().time
    begin = now()
    sent_s = 0.0
    try:
        await client.start(args.format, recording.rate_hz, args.language)
        for samples, data in recording.chunks(args.format):
            sent_s += samples / recording.rate_hz
            await asyncio.sleep(0 if args.fast else begin + sent_s - now())
            await client.send_audio(data)
            view.sent(sent_s)
        await client.end(recording.duration_s * 1000)
    except Closed:
        return  # Whoever listens is told the same, and with it what the gateway said last.
    turn.end(now())
    patience.reschedule(turn.deadline)


class Turn:
    """Know when an answer is over, which the base protocol does not say.

    Times are seconds on any one clock. An answer is over when all that came of it has played and `TAIL_S`
    went by without more. While one is due (at first, and after every result) `SILENCE_S` is waited for it,
    and `behind_s` more.
    """

    SILENCE_S = 8.0
    TAIL_S = 1.0
    SETTLE_S = 3.0
    """As TAIL_S, where nothing was heard since the end of speech: its last words may be on their way."""

    def __init__(self, behind_s: float = 0.0) -> None:
        self._behind_s = behind_s
        self._due = True
        self._heard = ""
        self._answered = False
        self._ended: float | None = None
        self._moved = 0.0
        self._playing_until = 0.0

    def end(self, now: float) -> None:
        """Note that all was sent."""
        self._ended = now

    def receive(self, message: ServerMessage, now: float) -> None:
        """Note what came."""
        match message:
            case AudioResponse(duration=duration_ms):
                self._moved = now
                self._playing_until = max(now, self._playing_until) + duration_ms / 1000
                self._due = False
                self._answered = True
            case RecognitionResult(transcript=transcript, is_final=True, command=command):
                self._moved = now
                # A final result comes once more when its command became known late.
                self._due |= command is UNSET or transcript != self._heard
                self._heard = transcript
            case RecognitionResult():
                self._moved = now
                self._due = True
            case _:
                pass

    @property
    def deadline(self) -> float | None:
        """When it is over, if nothing more comes; None while speech is being sent."""
        if self._ended is None:
            return None
        if self._due:
            wait_s = self.SILENCE_S + self._behind_s
        else:
            wait_s = self.TAIL_S if self._moved >= self._ended else self.SETTLE_S
        return max(self._ended, self._moved, self._playing_until) + wait_s

    def complaint(self, name: str) -> str | None:
        """Return what was missing, as a sentence."""
        if self._answered:
            return None
        if self._heard:
            return f"No answer came to {name}."
        return f"Nothing was recognised in {name}."


class Keeper:
    """Write an answer to a WAV file as it comes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: wave.Wave_write | None = None

    def add(self, piece: AudioResponse) -> None:
        header = MimeHeader()
        header["Content-Type"] = piece.format
        rate = str(header.get_param("rate"))
        if header.get_content_type() != "audio/pcm" or not rate.isdecimal():
            raise TalkError(f"The answer comes as {piece.format}, which cannot be saved as WAV.")
        try:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = wave.open(str(self._path), "wb")  # noqa: SIM115 (close() does)
                self._file.setparams((1, 2, int(rate), 0, "NONE", "not compressed"))
            self._file.writeframes(piece.data)
        except OSError as error:
            raise TalkError(f"{self._path} cannot be written: {error.strerror}.") from None

    def close(self) -> None:
        if self._file:
            self._file.close()


class View:
    """What is seen: results on stdout; what is provisional, in place, on stderr where that is a terminal."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._partial = ""
        self._heard = ""
        self._answer = ""
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[clock]}")
        )
        self._task = self._progress.add_task("", clock="")
        console = Console(stderr=True)
        self._live = Live(
            console=console,
            get_renderable=self._render,
            refresh_per_second=10,
            transient=True,
            # What is printed goes above it, unless stdout leads elsewhere.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._visible = console.is_terminal

    def __enter__(self) -> View:
        if self._visible:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def begin(self, name: str, duration_s: float) -> None:
        self._progress.reset(self._task, total=duration_s, description=_plain(name), clock="")

    def sent(self, sent_s: float) -> None:
        self._progress.update(self._task, completed=sent_s, clock=f"{sent_s:.1f} s")

    def frame(self, frame: bytes) -> None:
        """Take a frame as received. In JSON a line break can only stand between tokens."""
        if self._as_json:
            print(frame.decode(errors="replace").replace("\r", " ").replace("\n", " "), flush=True)

    def show(self, message: ServerMessage) -> None:
        match message:
            case RecognitionResult(is_final=False, transcript=transcript):
                self._partial = transcript
            case RecognitionResult(transcript=transcript, command=command):
                self._partial = ""
                named = f"[{command}]" if command is not UNSET else ""
                if not (named and transcript == self._heard):
                    self.end()
                    named = f"You: {transcript} {named}"
                self._heard = transcript
                self._print(named)
            case AudioResponse(text=text):
                self._answer += text
            case Error(message=text, code=code):
                self.warn(f"{text} ({code})")
            case _:
                pass

    def end(self) -> None:
        """Print the answer so far; the next is another."""
        if self._answer.strip():
            self._print(f"Antiphon: {self._answer}")
        self._answer = self._partial = ""

    def warn(self, sentence: str) -> None:
        print(f"antiphon: {_plain(sentence)}", file=sys.stderr)

    def _print(self, line: str) -> None:
        if not self._as_json:
            print(_plain(line), flush=True)

    def _render(self) -> Group:
        lines = [Text(_plain(f"You: {self._partial}"), style="dim")] if self._partial else []
        if self._answer:
            lines.append(Text(_plain(f"Antiphon: {self._answer}"), style="dim"))
        return Group(*lines, self._progress.get_renderable())


def _plain(text: str) -> str:
    """Leave no control character to the terminal, and no space too many."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
