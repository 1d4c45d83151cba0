"""The Python client: connect, prove who speaks, stream audio, iterate over what comes back.

    async with connect("ws://127.0.0.1:8080/ws", token) as client:
        await client.start(rate_hz=16_000)
        await client.send_audio(pcm)
        await client.end()
        async for message in client:
            ...

What comes are the messages of `antiphon.messages` and, where the gateway speaks antiphon.v1,
`antiphon.extension`. Sending waits while the gateway takes no more. A session of antiphon.v1 survives the
loss of its connection: iteration goes on.

By microphone and loudspeaker (`pip install 'antiphon[microphone]'`):

    with Sound() as sound:
        async with connect("ws://127.0.0.1:8080/ws", token) as client, client.talk(sound):
            async for message in client:
                ...

Without asyncio: `antiphon.client.sync`. All that goes wrong is a `ClientError`, whose subclasses say what.
"""

from antiphon.client.binary import pcm_rate
from antiphon.client.connecting import connect
from antiphon.client.connection import MAX_CHUNK_BYTES, Client
from antiphon.client.device import Device, Devices, Sound, devices
from antiphon.client.errors import (
    AuthorizationLost,
    BadMessage,
    BaseOnly,
    CannotConnect,
    ClientError,
    Closed,
    NotAuthorized,
    Refused,
    SessionLost,
    SoundError,
)
from antiphon.client.reader import MAX_UNREAD
from antiphon.client.reconnect import DEFAULT, Reconnect
from antiphon.client.sound import AudioInterface, Levels
from antiphon.client.speaker import Mark, Speaker
from antiphon.client.tokens import TokenSource
from antiphon.client.tools import Tool
from antiphon.client.voice import Voice

__all__ = [
    "DEFAULT",
    "MAX_CHUNK_BYTES",
    "MAX_UNREAD",
    "AudioInterface",
    "AuthorizationLost",
    "BadMessage",
    "BaseOnly",
    "CannotConnect",
    "Client",
    "ClientError",
    "Closed",
    "Device",
    "Devices",
    "Levels",
    "Mark",
    "NotAuthorized",
    "Reconnect",
    "Refused",
    "SessionLost",
    "Sound",
    "SoundError",
    "Speaker",
    "TokenSource",
    "Tool",
    "Voice",
    "connect",
    "devices",
    "pcm_rate",
]
