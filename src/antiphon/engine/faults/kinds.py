"""The faults that can be scripted, each with its keys, as frozen structs. Times are in seconds.

What a key means is told by its `description`, which messages of error and the guide's tables show.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

Status = Literal[
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
]
Moment = Literal[
    "start",
    "setup",
    "ready",
    "audio",
    "turn_end",
    "answer",
    "tool_call",
    "tool_result",
    "turn_complete",
    "go_away",
]
MessageKind = Literal[
    "setup_complete",
    "input_transcription",
    "final_transcription",
    "output_transcription",
    "audio",
    "generation_complete",
    "turn_complete",
    "interrupted",
    "waiting_for_input",
    "tool_call",
    "tool_call_cancellation",
    "handle",
    "go_away",
]
ONCE: Final = frozenset({"start", "setup", "ready", "audio"})
"""Moments that a connection passes once."""

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Seconds = Annotated[float, Meta(ge=0, le=1_000_000)]
Duration = Annotated[float, Meta(gt=0, le=1_000_000)]
Messages = MessageKind | Annotated[tuple[MessageKind, ...], Meta(min_length=1)]

_AT_NOTE: Final = "the moment of the connection when it begins"
_MESSAGES_NOTE: Final = "the name of a kind of message, or a list of names"
_STATUS_NOTE: Final = "the gRPC status, by its name"
_DETAILS_NOTE: Final = "the text that goes with the status"
_RETRY_NOTE: Final = "the RetryInfo that goes with the status, in seconds; none by default"
_UNKNOWN_HANDLE: Final = "No conversation can be resumed with this handle; it may have expired."


class Range(Struct, frozen=True, forbid_unknown_fields=True):
    """Connections from one on, up to another, or every n-th."""

    first: Count | None = field(name="from", default=None)
    last: Count | None = field(name="to", default=None)
    every: Count = 1

    def __post_init__(self) -> None:
        if self.last is not None and self.last < (self.first or self.every):
            raise ValueError("it names no connection")

    def __contains__(self, number: int) -> bool:
        first = self.first or self.every
        return first <= number <= (self.last or number) and (number - first) % self.every == 0


Connections = Literal["all"] | Annotated[tuple[Count, ...], Meta(min_length=1)] | Range


class Fault(Struct, frozen=True, kw_only=True, tag_field="kind"):
    """What all have in common."""

    connections: Annotated[
        Connections,
        Meta(description='"all", a list of numbers, or a table of from, to and every; the first is 1'),
    ] = "all"
    probability: Annotated[
        float, Meta(gt=0, le=1, description="how likely it strikes each time that it could")
    ] = 1.0
    times: Annotated[
        Count | None,
        Meta(description="how often it strikes in total, over all connections; no limit by default"),
    ] = None

    @property
    def kind(self) -> str:
        """The name of its kind."""
        return str(self.__struct_config__.tag)

    def is_for(self, number: int) -> bool:
        """Whether it is for the connection of a number, counted from 1."""
        return self.connections == "all" or number in self.connections


class Timed(Fault, frozen=True, kw_only=True):
    """A fault that begins at a moment of the connection."""

    at: Annotated[Moment, Meta(description=_AT_NOTE)] = "ready"
    nth: Annotated[
        Count | Literal["each"], Meta(description='which of such moments of a connection, or "each"')
    ] = 1
    after_s: Annotated[Seconds, Meta(description="seconds after the moment")] = 0.0
    audio_s: Annotated[
        Duration | None, Meta(description='seconds of audio that the client has sent, with at = "audio"')
    ] = None
    answer_ms: Annotated[
        float,
        Meta(
            ge=0,
            le=1_000_000,
            description='milliseconds of the answer\'s audio that are sent before, with at = "answer"',
        ),
    ] = 0.0

    def __post_init__(self) -> None:
        if (self.at == "audio") is not (self.audio_s is not None):
            raise ValueError('audio_s and at = "audio" belong together')
        if self.answer_ms and self.at != "answer":
            raise ValueError('answer_ms needs at = "answer"')
        if self.nth != 1 and self.at in ONCE:
            raise ValueError(f'at = "{self.at}" is a moment that comes once; leave nth out')


class Lasting(Timed, frozen=True, kw_only=True):
    """A fault that goes on for a while."""

    at: Annotated[Moment, Meta(description=_AT_NOTE)] = "start"
    for_s: Annotated[
        Duration | None, Meta(description="seconds that it lasts; to the connection's end by default")
    ] = None


# ---- the end of a connection


class GoAway(Timed, frozen=True, kw_only=True, tag="go_away"):
    """Announce the end of the connection, and end it."""

    time_left_s: Annotated[Seconds, Meta(description="the time left that it tells")] = 10.0
    then: Annotated[
        Status | Literal["never"],
        Meta(description='the gRPC status of the end when that time is over, or "never"'),
    ] = "ABORTED"
    details: Annotated[str, Meta(description=_DETAILS_NOTE)] = "The connection is at its end."

    def __post_init__(self) -> None:
        Timed.__post_init__(self)
        if self.at == "go_away":
            raise ValueError('a GoAway cannot begin at = "go_away"')


class End(Timed, frozen=True, kw_only=True, tag="end"):
    """End the connection with a status, at once: what waits to be sent is lost."""

    status: Annotated[Status, Meta(description=_STATUS_NOTE)] = "UNAVAILABLE"
    details: Annotated[str, Meta(description=_DETAILS_NOTE)] = ""
    retry_s: Annotated[Seconds | None, Meta(description=_RETRY_NOTE)] = None

    def __post_init__(self) -> None:
        Timed.__post_init__(self)
        if self.status == "OK" and (self.details or self.retry_s is not None):
            raise ValueError("the status OK goes without details and retry_s")


class Mute(Lasting, frozen=True, kw_only=True, tag="mute"):
    """Send nothing any more, while the RPC stays open."""

    at: Annotated[Moment, Meta(description=_AT_NOTE)] = "ready"
    reads: Annotated[bool, Meta(description="whether the client is still read meanwhile")] = True


# ---- resumption


class RefuseHandle(Fault, frozen=True, kw_only=True, tag="refuse_handle"):
    """Refuse a set-up that resumes a conversation."""

    status: Annotated[Status, Meta(description=_STATUS_NOTE)] = "NOT_FOUND"
    details: Annotated[str, Meta(description=_DETAILS_NOTE)] = _UNKNOWN_HANDLE
    retry_s: Annotated[Seconds | None, Meta(description=_RETRY_NOTE)] = None


class ExpireHandles(Fault, frozen=True, kw_only=True, tag="expire_handles"):
    """Refuse a set-up with a handle that is too old."""

    lifetime_s: Annotated[Seconds, Meta(description="seconds that a handle is good for")]
    status: Annotated[Status, Meta(description=_STATUS_NOTE)] = "NOT_FOUND"
    details: Annotated[str, Meta(description=_DETAILS_NOTE)] = _UNKNOWN_HANDLE
    retry_s: Annotated[Seconds | None, Meta(description=_RETRY_NOTE)] = None


class HoldHandles(Fault, frozen=True, kw_only=True, tag="hold_handles"):
    """Refuse a set-up with a handle whose old connection is open, or counts as such."""

    for_s: Annotated[Seconds, Meta(description="seconds that a connection counts as open after its end")]
    status: Annotated[Status, Meta(description=_STATUS_NOTE)] = "FAILED_PRECONDITION"
    details: Annotated[str, Meta(description=_DETAILS_NOTE)] = (
        "The conversation of this handle is still connected; end that connection first."
    )
    retry_s: Annotated[Seconds | None, Meta(description=_RETRY_NOTE)] = None


class NoHandles(Lasting, frozen=True, kw_only=True, tag="no_handles"):
    """Say that the conversation cannot be resumed, in place of giving handles."""

    until_turn: Annotated[
        Count | None, Meta(description="how many answers must be complete for handles to be given")
    ] = None


# ---- messages


class Late(Lasting, frozen=True, kw_only=True, tag="late"):
    """Send messages later."""

    messages: Annotated[Messages, Meta(description=_MESSAGES_NOTE)]
    by_s: Annotated[Duration, Meta(description="seconds that they are late")]


class Lost(Lasting, frozen=True, kw_only=True, tag="lost"):
    """Do not send messages."""

    messages: Annotated[Messages, Meta(description=_MESSAGES_NOTE)]


class Twice(Lasting, frozen=True, kw_only=True, tag="twice"):
    """Send messages a second time."""

    messages: Annotated[Messages, Meta(description=_MESSAGES_NOTE)] = "tool_call"
    by_s: Annotated[Seconds, Meta(description="seconds from the first time to the second")] = 0.0


class StuckTool(Lasting, frozen=True, kw_only=True, tag="stuck_tool"):
    """Ignore the result of a function, and never go on with the answer; the user's next turn is answered."""


class CancelTool(Lasting, frozen=True, kw_only=True, tag="cancel_tool"):
    """Take back a function call that has no result yet, and end the turn without a word."""

    cancel_s: Annotated[Seconds, Meta(description="seconds from the call to its cancellation")]


# ---- speed


class SlowReads(Lasting, frozen=True, kw_only=True, tag="slow_reads"):
    """Read the client slowly, so that what it sends piles up on its side."""

    speed: Annotated[
        Duration | None, Meta(description="audio that is read, in times of real time; no limit by default")
    ] = None
    message_ms: Annotated[
        Duration | None, Meta(description="milliseconds from a message to the next; no limit by default")
    ] = None

    def __post_init__(self) -> None:
        Timed.__post_init__(self)
        if self.speed is None and self.message_ms is None:
            raise ValueError("speed or message_ms is needed")


class AnswerAudio(Lasting, frozen=True, kw_only=True, tag="answer_audio"):
    """Send the audio of answers in another rhythm, or in other pieces."""

    speed: Annotated[
        Duration | Literal["as_made", "burst"],
        Meta(
            description='times of real time; "as_made": as fast as the voice makes it; '
            '"burst": all at once when all is made'
        ),
    ] = "as_made"
    chunk_ms: Annotated[
        Annotated[int, Meta(ge=1, le=60_000)] | None,
        Meta(description="milliseconds of audio in a message; about 160 by default"),
    ] = None

    def __post_init__(self) -> None:
        Timed.__post_init__(self)
        if self.speed == "as_made" and self.chunk_ms is None:
            raise ValueError("speed or chunk_ms is needed")


class MaxStreams(Fault, frozen=True, kw_only=True, tag="max_streams"):
    """Serve so many connections at once, and no more."""

    streams: Annotated[Count, Meta(description="connections at once")]
    excess: Annotated[
        Literal["hang", "refuse"],
        Meta(description='"hang": those beyond wait unread until another ends, as over HTTP/2; or "refuse"'),
    ] = "hang"
    status: Annotated[Status, Meta(description=_STATUS_NOTE)] = "RESOURCE_EXHAUSTED"
    details: Annotated[str, Meta(description=_DETAILS_NOTE)] = "Too many streams at once."
    retry_s: Annotated[Seconds | None, Meta(description=_RETRY_NOTE)] = None


Refusal = RefuseHandle | ExpireHandles | HoldHandles
KINDS: Final[dict[str, type[Fault]]] = {
    str(kind.__struct_config__.tag): kind
    for kind in (
        *(GoAway, Mute, End),
        *(RefuseHandle, ExpireHandles, HoldHandles, NoHandles),
        *(Late, Lost, Twice, StuckTool, CancelTool),
        *(SlowReads, AnswerAudio, MaxStreams),
    )
}
