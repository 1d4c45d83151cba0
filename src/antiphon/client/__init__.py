"""The Python client: connect, prove who speaks, stream audio, iterate over what comes back.

    async with connect("ws://127.0.0.1:8080/ws", token) as client:
        await client.start(rate_hz=16_000)
        await client.send_audio(pcm)
        await client.end()
        async for message in client:
            ...

It speaks antiphon.v1 where the gateway does, and else the base messages. Sending waits while the gateway
takes no more.
"""

from antiphon.client.binary import pcm_rate
from antiphon.client.connection import MAX_CHUNK_BYTES, Client, connect
from antiphon.client.errors import (
    BadMessage,
    BaseOnly,
    CannotConnect,
    ClientError,
    Closed,
    NotAuthorized,
    Refused,
)
from antiphon.client.reader import MAX_UNREAD
from antiphon.client.speaker import Mark, Speaker
from antiphon.client.tools import Tool

__all__ = [
    "MAX_CHUNK_BYTES",
    "MAX_UNREAD",
    "BadMessage",
    "BaseOnly",
    "CannotConnect",
    "Client",
    "ClientError",
    "Closed",
    "Mark",
    "NotAuthorized",
    "Refused",
    "Speaker",
    "Tool",
    "connect",
    "pcm_rate",
]
