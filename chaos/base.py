"""The model goes away, announced and not, under clients of both protocols; clients of the base messages."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any, Final

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from chaos.diary import Diary, Epoch
from chaos.plan import Plan, speaking
from chaos.track import BLOCK, Track
from chaos.verdict import Row, listen
from chaos.world import World

EXTRA_MS: Final = 300.0
SETUP_S: Final = 0.2
BASE: Final = frozenset({"auth_success", "recognition_result", "audio_response", "error"})


class BaseClient:
    """Speaks one stream in real time, by the nine messages of the request."""

    def __init__(self, number: int, world: World) -> None:
        self.diary = Diary(number, extended=False)
        self.track = Track(number)
        self.speaks = True
        self.strange: set[str] = set()
        self._world = world

    async def run(self) -> None:
        at = 0
        async with connect(self._world.direct_url, compression=None, proxy=None, close_timeout=0.5) as socket:

            async def send(kind: str, **fields: Any) -> None:
                await socket.send(json.dumps({"type": kind, "timestamp": int(time.time() * 1000), **fields}))

            await send("auth", token=self._world.token(f"base{self.diary.client}"))
            reading = asyncio.ensure_future(self._read(socket))
            config = {"sampleRate": 16_000, "format": "LINEAR16", "language": "en-US"}
            await send("audio_stream_start", config=config)
            self.diary.epochs.append(Epoch("", 0, time.time()))
            try:
                while self.speaks:
                    data = base64.b64encode(self.track.pcm(at, BLOCK)).decode()
                    await send("audio_chunk", sequence=at // BLOCK, data=data)
                    at += BLOCK
                    await asyncio.sleep(0.1)
                await send("audio_stream_end", duration=at / 16)
                await asyncio.sleep(1)
                # Nothing is acknowledged to it: all that was sent on a connection that lived is to be heard.
                self.diary.epochs[-1].sent = self.diary.epochs[-1].acked = at
            except ConnectionClosed as closed:
                self.strange.add(f"closed by {closed.rcvd}")
            reading.cancel()

    async def _read(self, socket: Any) -> None:
        async for text in socket:
            message = json.loads(text)
            if message["type"] not in BASE or message["type"] == "error":
                self.strange.add(str(message.get("code", message["type"])))


async def rotation(world: World, plan: Plan, more: dict[str, Any]) -> list[Row]:
    """Let the model go away several times under everybody who speaks."""
    world.upstream.order(do="set_up", s=SETUP_S)
    bases = [BaseClient(number, world) for number in (210, 211)]
    async with asyncio.TaskGroup() as tasks:
        for base in bases:
            tasks.create_task(base.run())
        async with speaking(world, range(200, 203), world.direct_url, seed=plan.seed) as clients:
            await asyncio.sleep(2)
            for number in range(plan.times):
                world.upstream.order(do="go_away", left_s=3.0 + number % 2, all=True)
                await asyncio.sleep(3.0 + number % 2 + 0.5)
            for base in bases:
                base.speaks = False
    world.upstream.order(do="set_up", s=0.02)
    speakers = [(c.diary, c.track) for c in clients] + [(base.diary, base.track) for base in bases]
    audio = await asyncio.to_thread(listen, world.heard, speakers)
    rotations = [message for client in clients for message in client.diary.rotations]
    extra_ms = []
    for client in clients:
        streams = audio.streams.get(client.number, [])
        for message in client.diary.rotations:
            after = min(streams, key=lambda heard: abs(heard.ready_at - message["timestamp"] / 1000))
            extra_ms.append(message["gapMs"] - after.setup_s * 1000)
    lost_ms = audio.total(lambda found: found.lost) / 16
    told_ms = sum(message["lostAudioMs"] for message in rotations)
    base_streams = sum(len(audio.streams.get(base.diary.client, [])) for base in bases)
    worst_ms = max(extra_ms, default=0.0)
    replay_ms = max(audio.replays_ms(mute=False), default=0)
    strange = [what for base in bases for what in base.strange]
    more["rotations"] = rotations
    return [
        Row(
            "rotation on GoAway: extra wait beyond the model's own set-up; audio lost",
            "at most 300 ms; 0 ms",
            f"worst {worst_ms:.0f} ms of {len(extra_ms)} rotations (and {base_streams - len(bases)} of base "
            f"clients); {lost_ms:.0f} ms lost, {told_ms:.0f} ms said to be; worst replay {replay_ms:.0f} ms",
            bool(extra_ms)
            and worst_ms <= EXTRA_MS
            and not (lost_ms or told_ms or strange)
            and not any(client.diary.faults for client in clients)
            and base_streams > len(bases),
            [
                *(f"base client: {what}" for what in strange),
                *(f"client {fault.client}: {fault.what}" for c in clients for fault in c.diary.faults),
                *(
                    f"client {number}: lost {found.lost} at {found.lost_places[:4]}"
                    for number, found in audio.found
                    if found.lost
                ),
                f"reasons: {sorted({str(message['reason']) for message in rotations})}",
            ],
            is_timed=not (lost_ms or told_ms or strange),
        )
    ]
