"""Talk by microphone and loudspeaker. Both are open all the time: whoever speaks up is heard."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Final

from msgspec import Struct

from antiphon.client import Client, Closed, Speaker, pcm_rate
from antiphon.extension import AudioFlush, ResponseStarted, ServerMessage, ToolCall
from antiphon.messages import AudioResponse
from antiphon.talk.errors import TalkError
from antiphon.talk.keeper import Keeper
from antiphon.talk.playing import decline, report
from antiphon.talk.sound import CAPTURE_HZ, PLAYBACK_HZ, Sound
from antiphon.talk.view import View

BUFFER_MS: Final = 2_000
"""How far ahead answers may come: it rides out a network that stutters, and a flush empties it."""


class Options(Struct, frozen=True):
    """How one talks. `keys` is the file descriptor whose lines press the button."""

    language: str
    push_to_talk: bool
    save: Path | None
    keys: int


async def converse(client: Client, sound: Sound, options: Options, view: View) -> int:
    """Talk until cancelled, or with push to talk until the keys end; return the exit status.

    Raises:
        ClientError, TalkError.
    """
    button = Button()
    if options.push_to_talk:
        button.watch(options.keys)
        view.note("Press Enter, speak, and press Enter again. Ctrl-C ends.")
    else:
        view.note("Speak; Ctrl-C ends. Wear headphones, else the answers are heard as if you spoke.")
    speaker = Speaker()
    keeper = Keeper(options.save, "microphone") if options.save else None
    try:
        async with asyncio.TaskGroup() as tasks:
            speaking = tasks.create_task(_speak(client, sound, options, button))
            others = [tasks.create_task(_listen(client, sound, speaker, view, keeper))]
            if client.extended:
                others.append(tasks.create_task(report(client, speaker, lambda: sound.played_ms)))
            if await speaking:
                for task in others:
                    task.cancel()
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group
    finally:
        if keeper:
            keeper.close()
        view.end()
    return 0


async def _speak(client: Client, sound: Sound, options: Options, button: Button) -> bool:
    """Send what the microphone hears; return whether the user has ended it, else the connection has."""
    pressed = False
    try:
        await client.start("LINEAR16", CAPTURE_HZ, options.language)
        while not button.gone:
            pcm = await sound.read()
            if button.pressed and not pressed:
                await client.activity_start()
                pressed = True
            if pressed or not options.push_to_talk:
                await client.send_audio(pcm)
            if pressed and not button.pressed:
                await client.activity_end()
                pressed = False
        await client.end()
    except Closed:
        return False  # Whoever listens is told the same, and with it what the gateway said last.
    return True


async def _listen(client: Client, sound: Sound, speaker: Speaker, view: View, keeper: Keeper | None) -> None:
    """Play and show what comes."""
    async for message in client:
        await _handle(client, message, sound, speaker)
        view.show(message)
        if keeper:
            keeper.receive(message)
    raise client.closed()


async def _handle(client: Client, message: ServerMessage, sound: Sound, speaker: Speaker) -> None:
    match message:
        case ResponseStarted(response_id=response_id):
            speaker.begin(response_id)
        case AudioResponse(data=pcm, format=format_):
            if pcm_rate(format_) != PLAYBACK_HZ:
                raise TalkError(f"The answer comes as {format_}, which cannot be played here.")
            sound.play(pcm)
            speaker.add(len(pcm) / 2 / PLAYBACK_HZ * 1000)
        case AudioFlush(response_id=response_id):
            sound.flush()
            if mark := speaker.flush(response_id, sound.played_ms):
                await client.playback_mark(*mark)
        case ToolCall(call_id=call_id):
            await decline(client, call_id)
        case _:
            pass


class Button:
    """The Enter key: each line presses or releases it."""

    def __init__(self) -> None:
        self.pressed = False
        self.gone = False
        """Whether no more lines will come."""

    def watch(self, keys: int) -> None:
        """Follow a file descriptor, in a thread that ends with it or with the program."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._follow, args=(keys, loop), daemon=True).start()

    def _follow(self, keys: int, loop: asyncio.AbstractEventLoop) -> None:
        try:
            # Not by sys.stdin, whose lock a thread that waits in it would keep to the interpreter's end.
            while lines := os.read(keys, 1024):
                for _ in range(lines.count(b"\n")):
                    loop.call_soon_threadsafe(self._toggle)
            loop.call_soon_threadsafe(self._go)
        except (OSError, RuntimeError):
            return  # The descriptor or the loop is closed: nobody wants to know any more.

    def _toggle(self) -> None:
        self.pressed = not self.pressed

    def _go(self) -> None:
        self.pressed = False
        self.gone = True
