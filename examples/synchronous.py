"""A conversation without asyncio: a sound file is spoken, a tool is a plain function that takes its time.

    python examples/synchronous.py FILE [REQUEST...]

Each REQUEST is a typed turn after it; `light` is called where the gateway knows examples/commands.toml.
ANTIPHON_TOKEN is the token, from `antiphon token --user NAME` for a gateway on this machine; ANTIPHON_URL the
gateway.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from antiphon.audio.recording import Recording, RecordingError
from antiphon.client import ClientError
from antiphon.client.sync import Client, connect
from antiphon.extension import ResponseDone, ToolCall, TranscriptUpdate
from antiphon.messages import Error

URL = os.environ.get("ANTIPHON_URL", "ws://127.0.0.1:8080/ws")
TOKEN = os.environ.get("ANTIPHON_TOKEN", "")


def light(room: str) -> dict[str, str]:
    """Switch a light. It is called in a thread of its own, so that the session goes on meanwhile."""
    time.sleep(0.1)  # the bulb is asked
    return {"output": f"The light in the {room} is on."}


def main(path: Path, requests: list[str]) -> None:
    recording = Recording.read(path)
    with connect(URL, TOKEN, tools={"light": light}) as client:
        print(f"Connected as {client.user_id}.")
        with client.timeout(recording.duration_s + 60):
            client.start("LINEAR16", recording.rate_hz, "en-US")
            for _, data in recording.chunks("LINEAR16"):
                client.send_audio(data)
                time.sleep(0.1)  # as fast as a microphone has it
            client.end()
            listen(client)
        for request in requests:
            with client.timeout(60):
                client.command(request)
                listen(client)


def listen(client: Client) -> None:
    """Print what is said, up to the end of the answer."""
    for message in client:
        match message:
            case TranscriptUpdate(role=role, text=text, is_final=True):
                print(f"{role}: {text}")
            case ToolCall(name=name, args=args):
                print(f"The model calls {name} with {args}.")
            case ResponseDone(status="completed"):
                return
            case Error(code=code, message=sentence):
                raise ClientError(sentence, code)
            case _:
                pass
    raise client.closed()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Speak a sound file, without asyncio.")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("requests", nargs="*", metavar="REQUEST")
    args = parser.parse_args()
    try:
        main(args.file, args.requests)
    except (ClientError, RecordingError) as error:
        sys.exit(str(error))
    except TimeoutError:
        sys.exit("No answer came in time.")
    except KeyboardInterrupt:
        sys.exit(130)
