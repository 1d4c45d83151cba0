"""Talk by microphone and loudspeaker. Both are open all the time: whoever speaks up is heard."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

from msgspec import Struct

from antiphon.client import AudioInterface, Client, Voice
from antiphon.extension import ToolCall
from antiphon.talk.declining import decline
from antiphon.talk.keeper import Keeper
from antiphon.talk.view import View


class Options(Struct, frozen=True):
    """How one talks. `keys` is the file descriptor whose lines press the button."""

    language: str
    push_to_talk: bool
    save: Path | None
    keys: int


async def converse(client: Client, sound: AudioInterface, options: Options, view: View) -> int:
    """Talk until cancelled, or with push to talk until the keys end; return the exit status.

    Raises:
        ClientError, TalkError.
    """
    if options.push_to_talk:
        view.note("Press Enter, speak, and press Enter again. Ctrl-C ends.")
    else:
        view.note("Speak; Ctrl-C ends. Wear headphones, else the answers are heard as if you spoke.")
    keeper = Keeper(options.save, "microphone") if options.save else None
    try:
        async with (
            client.talk(sound, language=options.language, push_to_talk=options.push_to_talk) as voice,
            asyncio.TaskGroup() as tasks,
        ):
            listening = tasks.create_task(_listen(client, view, keeper))
            if options.push_to_talk:
                await Keys(voice).follow(options.keys)
                listening.cancel()
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group
    finally:
        if keeper:
            keeper.close()
        view.end()
    return 0


async def _listen(client: Client, view: View, keeper: Keeper | None) -> None:
    """Show what comes."""
    async for message in client:
        view.show(message)
        if keeper:
            keeper.receive(message)
        if isinstance(message, ToolCall):
            await decline(client, message.call_id)
    raise client.closed()


class Keys:
    """The Enter key: each line presses or releases the button."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._gone = asyncio.Event()

    async def follow(self, keys: int) -> None:
        """Follow a file descriptor to its end, in a thread that ends with it or with the program."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, args=(keys, loop), daemon=True).start()
        await self._gone.wait()

    def _read(self, keys: int, loop: asyncio.AbstractEventLoop) -> None:
        try:
            # Not by sys.stdin, whose lock a thread that waits in it would keep to the interpreter's end.
            while lines := os.read(keys, 1024):
                for _ in range(lines.count(b"\n")):
                    loop.call_soon_threadsafe(self._toggle)
            loop.call_soon_threadsafe(self._gone.set)
        except (OSError, RuntimeError):
            return  # The descriptor or the loop is closed: nobody wants to know any more.

    def _toggle(self) -> None:
        if self._voice.talking:
            self._voice.stop_talking()
        else:
            self._voice.start_talking()
