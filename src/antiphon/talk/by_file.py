"""Speak sound files, one after the other over one connection, as turns of one conversation."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from antiphon.audio.recording import Recording
from antiphon.client import Client, Closed, Speaker
from antiphon.client.voice import report
from antiphon.extension import AudioFlush, ResponseStarted, ServerMessage, ToolCall
from antiphon.messages import AudioResponse, StreamFormat
from antiphon.talk.declining import decline
from antiphon.talk.keeper import Keeper
from antiphon.talk.turn import Exchange, Turn, Waiting
from antiphon.talk.view import View

BUFFER_MS: Final = 30_000
"""Nobody listens: the sooner an answer is here, the better."""

_PIECE_MS: Final = 100.0
"""The most that a piece holds, for one that does not say: to have played more than there is does no harm."""


class Options(Struct, frozen=True):
    """How files are spoken."""

    format: StreamFormat
    language: str
    push_to_talk: bool
    fast: bool
    save: Path | None


async def speak_all(client: Client, recordings: Sequence[Recording], options: Options, view: View) -> int:
    """Speak the recordings, wait for each one's answer, and return the exit status.

    Raises:
        ClientError, TalkError.
    """
    status = 0
    speaker = Speaker()
    for recording in recordings:
        waiting = await _converse(client, recording, options, view, speaker)
        if complaint := waiting.complaint(recording.path.name):
            view.warn(complaint)
            status = 1
    return status


async def _converse(
    client: Client, recording: Recording, options: Options, view: View, speaker: Speaker
) -> Waiting:
    """Speak one recording and listen until it is answered."""
    # An engine hears at four times real time or better: what was sent faster than that, it may still hear.
    behind_s = recording.duration_s / 4 * options.fast
    waiting: Waiting = Exchange(behind_s) if client.extended else Turn(behind_s)
    keeper = Keeper(options.save, recording.path.stem) if options.save else None
    view.begin(recording.path.name, recording.duration_s)
    try:
        async with asyncio.TaskGroup() as tasks:
            try:
                async with asyncio.timeout(None) as patience:
                    tasks.create_task(_speak(client, recording, options, view, waiting, patience))
                    # What nobody listens to counts as played when it is here.
                    reporting = tasks.create_task(report(client, speaker, lambda: speaker.given_ms))
                    with _while_lost(client, view, waiting, patience):
                        await _listen(client, view, waiting, patience, speaker, keeper)
            except TimeoutError:
                if not patience.expired():
                    raise
                reporting.cancel()
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group
    finally:
        if keeper:
            keeper.close()
        view.end()
    return waiting


@contextmanager
def _while_lost(client: Client, view: View, waiting: Waiting, patience: asyncio.Timeout) -> Iterator[None]:
    """Lose no patience while the connection is lost, and say that it is."""

    def lost() -> None:
        view.lost()
        waiting.lost()
        if not patience.expired():
            patience.reschedule(waiting.deadline)

    client.on_lost = lost
    try:
        yield
    finally:
        client.on_lost = view.lost


async def _listen(
    client: Client,
    view: View,
    waiting: Waiting,
    patience: asyncio.Timeout,
    speaker: Speaker,
    keeper: Keeper | None,
) -> None:
    """Take what comes, until that is waited for no longer."""
    now = asyncio.get_running_loop().time
    async for message in client:
        waiting.receive(message, now())
        patience.reschedule(waiting.deadline)
        view.show(message)
        if keeper:
            keeper.receive(message)
        await _handle(client, message, speaker)
    raise client.closed()


async def _handle(client: Client, message: ServerMessage, speaker: Speaker) -> None:
    match message:
        case ResponseStarted(response_id=response_id):
            speaker.begin(response_id)
        case AudioResponse(duration=duration_ms):
            speaker.add(duration_ms or _PIECE_MS)
        case AudioFlush(response_id=response_id):
            if mark := speaker.flush(response_id, speaker.given_ms):
                await client.playback_mark(*mark)
        case ToolCall(call_id=call_id):
            await decline(client, call_id)
        case _:
            pass


async def _speak(
    client: Client,
    recording: Recording,
    options: Options,
    view: View,
    waiting: Waiting,
    patience: asyncio.Timeout,
) -> None:
    """Send the recording, each chunk when a microphone would have it."""
    now = asyncio.get_running_loop().time
    begin = now()
    sent_s = 0.0
    try:
        await client.start(options.format, recording.rate_hz, options.language)
        if options.push_to_talk:
            await client.activity_start()
        for samples, data in recording.chunks(options.format):
            sent_s += samples / recording.rate_hz
            await asyncio.sleep(0 if options.fast else begin + sent_s - now())
            await client.send_audio(data)
            view.sent(sent_s)
        if options.push_to_talk:
            await client.activity_end()
        await client.end(recording.duration_s * 1000)
    except Closed:
        return  # Whoever listens is told the same, and with it what the gateway said last.
    waiting.end(now())
    patience.reschedule(waiting.deadline)
