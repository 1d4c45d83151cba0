"""The messages of `antiphon.v1`, the subprotocol that makes a conversation of the nine base types.

A client that negotiates it is sent these beside the base messages, and may send them. They are types of
their own, never fields added to a base message. Fields that a client may leave out have a default here.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, cast

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from antiphon import messages
from antiphon.messages import LANGUAGE_PATTERN, WHOLE, Message, Number, StreamFormat

SUBPROTOCOL: Final = "antiphon.v1"

FEATURES: Final = (
    "audio_ack",
    "binary_audio",
    "interrupt",
    "output_formats",
    "ping",
    "playback_mark",
    "push_to_talk",
    "response_timing",
    "resume",
    "tools",
    "transcript",
    "usage",
    "voice_activity",
)
"""What this gateway offers, as `session_info` says it."""
PROVOKE: Final = "provoke"
"""What one offers besides where its operator lets clients provoke what goes wrong."""

MAX_LIST: Final = 64
"""Entries of `features` or `outputFormats`."""

ResponseStatus = Literal["completed", "interrupted", "failed"]
FlushReason = Literal["interrupted", "activity", "client", "superseded"]
CancelReason = Literal["cancelled", "deadline", "session"]
RotationReason = Literal["go_away", "max_duration", "lost", "mute", "refused", "fallback", "recovered"]
GoAwayReason = Literal["drain", "max_duration", "token", "idle"]
Provocation = Literal["rotation", "token_expiry"]

_Name = Annotated[str, Meta(max_length=128)]
_Names = Annotated[tuple[_Name, ...], Meta(max_length=MAX_LIST)]
_Milliseconds = Annotated[float, Meta(ge=0, le=2**53)]
_PingId = _Name | int | float


# ---- from the client


class ClientExtension(Struct, frozen=True, kw_only=True, rename="camel", tag_field="type"):
    """What every extension message of a client has; none needs its `timestamp`."""

    timestamp: Number | UnsetType = UNSET


class ClientHello(ClientExtension, tag="client_hello", frozen=True, kw_only=True):
    """What this client can do. What is not known here is ignored; what is left out stays as it was."""

    features: _Names | UnsetType = UNSET
    output_formats: _Names | UnsetType = UNSET
    binary_audio: bool | UnsetType = UNSET
    playback_buffer_ms: _Milliseconds | UnsetType = UNSET


class Resume(ClientExtension, tag="resume", frozen=True, kw_only=True):
    """Go on with a session whose connection is lost: the first message, in place of auth.

    `resumeToken` is the last that the session gave, good once. `received` counts the messages of the server
    that this client has had in the session, on all its connections, pong and resumed apart. `heardMs` is
    that of the last audio_heard, if there was one.
    """

    token: str
    session_id: _Name
    resume_token: _Name
    received: Annotated[float, Meta(ge=0, le=2**53), WHOLE]
    heard_ms: Annotated[float, Meta(ge=0, le=2**53)] | UnsetType = UNSET

    def __repr__(self) -> str:
        return f"Resume(session_id={self.session_id!r}, received={self.received})"


class Ping(ClientExtension, tag="ping", frozen=True, kw_only=True):
    """Is anybody there? Answered at once by a pong with the same `id`; both sides may ask."""

    id: _PingId


class Pong(ClientExtension, tag="pong", frozen=True, kw_only=True):
    """The answer to a ping; `echoTime` is the ping's `timestamp`, where it had one."""

    id: _PingId
    echo_time: Number | UnsetType = UNSET


class StreamConfig(Struct, frozen=True, kw_only=True, rename="camel"):
    """How the audio of a stream is encoded. Of Ogg Opus the stream itself says the rate."""

    sample_rate: Annotated[float, Meta(ge=8000, le=48000), WHOLE]
    format: StreamFormat
    language: Annotated[str, Meta(pattern=LANGUAGE_PATTERN, max_length=64)]


class AudioStreamStart(Message, tag="audio_stream_start", frozen=True, kw_only=True):
    """Open the session's one audio stream: as the base message, and in more formats."""

    config: StreamConfig


class ActivityStart(ClientExtension, tag="activity_start", frozen=True, kw_only=True):
    """The user begins to speak (the button is pressed). The first one ends automatic detection."""


class ActivityEnd(ClientExtension, tag="activity_end", frozen=True, kw_only=True):
    """The user has spoken (the button is released), and is to be answered."""


class Interrupt(ClientExtension, tag="interrupt", frozen=True, kw_only=True):
    """Stop talking. With a `responseId` only if it is that response that talks."""

    response_id: _Name | UnsetType = UNSET


class PlaybackMark(ClientExtension, tag="playback_mark", frozen=True, kw_only=True):
    """How much of a response the user has really heard."""

    response_id: _Name
    played_ms: _Milliseconds


class ToolResult(ClientExtension, tag="tool_result", frozen=True, kw_only=True):
    """What came of a tool_call: any JSON value, or a sentence in `error` that says why nothing did."""

    call_id: _Name
    result: Any = None
    error: Annotated[str, Meta(max_length=4096)] | UnsetType = UNSET


class Provoke(ClientExtension, tag="provoke", frozen=True, kw_only=True):
    """Let happen what else comes unasked, to test a client; only where the features have `provoke`.

    `rotation`: the connection to the model is renewed, as if the model had announced its end.
    `token_expiry`: this connection ends, as if its token had expired.
    """

    what: Provocation


ClientMessage = (
    messages.Auth
    | AudioStreamStart
    | messages.AudioChunk
    | messages.AudioStreamEnd
    | messages.Command
    | ClientHello
    | Resume
    | Ping
    | Pong
    | ActivityStart
    | ActivityEnd
    | Interrupt
    | PlaybackMark
    | ToolResult
    | Provoke
)
"""What a client of `antiphon.v1` may send."""


# ---- from the server


class ServerExtension(Message, frozen=True, kw_only=True):
    """What every extension message of the server has."""


class SessionLimits(Struct, frozen=True, kw_only=True, rename="camel"):
    """The bounds that a client of this gateway meets."""

    message_bytes: int
    playback_buffer_ms: int
    uplink_buffer_ms: int
    idle_ms: int
    session_ms: int
    resume_ms: int


class SessionInfo(ServerExtension, tag="session_info", frozen=True, kw_only=True):
    """Follows every auth_success. Something comes from the server at least every `heartbeatMs`.

    `resumeToken` is missing where the session cannot be resumed.
    """

    protocol: str
    features: tuple[str, ...]
    input_formats: tuple[str, ...]
    output_formats: tuple[str, ...]
    limits: SessionLimits
    heartbeat_ms: int
    token_expires_at: int | UnsetType = UNSET
    resume_token: str | UnsetType = UNSET


class Resumed(ServerExtension, tag="resumed", frozen=True, kw_only=True):
    """The session goes on, on this connection; `replayed` messages follow that had not come.

    The client sends its audio on from `nextSequence`, or better, all its messages after the first `received`
    (auth, resume, ping and pong apart). `lossy` says that something could not be kept: messages that had not
    come are gone.
    """

    session_id: str
    resume_token: str
    next_sequence: int
    replayed: int
    lossy: bool
    received: int


class AudioAck(ServerExtension, tag="audio_ack", frozen=True, kw_only=True):
    """The audio up to `sequence` is safe: the client may forget it. It may send `windowMs` more for now.

    `stream` is which of the session's streams that is of, the first being 1: each may number its chunks anew.
    """

    sequence: int
    window_ms: int
    stream: int


class AudioHeard(ServerExtension, tag="audio_heard", frozen=True, kw_only=True):
    """The model has heard so much of the session's audio, though it cannot be acknowledged for now.

    A client that resumes says so again, so that another node does not give it to the model once more.
    """

    heard_ms: float


class SessionRotating(ServerExtension, tag="session_rotating", frozen=True, kw_only=True):
    """The connection to the model is being renewed; what is said meanwhile waits for the new one.

    `contextRestored` says whether the model is to remember the conversation by itself, `gapMs` for how long
    it has not heard already, `lostAudioMs` what it will never hear.
    """

    reason: RotationReason
    context_restored: bool
    gap_ms: int
    lost_audio_ms: int


class SessionRotated(ServerExtension, tag="session_rotated", frozen=True, kw_only=True):
    """The model hears again, after `gapMs`.

    Without `contextRestored` it was told the transcript of the conversation. It missed `lostAudioMs` of what
    was said, and hears `replayedAudioMs` that it may have heard before. `upstream` is `fallback` while the
    embedded engine stands in for the model.
    """

    reason: RotationReason
    context_restored: bool
    gap_ms: int
    lost_audio_ms: int
    replayed_audio_ms: int
    upstream: Literal["primary", "fallback"]


class GoAway(ServerExtension, tag="go_away", frozen=True, kw_only=True):
    """The connection ends in `timeLeftMs`: finish, or resume elsewhere."""

    time_left_ms: int
    reason: GoAwayReason


class ServerPing(ServerExtension, tag="ping", frozen=True, kw_only=True):
    """Shows that the server is there when it has nothing else to say; answered by a pong."""

    id: _PingId


class ServerPong(ServerExtension, tag="pong", frozen=True, kw_only=True):
    """The answer to a ping; `echoTime` is the ping's `timestamp`, where it had one."""

    id: _PingId
    echo_time: Number | UnsetType = UNSET


class SpeechStarted(ServerExtension, tag="speech_started", frozen=True, kw_only=True):
    """The user begins to speak, at `streamMs` of the audio stream."""

    stream_ms: float


class SpeechStopped(ServerExtension, tag="speech_stopped", frozen=True, kw_only=True):
    """The user has ceased to speak, at `streamMs` of the audio stream."""

    stream_ms: float


class ResponseStarted(ServerExtension, tag="response_started", frozen=True, kw_only=True):
    """A response begins; the audio_response pieces up to its response_done are of it."""

    response_id: str
    format: str
    language: str


class ResponseTiming(ServerExtension, tag="response_timing", frozen=True, kw_only=True):
    """When what belongs to a response came to the gateway, in milliseconds since the Unix epoch by its clock.

    Follows the response_started, for a client whose client_hello has the feature. `speechEndedAt`: all that
    the user said, or typed; `transcribedAt`: its transcript, from the model; both are missing where they are
    not known. `modelAt`: the first of the response, from the model; `audioAt`: its first sound.
    """

    response_id: str
    speech_ended_at: int | UnsetType = UNSET
    transcribed_at: int | UnsetType = UNSET
    model_at: int
    audio_at: int


class ResponseDone(ServerExtension, tag="response_done", frozen=True, kw_only=True):
    """A response is over: heard to its end, cut short, or lost with the model."""

    response_id: str
    status: ResponseStatus


class AudioFlush(ServerExtension, tag="audio_flush", frozen=True, kw_only=True):
    """Drop what is queued for playing of this response, now."""

    response_id: str
    reason: FlushReason


class TranscriptUpdate(ServerExtension, tag="transcript_update", frozen=True, kw_only=True):
    """The whole of an utterance so far. Within one `utteranceId`, `revision` rises by one from 1.

    The model's utterance is its response: `utteranceId` is the `responseId`.
    """

    role: Literal["user", "model"]
    utterance_id: str
    revision: int
    text: str
    is_final: bool


class ToolCall(ServerExtension, tag="tool_call", frozen=True, kw_only=True):
    """Carry this out, and send the tool_result within `deadlineMs` from now."""

    call_id: str
    name: str
    args: dict[str, Any]
    deadline_ms: int


class ToolCancelled(ServerExtension, tag="tool_cancelled", frozen=True, kw_only=True):
    """The result of this call is no longer wanted: stop working on it."""

    call_id: str
    reason: CancelReason


class Usage(Struct, frozen=True, kw_only=True, rename="camel"):
    """What was used: milliseconds of audio to the model and to the client, and the model's tokens."""

    audio_in_ms: float
    audio_out_ms: float
    prompt_tokens: int
    response_tokens: int
    total_tokens: int


class UsageUpdate(ServerExtension, tag="usage", frozen=True, kw_only=True):
    """What was used since the last usage message, and by the whole session."""

    turn: Usage
    session: Usage


Extension = (
    SessionInfo
    | Resumed
    | AudioAck
    | AudioHeard
    | SessionRotating
    | SessionRotated
    | GoAway
    | ServerPing
    | ServerPong
    | SpeechStarted
    | SpeechStopped
    | ResponseStarted
    | ResponseTiming
    | ResponseDone
    | AudioFlush
    | TranscriptUpdate
    | ToolCall
    | ToolCancelled
    | UsageUpdate
)
"""What a client that has not negotiated `antiphon.v1` is never sent."""

ServerMessage = (
    messages.AuthSuccess | messages.RecognitionResult | messages.AudioResponse | messages.Error | Extension
)
"""What a client of `antiphon.v1` may be sent."""


_client_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(messages.travelling(ClientMessage))
_server_decoder: msgspec.json.Decoder[ServerMessage] = msgspec.json.Decoder(ServerMessage)


def decode(data: bytes | bytearray | memoryview | str) -> ClientMessage:
    """Return the client message in a text frame.

    Raises:
        GatewayError: as `messages.decode`.
    """
    message = messages.decode_with(_client_decoder, data)
    match message:
        case messages.EncodedChunk():
            return messages.decoded_chunk(message)
        case AudioStreamStart(config=config):
            messages.require_integer(config.sample_rate, "$.config.sampleRate")
        case messages.Command(context=dict(context)):
            messages.require_shallow(context, "context")
        case ToolResult(result=result):
            messages.require_shallow(result, "result")
        case Resume(received=received):
            messages.require_integer(received, "$.received")
        case _:
            pass
    return cast(ClientMessage, message)


def decode_server(data: bytes | str) -> ServerMessage:
    """Return the server message in a text frame, for clients.

    Raises:
        msgspec.DecodeError: it is not one of the messages.
    """
    return _server_decoder.decode(data)
