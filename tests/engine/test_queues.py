"""What waits in a call."""

import asyncio
from typing import Any

from antiphon.engine import wire
from antiphon.engine.queues import MAX_UNHEARD_S, MAX_UNREAD_BYTES, MAX_UNREAD_FACTOR, Inbox, Outbox

SECOND = wire.Audio(bytes(32_000), 16_000)


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_inbox_keeps_the_order() -> None:
    inbox = Inbox()
    items = [SECOND, wire.AudioEnded(), wire.ActivityStarted(), SECOND, wire.ActivityEnded(), None]
    for item in items:
        await inbox.put(item)
    assert [await inbox.get() for _ in items] == items


async def test_a_full_inbox_makes_the_sender_wait() -> None:
    inbox = Inbox()
    for _ in range(int(MAX_UNHEARD_S)):
        await inbox.put(SECOND)
    waiting = asyncio.create_task(inbox.put(wire.AudioEnded()))
    await settle()
    assert not waiting.done()
    await inbox.get()
    await waiting


async def test_audio_is_counted_in_seconds_whatever_its_rate() -> None:
    inbox = Inbox()
    for _ in range(int(MAX_UNHEARD_S)):
        await inbox.put(wire.Audio(bytes(2 * 48_000), 48_000))
    waiting = asyncio.create_task(inbox.put(SECOND))
    await settle()
    assert not waiting.done()
    waiting.cancel()


async def test_even_marks_cannot_be_piled_up() -> None:
    inbox = Inbox()
    async with asyncio.timeout(10):
        for _ in range(int(MAX_UNHEARD_S * 1000) + 1):
            await inbox.put(wire.AudioEnded())
        waiting = asyncio.create_task(inbox.put(None))
        await settle()
        assert not waiting.done()
        waiting.cancel()


async def test_the_inbox_makes_the_ear_wait() -> None:
    inbox = Inbox()
    waiting = asyncio.create_task(inbox.get())
    await settle()
    assert not waiting.done()
    await inbox.put(SECOND)
    assert await waiting == SECOND


class Reader:
    """A client that reads when it is let."""

    def __init__(self) -> None:
        self.reads = asyncio.Event()
        self.read: list[Any] = []

    async def write(self, message: Any) -> None:
        await self.reads.wait()
        self.read.append(message)


def audio(size: int) -> wire.ServerMessage:
    return wire.spoken(bytes(size), "")


async def test_the_outbox_sends_in_order() -> None:
    outbox, reader = Outbox(), Reader()
    sending = asyncio.create_task(outbox.empty_into(reader))
    messages = [wire.setup_complete(), audio(100), wire.generation_complete()]
    for message in messages:
        assert outbox.put(message)
    flushed = asyncio.create_task(outbox.flushed())
    await settle()
    assert not flushed.done()
    reader.reads.set()
    await flushed
    assert reader.read == messages
    sending.cancel()


async def test_a_full_outbox_makes_the_voice_wait() -> None:
    outbox, reader = Outbox(), Reader()
    sending = asyncio.create_task(outbox.empty_into(reader))
    await outbox.room()
    outbox.put(audio(MAX_UNREAD_BYTES))
    waiting = asyncio.create_task(outbox.room())
    await settle()
    assert not waiting.done()
    reader.reads.set()
    await waiting
    sending.cancel()


async def test_an_outbox_that_nobody_empties_is_refused_more() -> None:
    outbox = Outbox()
    messages = 0
    while outbox.put(audio(10_000)):
        messages += 1
    assert messages == MAX_UNREAD_BYTES * MAX_UNREAD_FACTOR // audio(10_000).ByteSize()
    outbox.drop_answer()
    assert outbox.put(audio(10_000))


async def test_an_interruption_drops_the_answer_and_nothing_else() -> None:
    outbox, reader = Outbox(), Reader()
    for message in (wire.setup_complete(), audio(100), wire.generation_complete()):
        outbox.put(message)
    outbox.drop_answer()
    outbox.put(wire.interrupted())
    reader.reads.set()
    sending = asyncio.create_task(outbox.empty_into(reader))
    await outbox.flushed()
    assert reader.read == [wire.setup_complete(), wire.interrupted()]
    sending.cancel()
