"""The model's side of a session, in the gateway's own words.

`Setup` opens a conversation, `LiveInput` goes to the model, `LiveEvent` comes from it. An adapter
(`gemini`) turns them into what the model speaks. Audio is raw PCM: 16-bit little-endian mono,
16 kHz towards the model, `rate_hz` (24 kHz) from it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol

from msgspec import Struct

from antiphon.errors import GatewayError

INPUT_RATE_HZ = 16_000


class Parameter(Struct, frozen=True):
    """One parameter of a function that the model may call."""

    type: Literal["string", "number", "integer", "boolean"]
    description: str = ""
    required: bool = False
    enum: tuple[str, ...] = ()


class Function(Struct, frozen=True):
    """A function declared to the model. `phrases` are examples of what a user says to mean it."""

    name: str
    description: str
    phrases: tuple[str, ...] = ()
    parameters: dict[str, Parameter] = {}


class Turn(Struct, frozen=True):
    """Something said in a conversation."""

    role: Literal["user", "model"]
    text: str


class Setup(Struct, frozen=True):
    """What a conversation is opened with.

    `language` is a BCP 47 tag; `handle` resumes an earlier conversation, and `history` tells a new one what
    was said in it. With `push_to_talk` the model does not detect speech by itself: `ActivityStart` and
    `ActivityEnd` enclose what the user says.
    """

    language: str
    instruction: str = ""
    functions: tuple[Function, ...] = ()
    handle: str | None = None
    push_to_talk: bool = False
    history: tuple[Turn, ...] = ()


# ---- towards the model


class Audio(Struct, frozen=True, gc=False):
    """The user's voice: 16 kHz mono PCM16."""

    pcm: bytes


class AudioEnd(Struct, frozen=True):
    """The user's audio stream is over; what was said may be answered at once."""


class ActivityStart(Struct, frozen=True):
    """The user begins to speak (push to talk); a running answer is interrupted."""


class ActivityEnd(Struct, frozen=True):
    """The user has spoken (push to talk); what was said since `ActivityStart` is to be answered."""


class Interrupt(Struct, frozen=True):
    """The user wants the running answer to stop, and says nothing in its place."""


class Text(Struct, frozen=True):
    """A turn typed by the user, with what the application adds for the model's eyes."""

    text: str
    context: dict[str, Any] | None = None


class ToolResult(Struct, frozen=True):
    """The answer to `Called`."""

    call_id: str
    name: str
    result: dict[str, Any]

    def told(self) -> Text:
        """Return what a model is told that knows nothing of the call."""
        return Text(f"The result of the function {self.name} is {self.result}.")


LiveInput = Audio | AudioEnd | ActivityStart | ActivityEnd | Interrupt | Text | ToolResult


# ---- from the model


class Heard(Struct, frozen=True):
    """A piece of the transcription of what the user says.

    `text` is a delta. `whole`, where the engine gives it, is the utterance so far and replaces all
    that came before. `confidence` is 0.0 where the engine gave none; `final` ends the utterance.
    """

    text: str
    confidence: float = 0.0
    final: bool = False
    whole: str | None = None


class VoiceActivity(Struct, frozen=True):
    """The user has begun or ceased to speak, where the engine tells.

    `at_ms` counts from the first audio of the connection; None where the engine does not say.
    """

    started: bool
    at_ms: float | None = None


class Said(Struct, frozen=True):
    """A piece of the transcription of what the model says (a delta)."""

    text: str


class Spoke(Struct, frozen=True, gc=False):
    """A piece of the model's voice: mono PCM16 at `rate_hz`."""

    pcm: bytes
    rate_hz: int = 24_000


class Generated(Struct, frozen=True):
    """The model has made the whole answer; it may still be playing."""


class TurnEnded(Struct, frozen=True):
    """The model's turn is over."""


class Interrupted(Struct, frozen=True):
    """The user spoke over the answer; what is queued of it is stale."""


class Called(Struct, frozen=True):
    """The model calls a function and waits for a `ToolResult`."""

    call_id: str
    name: str
    args: dict[str, Any]


class Cancelled(Struct, frozen=True):
    """The model no longer wants the results of these calls."""

    call_ids: tuple[str, ...]


class GoingAway(Struct, frozen=True):
    """The connection is to be renewed within `time_left_s` seconds: its end was announced, or a better one is
    to be had again (`recovered`)."""

    time_left_s: float
    reason: Literal["go_away", "recovered"] = "go_away"


class HandleChanged(Struct, frozen=True):
    """The handle that resumes this conversation; None while it cannot be resumed."""

    handle: str | None


class Metered(Struct, frozen=True):
    """Tokens used so far, cumulative within one connection."""

    prompt_tokens: int
    response_tokens: int
    total_tokens: int


LiveEvent = (
    Heard
    | VoiceActivity
    | Said
    | Spoke
    | Generated
    | TurnEnded
    | Interrupted
    | Called
    | Cancelled
    | GoingAway
    | HandleChanged
    | Metered
)


Upstream = Literal["primary", "fallback"]
"""Who answers: the model that is meant, or the embedded engine in its place."""


Take = Callable[[LiveEvent], None]
"""What is done with an event."""
Full = Callable[[], bool]
"""Whether whoever takes events wants no more for now."""
Room = Callable[[], Awaitable[None]]
"""Returns when it does again."""


Answered = Callable[[GatewayError | None], None]


class LiveStream(Protocol):
    """One open conversation with the model.

    All of it raises `GatewayError` with an `UPSTREAM_*` code when the conversation breaks or is over.
    """

    @property
    def upstream(self) -> Upstream: ...

    def write(self, item: LiveInput) -> bool:
        """Send an item; return whether there is room for another. Where not, `drain()` comes next."""

    async def drain(self) -> None:
        """Return when there is room for another item, and all that was written is on its way."""

    async def listen(self, take: Take, full: Full, room: Room) -> None:
        """Hand every event to `take` as it comes. Where it is `full` after a message of the model, nothing
        more is read until `room()` returns.
        """

    def ask(self, answered: Answered) -> None:
        """Have `answered` called, later, once the other end has answered something that was asked after all
        that was written. So that has arrived at the model's machine; whether the model has it is not told.

        It is called with UPSTREAM_LOST where no answer comes; perhaps never once the conversation is over.
        """


Connect = Callable[[Setup], AbstractAsyncContextManager[LiveStream]]
"""Open a conversation; entering returns once the model is ready. Raises `GatewayError`."""
