"""Push to talk: only what is sent while the button is pressed is heard, and letting go asks for the answer.

    python examples/push_to_talk.py FILE

ANTIPHON_TOKEN is the token, from `antiphon token --user NAME` for a gateway on this machine; ANTIPHON_URL the
gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from antiphon.audio.recording import Recording, RecordingError
from antiphon.client import ClientError, connect
from antiphon.extension import ResponseDone, SpeechStarted, SpeechStopped, TranscriptUpdate
from antiphon.messages import Error

URL = os.environ.get("ANTIPHON_URL", "ws://127.0.0.1:8080/ws")
TOKEN = os.environ.get("ANTIPHON_TOKEN", "")


async def main(path: Path) -> None:
    recording = Recording.read(path)
    async with asyncio.timeout(recording.duration_s + 60), connect(URL, TOKEN) as client:
        # The stream may stay open from turn to turn; the button makes the turns.
        await client.start("LINEAR16", recording.rate_hz, "en-US")
        await client.activity_start()
        for _, data in recording.chunks("LINEAR16"):
            await client.send_audio(data)
        await client.activity_end()
        async for message in client:
            match message:
                case SpeechStarted():
                    print("The button is pressed.")
                case SpeechStopped(stream_ms=place_ms):
                    print(f"The button is released, {place_ms / 1000:.2f} s into the stream.")
                case TranscriptUpdate(role=role, text=text, is_final=True):
                    print(f"{role}: {text}")
                case ResponseDone(status="completed"):
                    await client.end()
                    return
                case Error(code=code, message=sentence):
                    raise ClientError(sentence, code)
                case _:
                    pass
        raise client.closed()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Speak a sound file with the button pressed.")
    parser.add_argument("file", type=Path, metavar="FILE")
    try:
        asyncio.run(main(parser.parse_args().file))
    except (ClientError, RecordingError) as error:
        sys.exit(str(error))
    except TimeoutError:
        sys.exit("No answer came in time.")
