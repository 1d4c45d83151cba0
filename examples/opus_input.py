"""Opus as input: speak a sound file as Ogg Opus, which is what browsers record and a tenth of the bytes.

    python examples/opus_input.py FILE

ANTIPHON_TOKEN is the token, from `antiphon token --user NAME` for a gateway on this machine; ANTIPHON_URL the
gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import Final

from antiphon.audio.recording import Recording, RecordingError
from antiphon.client import ClientError, connect
from antiphon.extension import ResponseDone, TranscriptUpdate
from antiphon.messages import Error

URL = os.environ.get("ANTIPHON_URL", "ws://127.0.0.1:8080/ws")
TOKEN = os.environ.get("ANTIPHON_TOKEN", "")
OPUS: Final = "audio/ogg;codecs=opus"


async def main(path: Path) -> None:
    recording = Recording.read(path)
    async with asyncio.timeout(recording.duration_s + 60), connect(URL, TOKEN) as client:
        if client.info is None or OPUS not in client.info.input_formats:
            raise ClientError("This gateway takes no Opus.")
        sent = 0
        await client.start(OPUS, language="en-US")
        for _, data in recording.chunks(OPUS):  # one Ogg stream, cut anywhere
            sent += len(data)
            await client.send_audio(data)
        await client.end(recording.duration_s * 1000)
        print(f"Sent {recording.duration_s:.2f} s in {sent} bytes; as PCM it is {len(recording.pcm)}.")
        async for message in client:
            match message:
                case TranscriptUpdate(role=role, text=text, is_final=True):
                    print(f"{role}: {text}")
                case ResponseDone(status="completed"):
                    return
                case Error(code=code, message=sentence):
                    raise ClientError(sentence, code)
                case _:
                    pass
        raise client.closed()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Speak a sound file as Ogg Opus.")
    parser.add_argument("file", type=Path, metavar="FILE")
    try:
        asyncio.run(main(parser.parse_args().file))
    except (ClientError, RecordingError) as error:
        sys.exit(str(error))
    except TimeoutError:
        sys.exit("No answer came in time.")
