"""Interruption: let the model talk, cut it short after a second, and see how much of it was heard.

    python examples/interruption.py [QUESTION]

What was heard is what the loudspeaker has played. `Speaker` counts that and says when the gateway is to be
told; so the model's transcript ends where the user stopped listening. ANTIPHON_TOKEN is the token, from
`antiphon token --user NAME` for a gateway on this machine; ANTIPHON_URL the gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time

from antiphon.client import Client, ClientError, Speaker, connect
from antiphon.extension import AudioFlush, ResponseDone, ResponseStarted, TranscriptUpdate
from antiphon.messages import AudioResponse, Error

URL = os.environ.get("ANTIPHON_URL", "ws://127.0.0.1:8080/ws")
TOKEN = os.environ.get("ANTIPHON_TOKEN", "")


class Loudspeaker:
    """Stands in for a real one: silent, but it takes its time."""

    def __init__(self) -> None:
        self.speaker = Speaker()
        self._began: float | None = None

    def play(self, duration_ms: float) -> None:
        self._began = self._began or time.monotonic()
        self.speaker.add(duration_ms)

    @property
    def played_ms(self) -> float:
        since_ms = (time.monotonic() - self._began) * 1000 if self._began else 0.0
        return min(since_ms, self.speaker.given_ms)


async def main(question: str) -> None:
    loudspeaker = Loudspeaker()
    async with (
        asyncio.timeout(60),
        connect(URL, TOKEN, features=["playback_mark"], playback_buffer_ms=5000) as client,
    ):
        await client.command(question)
        try:
            async with asyncio.TaskGroup() as tasks:
                reporting = tasks.create_task(report(client, loudspeaker))
                await listen(client, loudspeaker)
                reporting.cancel()
        except ExceptionGroup as group:
            raise group.exceptions[0] from group


async def report(client: Client, loudspeaker: Loudspeaker) -> None:
    """Tell the gateway what is played, and after a second of it that it is enough."""
    enough = False
    while True:
        await asyncio.sleep(0.02)
        played_ms = loudspeaker.played_ms
        for mark in loudspeaker.speaker.marks(played_ms, time.monotonic()):
            await client.playback_mark(*mark)
        if played_ms >= 1000 and not enough:
            enough = True
            await client.interrupt()


async def listen(client: Client, loudspeaker: Loudspeaker) -> None:
    came = ""
    flushed = False
    async for message in client:
        match message:
            case ResponseStarted(response_id=response_id):
                loudspeaker.speaker.begin(response_id)
            case AudioResponse(duration=duration_ms):
                loudspeaker.play(duration_ms)
            case AudioFlush(response_id=response_id):
                # A real loudspeaker drops now what it has; then say how far it had come.
                flushed = True
                given_ms, played_ms = loudspeaker.speaker.given_ms, loudspeaker.played_ms
                if mark := loudspeaker.speaker.flush(response_id, played_ms):
                    await client.playback_mark(*mark)
                print(f"Interrupted after {played_ms:.0f} ms; {given_ms - played_ms:.0f} ms were dropped.")
            case TranscriptUpdate(role="model", text=text, is_final=True) if flushed:
                print(f"Came:  {came}\nHeard: {text}")
                return
            case TranscriptUpdate(role="model", text=text):
                came = text
            case ResponseDone(status="completed"):
                print(f"The answer was over before it could be interrupted: {came}")
                return
            case Error(code=code, message=sentence):
                raise ClientError(sentence, code)
            case _:
                pass
    raise client.closed()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Interrupt an answer after a second.")
    parser.add_argument("question", nargs="?", default="What can you do?", metavar="QUESTION")
    try:
        asyncio.run(main(parser.parse_args().question))
    except ClientError as error:
        sys.exit(str(error))
    except TimeoutError:
        sys.exit("No answer came in time.")
