"""Binary frames: audio without base64, both ways, which is a quarter less on the wire.

    python examples/binary.py FILE

The client packs and unpacks the frames; answers come by iteration as ever. ANTIPHON_TOKEN is the token, from
`antiphon token --user NAME` for a gateway on this machine; ANTIPHON_URL the gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from antiphon.audio.recording import Recording, RecordingError
from antiphon.client import ClientError, connect
from antiphon.extension import ResponseDone, TranscriptUpdate
from antiphon.messages import AudioResponse, Error

URL = os.environ.get("ANTIPHON_URL", "ws://127.0.0.1:8080/ws")
TOKEN = os.environ.get("ANTIPHON_TOKEN", "")


async def main(path: Path) -> None:
    recording = Recording.read(path)
    frames: list[int] = []  # the sizes of the binary ones; every other begins as JSON does
    pieces: list[AudioResponse] = []

    def note(frame: bytes) -> None:
        if frame[:1] != b"{":
            frames.append(len(frame))

    async with (
        asyncio.timeout(recording.duration_s + 60),
        connect(URL, TOKEN, binary_audio=True, on_frame=note) as client,
    ):
        if not client.binary_audio:
            raise ClientError("This gateway takes no binary frames.")
        await client.start("LINEAR16", recording.rate_hz, "en-US")
        for _, data in recording.chunks("LINEAR16"):
            await client.send_audio(data)
        await client.end()
        async for message in client:
            match message:
                case AudioResponse():
                    pieces.append(message)
                case TranscriptUpdate(role=role, text=text, is_final=True):
                    print(f"{role}: {text}")
                case ResponseDone(status="completed"):
                    break
                case Error(code=code, message=sentence):
                    raise ClientError(sentence, code)
                case _:
                    pass
        else:
            raise client.closed()
    audio = sum(len(piece.data) for piece in pieces)
    print(f"The answer came in {len(frames)} binary frames: {audio} bytes of audio in {sum(frames)}.")
    print(f"It says: {''.join(piece.text for piece in pieces)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Speak a sound file in binary frames.")
    parser.add_argument("file", type=Path, metavar="FILE")
    try:
        asyncio.run(main(parser.parse_args().file))
    except (ClientError, RecordingError) as error:
        sys.exit(str(error))
    except TimeoutError:
        sys.exit("No answer came in time.")
