"""What a client and the gateway tell each other that they can do: `client_hello` and `session_info`."""

from __future__ import annotations

from typing import Final, get_args

from msgspec import UNSET, Struct

from antiphon.audio.encoding import FORMATS, choose
from antiphon.extension import FEATURES, PROVOKE, SUBPROTOCOL, ClientHello, SessionInfo, SessionLimits
from antiphon.messages import MAX_MESSAGE_BYTES, StreamFormat, milliseconds
from antiphon.session.answer import LEAD_S

_LEAST_LEAD_S: Final = 0.1


class Limits(Struct, frozen=True):
    """Bounds of one session, in seconds unless named otherwise."""

    auth_timeout_s: float = 10.0
    idle_timeout_s: float = 300.0
    max_duration_s: float = 7200.0
    uplink_s: float = 10.0
    """Audio that may wait for the model, and how long it may wait, before UPSTREAM_SLOW."""
    gather_s: float = 0.0
    """How long a small piece of audio may wait for others, to be given to the model with them."""
    answer_s: float = 120.0
    """Answer audio that may wait for the client; beyond it the model is not read."""
    playback_s: float = 30.0
    """Answer audio that a client of `antiphon.v1` may have ahead of real time, if it asks for so much."""
    heartbeat_s: float = 15.0
    """Something is sent to a client of `antiphon.v1` at least so often."""
    unread_s: float = 15.0
    """How long a client of `antiphon.v1` may leave what was sent unread, before SESSION_CLIENT_SLOW."""
    resume_s: float = 120.0
    """How long a session waits for its client, once that is gone; 0: not at all."""
    park_s: float = 10.0
    """How long the model is kept for a client that is gone."""
    mute_s: float = 12.0
    """How long a model may say nothing that was given a turn, before another connection is opened."""
    connection_s: float = 570.0
    """How old a connection to the model may get."""
    audio_speed: float = 4.0
    """How many times faster than real time audio may come, over 5 s; beyond it the client is read slowly."""
    protocol_errors_a_minute: int = 100
    provocations: bool = False
    """Whether a client of `antiphon.v1` may provoke what goes wrong."""


class Wishes(Struct, frozen=True):
    """What a client wants of its answers; as it stands here for one that has said nothing."""

    encoding: str | None = None
    """The MIME type that answers are encoded to; None for PCM."""
    binary: bool = False
    """Whether audio travels as binary frames."""
    lead_s: float = LEAD_S
    """How far ahead of real time answers may come."""
    marks: bool = False
    """Whether the client sends playback marks."""
    tools: bool = False
    """Whether the client carries out commands."""
    timing: bool = False
    """Whether the client wants to know when what of a response came."""


def heard(hello: ClientHello, before: Wishes, limits: Limits) -> Wishes:
    """Return what a client wants now; what the message leaves out is as before."""
    encoding, binary, lead_s = before.encoding, before.binary, before.lead_s
    marks, tools, timing = before.marks, before.tools, before.timing
    if hello.output_formats is not UNSET:
        chosen = choose(hello.output_formats)
        encoding = None if chosen == FORMATS[0] else chosen
    if hello.binary_audio is not UNSET:
        binary = hello.binary_audio
    if hello.playback_buffer_ms is not UNSET:
        lead_s = max(_LEAST_LEAD_S, min(hello.playback_buffer_ms / 1000, limits.playback_s))
    if hello.features is not UNSET:
        marks, tools = "playback_mark" in hello.features, "tools" in hello.features
        timing = "response_timing" in hello.features
    return Wishes(encoding, binary, lead_s, marks, tools, timing)


def session_info(limits: Limits, token_expires_at: float, resume_token: str, now: float) -> SessionInfo:
    """Return what the gateway offers; times are seconds since the Unix epoch, "" is no token."""
    return SessionInfo(
        timestamp=milliseconds(now),
        protocol=SUBPROTOCOL,
        features=tuple(sorted((*FEATURES, PROVOKE))) if limits.provocations else FEATURES,
        input_formats=get_args(StreamFormat),
        output_formats=FORMATS,
        limits=SessionLimits(
            message_bytes=MAX_MESSAGE_BYTES,
            playback_buffer_ms=milliseconds(limits.playback_s),
            uplink_buffer_ms=milliseconds(limits.uplink_s),
            idle_ms=milliseconds(limits.idle_timeout_s),
            session_ms=milliseconds(limits.max_duration_s),
            resume_ms=milliseconds(limits.resume_s),
        ),
        heartbeat_ms=milliseconds(limits.heartbeat_s),
        token_expires_at=milliseconds(token_expires_at) if token_expires_at < float("inf") else UNSET,
        resume_token=resume_token or UNSET,
    )
