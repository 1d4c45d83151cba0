"""What is seen of a conversation in a terminal."""

from __future__ import annotations

import sys

from msgspec import UNSET
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from antiphon import frames
from antiphon.extension import AudioFlush, Resumed, ServerMessage, SessionRotated, TranscriptUpdate
from antiphon.messages import AudioResponse, Error, RecognitionResult, encode

_BINARY = bytes([frames.VERSION])
"""What a binary frame begins with, and JSON cannot."""


class View:
    """What is seen: results on stdout; what is provisional, in place, on stderr where that is a terminal."""

    def __init__(self, *, as_json: bool) -> None:
        self.extended = False
        """Whether the model's transcript comes by itself, as it does in a session of antiphon.v1."""
        self._as_json = as_json
        self._binary = False
        self._partial = ""
        self._heard = ""
        self._answer = ""
        self._cut = False
        self._held: list[str] = []
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[clock]}")
        )
        self._task = self._progress.add_task("", clock="", visible=False)
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
        self._progress.reset(self._task, total=duration_s, description=_plain(name), clock="", visible=True)

    def sent(self, sent_s: float) -> None:
        self._progress.update(self._task, completed=sent_s, clock=f"{sent_s:.1f} s")

    def frame(self, frame: bytes) -> None:
        """Take a frame as received. In JSON a line break can only stand between tokens."""
        self._binary = frame[:1] == _BINARY
        if self._as_json and not self._binary:
            print(frame.decode(errors="replace").replace("\r", " ").replace("\n", " "), flush=True)

    def show(self, message: ServerMessage) -> None:
        """Show what was in the frame."""
        if self._as_json and self._binary:
            print(encode(message).decode(), flush=True)
        match message:
            case RecognitionResult(is_final=False, transcript=transcript):
                self._partial = transcript
            case RecognitionResult(transcript=transcript, command=command):
                self._partial = ""
                named = f"[{command}]" if command is not UNSET else ""
                if not transcript:
                    return  # what was told of is taken back
                if not (named and transcript == self._heard):
                    if not self.extended:
                        self.end()
                    named = f"You: {transcript} {named}"
                self._heard = transcript
                # What was heard of an answer that is cut short is still to be told, and comes first.
                if self._cut:
                    self._held.append(named)
                else:
                    self._print(named)
            case AudioFlush():
                self._cut = bool(self._answer)
            case TranscriptUpdate(role="model", text=text, is_final=final):
                self._answer = text
                if final:
                    self._print_answer()
            case AudioResponse(text=text) if not self.extended:
                self._answer += text
            case Resumed(replayed=count, lossy=lossy):
                others = ", others are lost" * lossy
                self._tell(f"resumed, {count} message{'s' * (count != 1)} replayed{others}")
            case SessionRotated(reason="fallback"):
                self._tell("the model cannot be reached; the gateway's own engine answers in its place")
            case SessionRotated(reason="recovered"):
                self._tell("the model answers again")
            case SessionRotated(gap_ms=gap_ms, lost_audio_ms=lost_ms):
                self._tell(f"the model's connection was renewed (gap {gap_ms} ms, lost {lost_ms} ms)")
            case Error(message=text, code=code):
                self.warn(f"{text} ({code})")
            case _:
                pass

    def end(self) -> None:
        """Print the answer so far; the next is another."""
        self._print_answer()
        self._partial = ""

    def note(self, sentence: str) -> None:
        """Say how to go on, where that is not in the way."""
        if self._visible:
            print(sentence, file=sys.stderr)

    def lost(self) -> None:
        """Say that the connection is lost."""
        self._tell("connection lost, resuming")

    def warn(self, sentence: str) -> None:
        print(f"antiphon: {_plain(sentence)}", file=sys.stderr)

    def _tell(self, what: str) -> None:
        print(f"· {what}", file=sys.stderr, flush=True)

    def _print_answer(self) -> None:
        self._cut = False
        if self._answer.strip():
            self._print(f"Antiphon: {self._answer}")
        self._answer = ""
        for line in self._held:
            self._print(line)
        self._held.clear()

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
