"""A conversation by microphone and loudspeaker: what is said is sent, what is answered is played."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from msgspec import UNSET
from msgspec.structs import replace

from antiphon.client.binary import pcm_rate
from antiphon.client.errors import Closed, SoundError
from antiphon.client.sound import PLAYBACK_HZ, AudioInterface
from antiphon.client.speaker import Speaker
from antiphon.extension import AudioFlush, ClientHello, PlaybackMark, ResponseStarted, ServerMessage
from antiphon.messages import AudioResponse

if TYPE_CHECKING:
    from antiphon.client.connection import Client

BUFFER_MS: Final = 2_000
"""How far ahead answers may come: it rides out a network that stutters, and a flush empties it."""

_TICK_S: Final = 0.05
_PCM: Final = (f"audio/pcm;rate={PLAYBACK_HZ}",)
_UNSAID_MS: Final = 250
"""How far ahead answers come to a client that has not said how far they may."""


class Voice:
    """The user's side of a conversation by microphone, as `Client.talk` yields it.

    With push to talk the application says when the user speaks; the methods do not wait, and may be called
    from any thread.
    """

    def __init__(self, client: Client, sound: AudioInterface, *, push_to_talk: bool) -> None:
        self._client = client
        self._sound = sound
        self._push_to_talk = push_to_talk
        self._button: deque[bool] = deque()
        self._talking = not push_to_talk
        self._speaker = Speaker()
        self._played_before_ms = sound.played_ms
        self._begun = False

    @property
    def talking(self) -> bool:
        """Whether what the microphone hears is sent: all the while, unless there is a button for it."""
        return self._talking

    def start_talking(self) -> None:
        """The button is pressed: what the microphone hears is sent from now on, and an answer stops."""
        self._press(pressed=True)

    def stop_talking(self) -> None:
        """The button is released: the user has spoken, and is to be answered."""
        self._press(pressed=False)

    def _press(self, *, pressed: bool) -> None:
        if not self._push_to_talk:
            raise RuntimeError("There is no button: talk(sound, push_to_talk=True) makes one.")
        if pressed is self._talking:
            return
        self._talking = pressed
        if len(self._button) == 2:
            self._button.pop()  # Nothing is sent just now: press and release again are one.
        else:
            self._button.append(pressed)

    # ---- what Client.talk runs

    async def speak(self) -> None:
        """Send what the microphone hears, until cancelled or the session is over."""
        sending = not self._push_to_talk
        self._sound.discard()
        # Whoever iterates is told of the end, too, and with it what the gateway said last.
        with suppress(Closed):
            while True:
                pcm = await self._sound.read()
                if self._button and self._button[0]:
                    await self._client.activity_start()
                    sending = self._button.popleft()
                if sending:
                    await self._client.send_audio(pcm)
                if self._button and not self._button[0]:
                    await self._client.activity_end()
                    sending = self._button.popleft()

    def play(self, message: ServerMessage) -> PlaybackMark | None:
        """Play what comes; return what was heard of an answer that is cut short.

        Raises:
            SoundError: it cannot be played.
        """
        match message:
            case ResponseStarted(response_id=response_id):
                self._begun = True
                self._speaker.begin(response_id)
            case AudioResponse(data=pcm, format=format_):
                if pcm_rate(format_) != PLAYBACK_HZ:
                    if self._client.extended and not self._begun:
                        return None  # It is of an answer that began before, in a format asked for then.
                    raise SoundError(f"The answer comes as {format_}, which cannot be played here.")
                self._sound.play(pcm)
                self._speaker.add(len(pcm) / 2 / PLAYBACK_HZ * 1000)
            case AudioFlush(response_id=response_id):
                self._sound.flush()
                if mark := self._speaker.flush(response_id, self._position_ms()):
                    return PlaybackMark(response_id=mark.response_id, played_ms=mark.played_ms)
            case _:
                pass
        return None

    async def report(self) -> None:
        """Tell the gateway what is played, until cancelled or the session is over."""
        await report(self._client, self._speaker, self._position_ms)

    def _position_ms(self) -> float:
        return self._sound.played_ms - self._played_before_ms


async def report(client: Client, speaker: Speaker, position_ms: Callable[[], float]) -> None:
    """Send the speaker's marks for where its loudspeaker has got to; until cancelled, or the end."""
    now = asyncio.get_running_loop().time
    with suppress(Closed):
        while True:
            await asyncio.sleep(_TICK_S)
            for mark in speaker.marks(position_ms(), now()):
                await client.playback_mark(*mark)


def by_voice(hello: ClientHello) -> ClientHello:
    """Return what a client can do while it plays its answers itself."""
    features = () if hello.features is UNSET else hello.features
    buffer_ms = BUFFER_MS if hello.playback_buffer_ms is UNSET else hello.playback_buffer_ms
    return replace(
        hello,
        features=tuple(dict.fromkeys((*features, "playback_mark"))),
        output_formats=_PCM,
        playback_buffer_ms=buffer_ms,
    )


def by_hand(hello: ClientHello) -> ClientHello:
    """Return what it can do when that is over, as it was said first; what was left out is said now."""
    return replace(
        hello,
        features=() if hello.features is UNSET else hello.features,
        output_formats=_PCM if hello.output_formats is UNSET else hello.output_formats,
        playback_buffer_ms=_UNSAID_MS if hello.playback_buffer_ms is UNSET else hello.playback_buffer_ms,
    )
