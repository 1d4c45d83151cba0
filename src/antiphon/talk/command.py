"""The command: what it takes, whom it connects to, what it ends with."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Final

from antiphon import event_loop
from antiphon.audio.recording import Recording, RecordingError
from antiphon.client import DEFAULT, AudioInterface, Client, ClientError, Sound, SoundError, connect
from antiphon.messages import StreamFormat
from antiphon.talk import by_file, by_voice
from antiphon.talk.errors import TalkError
from antiphon.talk.view import View

_INPUTS: Final[dict[str, StreamFormat]] = {
    "LINEAR16": "LINEAR16",
    "FLAC": "FLAC",
    "OPUS": "audio/ogg;codecs=opus",
}
_OUTPUTS: Final = {
    "pcm": "audio/pcm;rate=24000",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "opus": "audio/ogg;codecs=opus",
}
_TOKEN_CODES: Final = ("AUTH_TOKEN_INVALID", "AUTH_TOKEN_EXPIRED")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `antiphon talk` takes."""
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="a sound file of any kind; without one, you talk by microphone and loudspeaker",
    )
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
        "--format",
        "--input-format",
        choices=tuple(_INPUTS),
        default="LINEAR16",
        help="how the audio of files is sent (LINEAR16)",
    )
    parser.add_argument(
        "--output",
        choices=tuple(_OUTPUTS),
        default="pcm",
        help="how answers to files come, and are saved (pcm)",
    )
    parser.add_argument("--language", default="en-US", metavar="TAG", help="what is spoken (en-US)")
    parser.add_argument(
        "--push-to-talk",
        action="store_true",
        help="tell the gateway when you speak: by the Enter key, or for all of each file",
    )
    parser.add_argument("--binary", action="store_true", help="send and take audio as binary frames")
    parser.add_argument("--base", action="store_true", help="speak the base messages only, not antiphon.v1")
    parser.add_argument(
        "--no-resume", action="store_true", help="end when the connection is lost, instead of coming back"
    )
    parser.add_argument("--json", action="store_true", help="print each server message, one a line")
    parser.add_argument("--save", type=Path, metavar="DIR", help="write each answer to DIR/NAME.answer.wav")
    parser.add_argument("--fast", action="store_true", help="send files faster than real time")


def run(args: argparse.Namespace) -> int:
    """Talk, and return the exit status: 0 all was answered, 1 it was not, 130 interrupted."""
    try:
        return event_loop.run(talk(args))
    except (ClientError, RecordingError, TalkError) as error:
        print(f"antiphon: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


async def talk(args: argparse.Namespace, sound: AudioInterface | None = None, keys: int = 0) -> int:
    """Speak the files, or by microphone and loudspeaker, and return the exit status.

    `sound` takes the place of the machine's own microphone and loudspeaker, and the file descriptor `keys`
    that of standard input.

    Raises:
        ClientError, RecordingError, TalkError: with a sentence for the terminal.
    """
    if not args.token:
        raise TalkError(
            "There is no token: give --token, set ANTIPHON_TOKEN, or start a gateway on this machine with "
            "`antiphon serve`."
        )
    if args.files:
        recordings = [Recording.read(path) for path in args.files]
        file_options = by_file.Options(
            _INPUTS[args.format], args.language, args.push_to_talk, args.fast, args.save
        )
        return await _session(
            args, lambda client, view: by_file.speak_all(client, recordings, file_options, view)
        )
    _check_for_voice(args)
    voice_options = by_voice.Options(args.language, args.push_to_talk, args.save, keys)
    with _opened(sound) as opened:
        return await _session(
            args, lambda client, view: by_voice.converse(client, opened, voice_options, view)
        )


@contextmanager
def _opened(sound: AudioInterface | None) -> Iterator[AudioInterface]:
    """Have the sound that is given, or else the machine's own."""
    if sound:
        yield sound
        return
    with ExitStack() as stack:
        try:
            own = stack.enter_context(Sound())
        except SoundError as error:
            raise TalkError(f"{error} Or name a sound FILE.") from None
        yield own


async def _session(args: argparse.Namespace, conversation: Callable[[Client, View], Awaitable[int]]) -> int:
    with View(as_json=args.json) as view:
        try:
            async with _connected(args, view) as client:
                view.extended = client.extended
                _warn_of_formats(client, args, view)
                return await conversation(client, view)
        except ClientError as error:
            if error.code in _TOKEN_CODES:
                hint = "get a new one with `antiphon token --user NAME`."
                raise TalkError(f"The gateway at {args.url} refused the token; {hint}") from None
            raise


def _connected(args: argparse.Namespace, view: View) -> AbstractAsyncContextManager[Client]:
    return connect(
        args.url,
        args.token,
        on_frame=view.frame,
        base=args.base,
        output_formats=() if args.output == "pcm" else (_OUTPUTS[args.output],),
        binary_audio=args.binary,
        playback_buffer_ms=by_file.BUFFER_MS if args.files else None,
        features=("playback_mark",) if args.files else (),
        reconnect=None if args.no_resume else DEFAULT,
        on_lost=view.lost,
    )


def _check_for_voice(args: argparse.Namespace) -> None:
    """Refuse what only files can be spoken with."""
    for name, default in (("format", "LINEAR16"), ("output", "pcm"), ("fast", False)):
        if getattr(args, name) != default:
            raise TalkError(f"--{name} is for files: name one, or leave it out to talk by microphone.")


def _warn_of_formats(client: Client, args: argparse.Namespace, view: View) -> None:
    offered = client.info.output_formats if client.info else (_OUTPUTS["pcm"],)
    if _OUTPUTS[args.output] not in offered:
        view.warn(f"The gateway offers no answers as {args.output}; they come as pcm.")
    if args.binary and not client.binary_audio:
        view.warn("The gateway takes no binary frames; audio travels as JSON.")
