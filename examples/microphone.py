"""Talk by microphone and loudspeaker, with an open microphone or push to talk, until Ctrl-C.

    pip install 'antiphon[microphone]'     (on Linux PortAudio too: apt install libportaudio2)
    python examples/microphone.py [--push-to-talk] [--microphone NAME] [--loudspeaker NAME]
    python examples/microphone.py --devices

Speak at any time, over an answer too: it stops at once. Wear headphones: there is no echo cancellation. With
--push-to-talk, Enter begins and ends what you say. ANTIPHON_TOKEN is the token, from
`antiphon token --user NAME` for a gateway on this machine; ANTIPHON_URL the gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import threading

from antiphon.client import Client, ClientError, Sound, Voice, connect, devices
from antiphon.extension import AudioFlush, TranscriptUpdate
from antiphon.messages import Error

URL = os.environ.get("ANTIPHON_URL", "ws://127.0.0.1:8080/ws")
TOKEN = os.environ.get("ANTIPHON_TOKEN", "")


async def main(sound: Sound, push_to_talk: bool) -> None:
    async with connect(URL, TOKEN) as client, client.talk(sound, push_to_talk=push_to_talk) as voice:
        if push_to_talk:
            print("Press Enter, speak, and press Enter again.", flush=True)
            threading.Thread(target=press, args=(voice,), daemon=True).start()
        else:
            print("Speak.", flush=True)
        await listen(client)


def press(voice: Voice) -> None:
    """Let every line from the keyboard press or release the button."""
    for _ in sys.stdin:
        if voice.talking:
            voice.stop_talking()
        else:
            voice.start_talking()


async def listen(client: Client) -> None:
    """Print what is said. What is answered is played by itself."""
    async for message in client:
        match message:
            case TranscriptUpdate(role=role, text=text, is_final=True):
                print(f"{role}: {text}", flush=True)
            case AudioFlush(reason=reason):
                print(f"(The answer is cut short: {reason}.)", flush=True)
            case Error(code=code, message=sentence):
                print(f"{sentence} ({code})", file=sys.stderr)
            case _:
                pass
    raise client.closed()


def device(text: str) -> int | str:
    """A device is chosen by its index, or by a part of its name."""
    return int(text) if text.isdecimal() else text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Talk by microphone and loudspeaker.")
    parser.add_argument("--push-to-talk", action="store_true", help="Enter begins and ends what you say")
    parser.add_argument("--microphone", type=device, metavar="NAME", help="its index or a part of its name")
    parser.add_argument("--loudspeaker", type=device, metavar="NAME", help="its index or a part of its name")
    parser.add_argument("--devices", action="store_true", help="list what there is, and end")
    args = parser.parse_args()
    try:
        if args.devices:
            there = devices()
            print(*(f"microphone {one.index}: {one.name}" for one in there.microphones), sep="\n")
            print(*(f"loudspeaker {one.index}: {one.name}" for one in there.loudspeakers), sep="\n")
            sys.exit()
        with Sound(args.microphone, args.loudspeaker) as opened:
            asyncio.run(main(opened, args.push_to_talk))
    except ClientError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
