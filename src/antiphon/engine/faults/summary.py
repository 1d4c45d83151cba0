"""What a script will do, in a line a fault."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, assert_never

from antiphon.engine.faults.kinds import (
    AnswerAudio,
    CancelTool,
    Connections,
    End,
    ExpireHandles,
    Fault,
    GoAway,
    HoldHandles,
    Lasting,
    Late,
    Lost,
    MaxStreams,
    MessageKind,
    Messages,
    Mute,
    NoHandles,
    Range,
    RefuseHandle,
    SlowReads,
    StuckTool,
    Timed,
    Twice,
)
from antiphon.engine.faults.script import Script

_MOMENTS = {
    "start": "the connection's start",
    "setup": "the set-up",
    "ready": "the set-up's acknowledgement",
    "turn_end": "the end of the user's turn",
    "answer": "the answer",
    "tool_call": "the tool call",
    "tool_result": "the tool result",
    "turn_complete": "turn_complete",
    "go_away": "GoAway",
}


def lines(script: Script) -> Iterator[str]:
    """Describe a script: a heading, then a line a fault."""
    yield f"faults of {script.name} (seed {script.seed}):"
    for number, fault in enumerate(script.faults, start=1):
        yield f"  {number}  {line(fault)}"


def line(fault: Fault) -> str:
    """Describe a fault: whom it strikes, when, and what it does."""
    parts = [_who(fault.connections)]
    if isinstance(fault, Timed):
        parts.append(_when(fault))
    if isinstance(fault, Lasting) and fault.for_s is not None:
        parts.append(f"for {fault.for_s:g} s")
    parts = [", ".join(part for part in parts if part), what(fault)]
    limits = []
    if fault.probability < 1:
        limits.append(f"probability {fault.probability:g}")
    if fault.times is not None:
        limits.append(f"{'once' if fault.times == 1 else f'{fault.times} times'} in all")
    limited = f" ({', '.join(limits)})" if limits else ""
    return f"{fault.kind}: {': '.join(parts)}{limited}"


def what(fault: Any) -> str:
    """Describe what a fault does when it strikes."""
    match fault:
        case GoAway():
            end = "and no end" if fault.then == "never" else f"then {fault.then}"
            return f"GoAway with {fault.time_left_s:g} s left, {end}"
        case End():
            return f"the end with {_status(fault)}{f': {fault.details}' if fault.details else ''}"
        case Mute():
            return f"nothing is sent{'' if fault.reads else ' nor read'}"
        case RefuseHandle():
            return f"a set-up with a handle is refused with {_status(fault)}"
        case ExpireHandles():
            return f"a handle older than {fault.lifetime_s:g} s is refused with {_status(fault)}"
        case HoldHandles():
            return (
                f"a handle is refused with {_status(fault)} while its connection is open "
                f"and for {fault.for_s:g} s after"
            )
        case NoHandles(until_turn=None):
            return "no handles"
        case NoHandles():
            return f"no handles until {fault.until_turn} answers are complete"
        case Late():
            return f"{_messages(fault.messages)} late by {fault.by_s:g} s"
        case Lost():
            return f"{_messages(fault.messages)} not sent"
        case Twice():
            return f"{_messages(fault.messages)} twice{f', {fault.by_s:g} s apart' if fault.by_s else ''}"
        case StuckTool():
            return "the result is ignored, and the answer never goes on"
        case CancelTool():
            return f"the call is taken back after {fault.cancel_s:g} s"
        case SlowReads():
            speed = f"audio is read at {fault.speed:g} times real time" if fault.speed else ""
            pace = f"a message is read each {fault.message_ms:g} ms" if fault.message_ms else ""
            return ", ".join(part for part in (speed, pace) if part)
        case AnswerAudio():
            speed = {"as_made": "as they are made", "burst": "in one burst"}.get(
                str(fault.speed), f"at {fault.speed} times real time"
            )
            return f"answers are sent {speed}{_pieces(fault)}"
        case MaxStreams():
            excess = "hangs unread" if fault.excess == "hang" else f"is refused with {_status(fault)}"
            return f"a connection beyond {fault.streams} at once {excess}"
        case _:
            assert_never(fault)


def _who(connections: Connections) -> str:
    match connections:
        case "all":
            return "every connection"
        case Range(first=None, last=None, every=every):
            return "every connection" if every == 1 else f"each {every}. connection"
        case Range(first=first, last=last, every=every):
            to = "on" if last is None else f"to {last}"
            each = "" if every == 1 else f", each {every}."
            return f"connections from {first or every} {to}{each}"
        case (number,):
            return f"connection {number}"
        case _:
            return f"connections {', '.join(map(str, connections))}"


def _when(fault: Timed) -> str:
    if fault.at == "audio":
        moment = f"{fault.audio_s:g} s of the client's audio"
    else:
        moment = _MOMENTS[fault.at]
        if fault.nth == "each":
            moment = f"each time at {moment}"
        elif fault.nth > 1:
            moment = f"the {fault.nth}. time at {moment}"
    if fault.answer_ms:
        moment += f", {fault.answer_ms:g} ms into it"
    if fault.after_s:
        return f"{fault.after_s:g} s after {moment}"
    if fault.at == "start":
        return ""
    return moment if fault.nth != 1 else f"{'after' if fault.at == 'audio' else 'at'} {moment}"


def _status(fault: Any) -> str:
    retry = "" if fault.retry_s is None else f", to be tried again in {fault.retry_s:g} s"
    return f"{fault.status}{retry}"


def _messages(messages: Messages) -> str:
    return " and ".join(kinds(messages))


def _pieces(fault: AnswerAudio) -> str:
    return "" if fault.chunk_ms is None else f", {fault.chunk_ms} ms a message"


def kinds(messages: Messages) -> tuple[MessageKind, ...]:
    """Return the kinds that a fault names, one or several."""
    return (messages,) if isinstance(messages, str) else messages
