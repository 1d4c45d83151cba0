"""A client of the nine base messages, with nothing but a WebSocket library and JSON.

    python examples/base_client.py FILE.wav [QUESTION]

It offers no subprotocol, so it is sent the base messages only, today and in every later version. FILE.wav is
mono, 16 bit. ANTIPHON_TOKEN is the token, from `antiphon token --user NAME` for a gateway on this machine;
ANTIPHON_URL the gateway.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import time
import wave
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.sync.client import ClientConnection, connect

URL = os.environ.get("ANTIPHON_URL", "ws://127.0.0.1:8080/ws")
TOKEN = os.environ.get("ANTIPHON_TOKEN", "")
QUIET_S = 1.5  # no message says that an answer is over: it comes in real time, and then nothing comes


def send(socket: ClientConnection, kind: str, **fields: Any) -> None:
    socket.send(json.dumps({"type": kind, "timestamp": int(time.time() * 1000), **fields}))


def speak(socket: ClientConnection, path: str) -> None:
    with wave.open(path, "rb") as file:
        rate_hz, samples = file.getframerate(), file.getnframes()
        if (file.getnchannels(), file.getsampwidth()) != (1, 2):
            sys.exit(f"{path} is not mono, 16 bit.")
        config = {"sampleRate": rate_hz, "format": "LINEAR16", "language": "en-US"}
        send(socket, "audio_stream_start", config=config)
        sequence = 0
        while data := file.readframes(rate_hz // 10):
            send(socket, "audio_chunk", data=base64.b64encode(data).decode(), sequence=sequence)
            sequence += 1
    send(socket, "audio_stream_end", duration=samples / rate_hz * 1000)


def listen(socket: ClientConnection) -> None:
    """Print what comes until an answer is over."""
    answer, sound = "", bytearray()
    while True:
        try:
            message = json.loads(socket.recv(timeout=QUIET_S if sound else 30))
        except TimeoutError:
            if not sound:
                sys.exit("No answer came in time.")
            print(f"model: {answer} ({len(sound)} bytes of sound)")
            return
        match message["type"]:
            case "recognition_result":
                command = f" (command {message['command']})" if "command" in message else ""
                print(f"you{':  ' if message['isFinal'] else '... '}{message['transcript']}{command}")
            case "audio_response":
                answer += message["text"]
                sound += base64.b64decode(message["data"])
            case "error":
                sys.exit(f"{message['code']}: {message['message']}")


def main(path: str, question: str) -> None:
    with connect(URL) as socket:
        send(socket, "auth", token=TOKEN)
        message = json.loads(socket.recv(timeout=10))
        if message["type"] != "auth_success":
            sys.exit(f"{message['code']}: {message['message']}")
        print(f"Session {message['sessionId']} of {message['userId']}")
        speak(socket, path)
        listen(socket)
        send(socket, "command", command=question, context={"asked": "by typing"})
        listen(socket)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Speak and ask with the base messages only.")
    parser.add_argument("file", metavar="FILE.wav")
    parser.add_argument("question", nargs="?", default="What time is it?", metavar="QUESTION")
    args = parser.parse_args()
    try:
        main(args.file, args.question)
    except ConnectionRefusedError:
        sys.exit(f"Nothing listens at {URL}; is the gateway running?")
    except (OSError, EOFError, wave.Error, ConnectionClosed, InvalidHandshake, InvalidURI) as error:
        sys.exit(f"That did not work: {error}")
