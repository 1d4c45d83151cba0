"""How long a client goes on playing what the user has spoken over.

    python -m bench.interruption [--times N]

An upstream answers with half a minute of speech at once and says `interrupted` when it hears something,
as Gemini does. Between that moment and silence at the client lies what is counted here, with a player that
plays what it has been sent. A base client plays its queue to the end; one of `antiphon.v1` drops it when
`audio_flush` comes.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from antiphon import event_loop
from antiphon.gemini.codec import ServerMessage
from bench import machine
from bench.latency import gateway, quantiles_ms
from bench.upstream import serving

SECOND: Final = bytes(48_000)
OPUS: Final = "audio/ogg;codecs=opus"
LISTEN_S: Final = 0.4
"""What would still come after the interruption has come by then."""


class Player:
    """Plays what it is sent, from the moment it comes; knows when it will be silent."""

    def __init__(self) -> None:
        self.silent_at = 0.0
        self.flushed_at = 0.0
        self.stale_ms = 0.0

    def take(self, message: dict[str, Any], now: float) -> None:
        match message["type"]:
            case "audio_response":
                self.silent_at = max(self.silent_at, now) + message["duration"] / 1000
                if self.flushed_at:
                    self.stale_ms += message["duration"]
            case "audio_flush":
                self.silent_at = self.flushed_at = now


async def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--times", type=int, default=100)
    args = parser.parse_args()
    interrupted_at: list[float] = []
    print(f"{machine.describe()}; {args.times} interruptions each\n")
    print("| client | `interrupted` to silence, ms: p50 | p95 | p99 | max | sent after, ms |")
    print("| --- | --- | --- | --- | --- | --- |")
    worst: dict[str, float] = {}
    async with talkative(interrupted_at) as target, gateway(target) as (url, token, _):
        clients: dict[str, dict[str, Any] | None] = {
            "base": None,
            "antiphon.v1, 250 ms": {},
            "antiphon.v1, 10 s ahead": {"playbackBufferMs": 10_000},
            "antiphon.v1, 10 s of Opus": {
                "playbackBufferMs": 10_000,
                "outputFormats": ["audio/ogg;codecs=opus"],
            },
        }
        for name, hello in clients.items():
            silent_s, stale_ms = [], 0.0
            for number in range(args.times):
                player = await interrupt(url, token, hello, listen_s=0.15 + number % 10 * 0.03)
                silent_s.append(max(0.0, player.silent_at - interrupted_at.pop()))
                stale_ms += player.stale_ms
            shown = " | ".join(f"{value:.1f}" for value in quantiles_ms(silent_s))
            print(f"| {name} | {shown} | {f'{stale_ms:.0f}' if hello is not None else '-'} |", flush=True)
            worst[name] = stale_ms if hello is not None else max(silent_s) * 1000
    print("\nmust hold: base at most 250 ms; antiphon.v1 0 ms sent after the flush")
    return 0 if worst.pop("base") <= 250 and not any(worst.values()) else 1


async def interrupt(url: str, token: str, hello: dict[str, Any] | None, listen_s: float) -> Player:
    """Ask for a long answer, listen, speak over it, and return the player when all has come."""
    protocols = [Subprotocol("antiphon.v1")] if hello is not None else None
    async with connect(url, subprotocols=protocols, compression=None) as socket:
        player = Player()
        await send(socket, "auth", token=token)
        if hello is not None:
            await send(socket, "client_hello", **hello)
        await send(socket, "command", command="talk")
        await play(socket, player, until="audio_response")
        await play(socket, player, for_s=listen_s)
        config = {"sampleRate": 16_000, "format": "LINEAR16", "language": "en-US"}
        await send(socket, "audio_stream_start", config=config)
        await send(socket, "audio_chunk", sequence=0, data=b64encode(bytes(3200)).decode())
        await play(socket, player, for_s=LISTEN_S)
        return player


async def send(socket: ClientConnection, kind: str, **fields: Any) -> None:
    await socket.send(msgspec.json.encode({"type": kind, "timestamp": 0, **fields}), text=True)


async def play(socket: ClientConnection, player: Player, *, until: str = "", for_s: float = 10.0) -> None:
    try:
        async with asyncio.timeout(for_s):
            while True:
                message = msgspec.json.decode(await socket.recv())
                player.take(message, time.perf_counter())
                if message["type"] == until:
                    return
    except TimeoutError:
        pass


@asynccontextmanager
async def talkative(interrupted_at: list[float]) -> AsyncIterator[str]:
    """Serve the upstream; it notes when it said `interrupted`."""

    async def talk(requests: AsyncIterator[Any], context: Any) -> None:
        async for request in requests:
            if request.HasField("setup"):
                await context.write(ServerMessage(setup_complete={}))
            elif request.realtime_input.text:
                blob = {"mime_type": "audio/pcm;rate=24000", "data": SECOND}
                for _ in range(30):
                    await context.write(
                        ServerMessage(server_content={"model_turn": {"parts": [{"inline_data": blob}]}})
                    )
            elif request.realtime_input.HasField("audio"):
                interrupted_at.append(time.perf_counter())
                await context.write(ServerMessage(server_content={"interrupted": True}))
                await context.write(ServerMessage(server_content={"turn_complete": True}))

    async with serving(talk) as target:
        yield target


if __name__ == "__main__":
    sys.exit(event_loop.run(main()))
