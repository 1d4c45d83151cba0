"""A lost connection: lose it in mid-sentence, lose it again in mid-answer, and lose nothing else.

    python examples/resume.py FILE

The client comes back by itself: iteration goes on, and sending does. This script cuts its own connection,
as a network would. FILE is WAV, FLAC or whatever else holds sound. ANTIPHON_TOKEN is the token, from
`antiphon token --user NAME` for a gateway on this machine; ANTIPHON_URL the gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from antiphon.audio.recording import Recording, RecordingError
from antiphon.client import Client, ClientError, connect
from antiphon.extension import ResponseDone, Resumed, TranscriptUpdate, UsageUpdate
from antiphon.messages import AudioResponse, Error

URL = os.environ.get("ANTIPHON_URL", "ws://127.0.0.1:8080/ws")
TOKEN = os.environ.get("ANTIPHON_TOKEN", "")


async def main(path: Path) -> None:
    recording = Recording.read(path)
    async with (
        asyncio.timeout(recording.duration_s + 60),
        connect(URL, TOKEN, on_lost=lambda: print("The connection is lost.")) as client,
    ):
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(speak(client, recording))
                heard_ms = await listen(client)
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
        lost = "something was" if client.lossy else "nothing was"
        print(f"Spoken: {recording.duration_s:.2f} s. Heard by the model: {heard_ms / 1000:.2f} s.")
        print(f"{client.resumptions} connections were lost, and with them {lost}.")


async def speak(client: Client, recording: Recording) -> None:
    """Send a tenth of a second of sound every tenth of a second, and cut the connection half way."""
    await client.start("LINEAR16", recording.rate_hz, "en-US")
    chunks = [data for _, data in recording.chunks("LINEAR16")]
    for number, data in enumerate(chunks):
        if number == len(chunks) // 2:
            client.abort()
        await client.send_audio(data)
        await asyncio.sleep(0.1)
    await client.end()


async def listen(client: Client) -> float:
    """Print what comes, until the answer is over; return how much of the speech has reached the model."""
    sound_ms, answered, cut = 0.0, False, False
    async for message in client:
        match message:
            case Resumed(replayed=count):
                print(f"It is resumed; {count} messages had not come, and do now.")
            case TranscriptUpdate(role=role, text=text, is_final=True):
                print(f"{role}: {text}")
            case AudioResponse(duration=duration_ms):
                sound_ms += duration_ms
                if not cut:
                    cut = True
                    client.abort()
            case ResponseDone(status="completed"):
                print(f"The answer is over: {sound_ms / 1000:.2f} s of sound came.")
                answered = True
            case UsageUpdate(session=used) if answered:
                return used.audio_in_ms
            case Error(code=code, message=sentence):
                raise ClientError(sentence, code)
            case _:
                pass
    raise client.closed()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Lose the connection, and nothing else.")
    parser.add_argument("file", type=Path, metavar="FILE")
    try:
        asyncio.run(main(parser.parse_args().file))
    except (ClientError, RecordingError) as error:
        sys.exit(str(error))
    except TimeoutError:
        sys.exit("No answer came in time.")
