"""Answer formats: ask something, and save the spoken answer as Ogg Opus.

    python examples/formats.py FILE.ogg [QUESTION]

The pieces of an answer, joined, are one file of the format in `response_started`. ANTIPHON_TOKEN is the
token, from `antiphon token --user NAME` for a gateway on this machine; ANTIPHON_URL the gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from antiphon.audio.recording import Recording, RecordingError
from antiphon.client import ClientError, connect
from antiphon.extension import ResponseDone, ResponseStarted, TranscriptUpdate
from antiphon.messages import AudioResponse, Error

URL = os.environ.get("ANTIPHON_URL", "ws://127.0.0.1:8080/ws")
TOKEN = os.environ.get("ANTIPHON_TOKEN", "")

# The best first; audio/pcm;rate=24000 comes where a gateway has none of them.
FORMATS = ("audio/ogg;codecs=opus",)


async def ask(question: str) -> bytes:
    sound = bytearray()
    async with (
        asyncio.timeout(60),
        connect(URL, TOKEN, output_formats=FORMATS, playback_buffer_ms=30_000) as client,
    ):
        await client.command(question)
        async for message in client:
            match message:
                case ResponseStarted(format=format_) if format_ not in FORMATS:
                    raise ClientError(f"This gateway answers as {format_} only.")
                case AudioResponse(data=data):
                    sound += data
                case TranscriptUpdate(role="model", text=text, is_final=True):
                    print(f"model: {text}")
                case ResponseDone(status="completed"):
                    return bytes(sound)
                case Error(code=code, message=sentence):
                    raise ClientError(sentence, code)
                case _:
                    pass
        raise client.closed()


def save(sound: bytes, path: Path) -> None:
    path.write_bytes(sound)
    pcm_bytes = Recording.read(path).duration_s * 48_000
    print(f"{path}: {pcm_bytes / 48_000:.2f} s in {len(sound)} bytes; as PCM it would be {pcm_bytes:.0f}.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Save a spoken answer as Ogg Opus.")
    parser.add_argument("file", type=Path, metavar="FILE.ogg")
    parser.add_argument("question", nargs="?", default="What can you do?", metavar="QUESTION")
    args = parser.parse_args()
    try:
        save(asyncio.run(ask(args.question)), args.file)
    except (ClientError, RecordingError) as error:
        sys.exit(str(error))
    except TimeoutError:
        sys.exit("No answer came in time.")
    except OSError as error:
        sys.exit(f"{args.file} cannot be written: {error.strerror}.")
