"""Nodes end under conversations, in order, at once, or only for a while; other nodes go on with them."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any, Final

from websockets.exceptions import ConnectionClosed

from chaos.client import Client
from chaos.control import until
from chaos.plan import Plan, speaking
from chaos.verdict import Row, listen, sums
from chaos.world import World

RESUME_S: Final = 1.0
CONVERSATIONS: Final = 100
STALE_S: Final = 3.0


async def kill(world: World, plan: Plan, more: dict[str, Any]) -> list[Row]:
    """End a node at once; its conversations go on at the other."""
    async with speaking(world, range(300, 304), world.direct_url, seed=plan.seed) as clients:
        await asyncio.sleep(2)
        took_s: list[float] = []
        for number in range(plan.times):
            node = list(world.nodes.values())[number % 2]
            before = [len(client.diary.resumed) for client in clients]
            await node.kill()
            await asyncio.sleep(1.5)
            await node.start()
            await asyncio.sleep(1.0)
            took_s += [
                resumed.took_s
                for client, had in zip(clients, before, strict=True)
                for resumed in client.diary.resumed[had:]
            ]
    audio = await asyncio.to_thread(listen, world.heard, [(c.diary, c.track) for c in clients])
    lost = audio.total(lambda found: found.lost)
    ended = sum(len(client.diary.epochs) - 1 for client in clients)
    faults = [fault.what for client in clients for fault in client.diary.faults]
    worst_s = max(took_s, default=float("inf"))
    return [
        Row(
            "resume on another node after SIGKILL of the first: from reconnect to `resumed`",
            "at most 1.0 s",
            f"worst {worst_s * 1000:.0f} ms of {len(took_s)}; {lost} acknowledged samples lost, "
            f"{ended} sessions ended",
            worst_s <= RESUME_S and not (lost or ended or faults),
            [*faults[:5], *(f"client {n}: lost at {f.lost_places[:4]}" for n, f in audio.found if f.lost)],
            is_timed=not (lost or ended or faults),
        )
    ]


async def rolling(world: World, plan: Plan, more: dict[str, Any]) -> list[Row]:
    """Restart one node after the other, in order."""
    numbers = range(400, 400 + CONVERSATIONS)
    async with speaking(world, numbers, world.direct_url, seed=plan.seed, chunk_s=0.5) as clients:
        await asyncio.sleep(2)
        for node in world.nodes.values():
            node.signal(signal.SIGTERM)
            await node.ended()
            await node.start()
            await asyncio.sleep(1.5)
    diaries = [client.diary for client in clients]
    audio = await asyncio.to_thread(listen, world.heard, [(c.diary, c.track) for c in clients])
    ended = sum(len(diary.epochs) - 1 for diary in diaries)
    refused = [text for diary in diaries for text in diary.refused_handshakes]
    lost = audio.total(lambda found: found.lost)
    faults = [fault.what for diary in diaries for fault in diary.faults]
    resumes = sum(len(diary.resumed) for diary in diaries)
    more["rolling"] = diaries
    closes = sums([diary.closes for diary in diaries])
    errors = sums([diary.errors for diary in diaries])
    return [
        Row(
            f"rolling restart of both nodes under {CONVERSATIONS} conversations through HAProxy",
            "0 conversations ended, 0 failed handshakes",
            f"{ended} ended, {len(refused)} handshakes failed; {resumes} resumes, {lost} acknowledged "
            f"samples lost, {len(faults)} faults of order",
            not (ended or refused or lost or faults),
            [*refused[:5], *faults[:5], f"closes: {closes}; errors: {errors}"],
        )
    ]


async def stale(world: World, plan: Plan, more: dict[str, Any]) -> list[Row]:
    """Stop a node, have its session taken over, and let it go on: it may do nothing any more."""
    results = [await _stale_once(world, 500 + number, plan) for number in range(max(1, plan.times // 3))]
    written = sum(result[0] for result in results)
    heard = sum(result[1] for result in results)
    closes = [result[2] for result in results]
    return [
        Row(
            "stale owner after SIGSTOP, takeover, SIGCONT",
            "refused, writes nothing",
            f"{written} keys of the store changed, {heard} samples heard from it, its client's "
            f"connection closed by {', '.join(sorted(set(closes)))}; {len(results)} times",
            not (written or heard) and all(close == "4409" for close in closes),
            [note for result in results for note in result[3]],
        )
    ]


async def _stale_once(world: World, number: int, plan: Plan) -> tuple[int, int, str, list[str]]:
    a, b = world.nodes.values()
    client = Client(number, a.url, world.token, seed=plan.seed)
    notes: list[str] = []
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(client.run())
        await client.attached.wait()
        await until(lambda: client.epoch.acked > 16_000, 5)
        a.signal(signal.SIGSTOP)
        # What is said now lies in the stopped node's socket, and it will read it.
        await asyncio.sleep(0.6)
        old = client.socket
        client.abandon(b.url)
        before = len(client.diary.resumed)
        if not await until(lambda: len(client.diary.resumed) > before, 5):
            notes.append("the session did not go on at the other node")
        await asyncio.sleep(0.5)
        client.speaks = False
        await until(lambda: client.at_rest, 5)
        await asyncio.sleep(2.5)  # until nothing is going on in the session
        stored, owner = _stored(world, client.session_id), _owner(world, client.session_id)
        continued_at = time.time()
        a.signal(signal.SIGCONT)
        await asyncio.sleep(STALE_S)
        now = _stored(world, client.session_id)
        changed = sorted(key for key in stored.keys() | now.keys() if stored.get(key) != now.get(key))
        if _owner(world, client.session_id) == owner:
            if changed:
                notes.append(f"changed by its owner: {changed}")
            changed = []
        close = "nothing"
        if old:
            try:
                async with asyncio.timeout(1):
                    while True:
                        await old.recv()
            except TimeoutError:
                pass
            except ConnectionClosed as closed:
                close = str(closed.rcvd.code) if closed.rcvd else "lost"
            old.transport.abort()
        await client.finish()
        await running
    audio = await asyncio.to_thread(listen, world.heard, [(client.diary, client.track)])
    streams = audio.streams.get(number, [])
    late = 0
    for stream in streams[:-1]:
        if after := stream.heard_after(continued_at):
            late += after
            notes.append(
                f"a stream that was opened at {stream.opened_at:.3f} heard audio at {stream.last_at:.3f}"
            )
    for _, found in audio.found:
        if found.lost or found.doubled or found.skipped:
            notes.append(f"{found}")
            late += found.lost + found.doubled
    notes += [fault.what for fault in client.diary.faults]
    return len(changed), late, close, notes


def _owner(world: World, session_id: str) -> list[bytes | None]:
    """Return who has the session: its node and fencing token, which every save writes."""
    with world.store.client() as client:
        found: list[bytes | None] = client.hmget(f"antiphon:{{{session_id}}}:record", ["node", "fence"])
        return found


def _stored(world: World, session_id: str) -> dict[bytes, bytes]:
    return {key: value for key, value in world.store.dump().items() if session_id.encode() in key}
