"""A spoken turn: a sound file goes in as a microphone would send it, and everything that happens is printed.

    python examples/conversation.py FILE

FILE is WAV, FLAC or whatever else holds sound. ANTIPHON_TOKEN is the token; for a gateway on this machine,
`antiphon token --user NAME` prints one. ANTIPHON_URL is the gateway, if it is not ws://127.0.0.1:8080/ws.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from antiphon.audio.recording import Recording, RecordingError
from antiphon.client import Client, ClientError, connect
from antiphon.extension import (
    ResponseDone,
    ResponseStarted,
    SpeechStarted,
    SpeechStopped,
    TranscriptUpdate,
)
from antiphon.messages import AudioResponse, Error

URL = os.environ.get("ANTIPHON_URL", "ws://127.0.0.1:8080/ws")
TOKEN = os.environ.get("ANTIPHON_TOKEN", "")


async def main(path: Path) -> None:
    recording = Recording.read(path)
    async with asyncio.timeout(recording.duration_s + 60), connect(URL, TOKEN) as client:
        print(f"Connected as {client.user_id}; the gateway is {await client.ping() * 1000:.1f} ms away.")
        answered = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(listen(client, answered))
                await speak(client, recording)
                await answered.wait()
                listening.cancel()
        except ExceptionGroup as group:
            raise group.exceptions[0] from group


async def speak(client: Client, recording: Recording) -> None:
    """Send a tenth of a second of sound every tenth of a second."""
    await client.start("LINEAR16", recording.rate_hz, "en-US")
    for _, data in recording.chunks("LINEAR16"):
        await client.send_audio(data)
        await asyncio.sleep(0.1)
    await client.end()


async def listen(client: Client, answered: asyncio.Event) -> None:
    sound_ms = 0.0
    async for message in client:
        match message:
            case SpeechStarted(stream_ms=place_ms):
                print(f"you begin to speak ({place_ms / 1000:.2f} s into the stream)")
            case SpeechStopped(stream_ms=place_ms):
                print(f"you have spoken ({place_ms / 1000:.2f} s)")
            case TranscriptUpdate(role="user", text=text, is_final=is_final):
                answered.clear()
                print(f"you{':  ' if is_final else '... '}{text}")
            case ResponseStarted(response_id=response_id, format=format_):
                sound_ms = 0.0
                print(f"the answer {response_id} begins, as {format_}")
            case TranscriptUpdate(role="model", text=text, is_final=is_final):
                print(f"model{': ' if is_final else '... '}{text}")
            case AudioResponse(duration=duration_ms):
                sound_ms += duration_ms  # where a loudspeaker would get message.data
            case ResponseDone(response_id=response_id, status=status):
                print(f"the answer {response_id} is over: {status}; {sound_ms / 1000:.2f} s of sound came")
                if status == "completed":
                    answered.set()
            case Error(code=code, message=sentence):
                raise ClientError(sentence, code)
            case _:
                pass
    raise client.closed()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Speak a sound file and print what happens.")
    parser.add_argument("file", type=Path, metavar="FILE")
    try:
        asyncio.run(main(parser.parse_args().file))
    except (ClientError, RecordingError) as error:
        sys.exit(str(error))
    except TimeoutError:
        sys.exit("No answer came in time.")
