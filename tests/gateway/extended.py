"""A client of `antiphon.v1` that holds every message to its type, and all of them to the order of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from antiphon import extension, frames
from gateway.running import Reachable
from gateway.talker import Message, Talker
from grammar import Grammar


class ExtendedTalker(Talker):
    """A connected client that speaks `antiphon.v1`."""

    def __init__(self, socket: ClientConnection) -> None:
        super().__init__(socket)
        self.grammar = Grammar()
        self.info: Message = {}

    async def take(self) -> Message:
        """Return the next message; a binary frame is one of type `binary`."""
        data = await self.socket.recv()
        if isinstance(data, bytes):
            frame = frames.unpack(data, frames.AUDIO_RESPONSE)
            message: Message = {"type": "binary", "sequence": frame.sequence, "data": frame.audio}
        else:
            extension.decode_server(data)
            message = msgspec.json.decode(data)
        self.grammar.take(message)
        return message

    async def auth(self, token: str) -> Message:
        await self.send("auth", token=token)
        await self.receive("auth_success")
        return await self.receive("session_info")

    async def receive(self, kind: str | None = None, within_s: float = 10) -> Message:
        async with asyncio.timeout(within_s):
            message = await self.take()
        assert kind in (None, message["type"]), message
        return message

    async def during(self, duration_s: float) -> list[Message]:
        messages = []
        try:
            async with asyncio.timeout(duration_s):
                while True:
                    messages.append(await self.take())
        except TimeoutError:
            return messages

    async def answered_in_binary(self) -> None:
        """Prove that the session works, for a client that asked for binary audio."""
        await self.send("command", command="Are you there?")
        await self.until("binary")

    async def hello(self, **fields: Any) -> None:
        await self.send("client_hello", **fields)


@asynccontextmanager
async def extended(gateway: Reachable, user: str = "alice", **options: Any) -> AsyncIterator[ExtendedTalker]:
    """Connect a client of `antiphon.v1` and let it authenticate."""
    # A client that has not read all there is is not to wait for the rest when it closes.
    options = {"subprotocols": [Subprotocol(extension.SUBPROTOCOL)], "close_timeout": 0.1, **options}
    async with connect(gateway.url, **options) as socket:
        assert socket.subprotocol == extension.SUBPROTOCOL
        talker = ExtendedTalker(socket)
        talker.info = await talker.auth(gateway.token(user))
        yield talker
