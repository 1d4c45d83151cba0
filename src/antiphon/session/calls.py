"""The model's calls of tools: each is delivered once, and answered once, late or not at all.

What comes of an event is returned, in order: messages to the client, work for the gateway's own workers,
and results for the model. Times are seconds on the caller's clock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import Enum, auto
from typing import Any, ClassVar, Final

from msgspec import UNSET, Struct
from msgspec.structs import replace

from antiphon import live
from antiphon.errors import ErrorCode, GatewayError
from antiphon.extension import CancelReason, ToolCall, ToolCancelled, ToolResult
from antiphon.messages import encode, milliseconds
from antiphon.session.effects import Abort, Run
from antiphon.tools.call import BUSY, LATE, Call, ClientTool, Tool, result_of

TOO_LONG: Final = "The call is too long; say less."
MAX_ID: Final = 256
MAX_CALL_BYTES: Final = 32 * 1024
"""A call that is longer is sent to nobody: a client takes messages as long as ours, and no more."""
INTERRUPTED: Final = "The call was interrupted; whether it was carried out is not known."
OVER: Final = "This call is over; make another."

MAX_PENDING: Final = 64
"""Calls that may be worked on at once; the model is told that there are too many."""
MAX_REMEMBERED: Final = 1024
"""Calls that are over and still known by their id."""
MAX_RESULTS: Final = 16
"""Results that are kept for a model that asks again, each of them as long as a message at most."""

Outcome = ToolCall | ToolCancelled | Run | Abort | live.ToolResult | live.Text


class Over(Enum):
    """How a call ended."""

    ANSWERED = auto()
    CANCELLED = auto()
    LATE = auto()


class _Call(Struct, frozen=True):
    """A call, by our id and the model's, which may be empty."""

    id: str
    model_id: str
    name: str
    by_client: bool = False
    until: float = float("inf")
    forgotten: bool = False
    """Whether another model goes on with the conversation, which knows nothing of the call."""


class Calls:
    """The calls of a session, by the ids that the model gave them; one that gives none is given some here.

    `commands` are the names of the declared functions. Those of `tools` are carried out, others only told of,
    unless the client says that it carries out commands. One that cannot be called is only told of its own.
    """

    KEPT: ClassVar[dict[str, Any]] = {
        "client_carries_out": bool,
        "_count": int,
        "_pending": dict[str, _Call],
        "_over": dict[str, Over],
        "_results": dict[str, live.ToolResult],
    }

    def __init__(self, commands: Collection[str], tools: Mapping[str, Tool], *, calls_client: bool) -> None:
        self.client_carries_out = False
        """Whether the client wants to be called for commands that nobody else carries out."""
        self._commands = commands
        self._tools = tools
        self._calls_client = calls_client
        self._count = 0
        self._pending: dict[str, _Call] = {}
        self._over: dict[str, Over] = {}
        self._results: dict[str, live.ToolResult] = {}

    @property
    def pending(self) -> bool:
        """Whether a call is worked on."""
        return bool(self._pending)

    @property
    def deadline(self) -> float:
        """When the next call is late; infinity when none is worked on."""
        return min((call.until for call in self._pending.values()), default=float("inf"))

    def call(self, event: live.Called, session_id: str, user_id: str, now: float) -> list[Outcome]:
        """Deliver a call of the model, unless it was delivered before."""
        if event.call_id in self._pending or self._over.get(event.call_id) is Over.CANCELLED:
            return []
        if event.call_id in self._over:
            known = self._results.get(event.call_id)
            return [known or live.ToolResult(event.call_id, event.name, {"error": OVER})]
        if len(event.call_id) > MAX_ID or len(encode(event)) > MAX_CALL_BYTES:
            return [live.ToolResult(event.call_id, event.name, {"error": TOO_LONG})]
        self._count += 1
        call = _Call(event.call_id or f"call-{self._count}", event.call_id, event.name)
        tool = self._tools.get(event.name, ClientTool() if self.client_carries_out else None)
        if event.name not in self._commands:
            return [self._result(call, {"error": f"There is no function {event.name}."})]
        if tool is None or (isinstance(tool, ClientTool) and not self._calls_client):
            return [self._result(call, {"output": "done"})]
        if len(self._pending) >= MAX_PENDING:
            return [self._result(call, {"error": BUSY})]
        by_client = isinstance(tool, ClientTool)
        self._pending[call.id] = replace(call, by_client=by_client, until=now + tool.deadline_s)
        if not by_client:
            return [Run(Call(call.id, call.name, event.args, session_id, user_id, tool.deadline_s))]
        return [
            ToolCall(
                timestamp=milliseconds(now),
                call_id=call.id,
                name=call.name,
                args=event.args,
                deadline_ms=milliseconds(tool.deadline_s),
            )
        ]

    def answer(self, message: ToolResult) -> list[Outcome]:
        """Take the client's result of a call. One that cannot be used may be sent again.

        Raises:
            GatewayError: TOOL_RESULT_LATE, TOOL_RESULT_REPEATED, TOOL_CALL_UNKNOWN or PROTOCOL_BAD_MESSAGE.
        """
        call = self._pending.get(message.call_id)
        if call is None or not call.by_client:
            match self._over.get(message.call_id):
                case Over.ANSWERED:
                    raise GatewayError(ErrorCode.TOOL_RESULT_REPEATED)
                case Over.CANCELLED | Over.LATE:
                    raise GatewayError(ErrorCode.TOOL_RESULT_LATE)
                case _:
                    raise GatewayError(ErrorCode.TOOL_CALL_UNKNOWN)
        try:
            result = {"error": message.error} if message.error is not UNSET else result_of(message.result)
        except ValueError as error:
            sentence = f"The result cannot be used: {error}."
            raise GatewayError(ErrorCode.PROTOCOL_BAD_MESSAGE, sentence, path="$.result") from None
        return [self._result(call, result)]

    def finish(self, call_id: str, result: dict[str, Any]) -> list[Outcome]:
        """Take a worker's result of a call, unless nobody waits for it any more."""
        call = self._pending.get(call_id)
        return [self._result(call, result)] if call else []

    def cancel(self, call_ids: Iterable[str], reason: CancelReason, now: float) -> list[Outcome]:
        """End those of the calls that are worked on; the model wants no result of them."""
        pending = [self._pending[call_id] for call_id in dict.fromkeys(call_ids) if call_id in self._pending]
        return [self._give_up(call, Over.CANCELLED, reason, now) for call in pending]

    def cancel_all(self, reason: CancelReason, now: float) -> list[Outcome]:
        """End all that is worked on."""
        return self.cancel(tuple(self._pending), reason, now)

    def forgotten(self) -> None:
        """Note that the model knows nothing of the calls that are worked on."""
        self._pending = {call_id: replace(call, forgotten=True) for call_id, call in self._pending.items()}

    def recover(self) -> list[Outcome]:
        """Answer the calls whose workers are gone with the node that they ran on."""
        gone = [call for call in self._pending.values() if not call.by_client]
        return [self._result(call, {"error": INTERRUPTED}) for call in gone]

    def expire(self, now: float) -> list[Outcome]:
        """End the calls that are late, and tell the model so."""
        outcomes: list[Outcome] = []
        for call in [call for call in self._pending.values() if now >= call.until]:
            outcomes.append(self._give_up(call, Over.LATE, "deadline", now))
            outcomes.append(self._result(call, {"error": LATE}))
        return outcomes

    def _give_up(self, call: _Call, over: Over, reason: CancelReason, now: float) -> Outcome:
        """Tell whoever works on a call that nobody waits for it any more."""
        self._end(call.id, over)
        if call.by_client:
            return ToolCancelled(timestamp=milliseconds(now), call_id=call.id, reason=reason)
        return Abort(call.id)

    def _result(self, call: _Call, result: dict[str, Any]) -> Outcome:
        self._end(call.id, self._over.get(call.id, Over.ANSWERED))
        self._results[call.id] = live.ToolResult(call.model_id, call.name, result)
        if len(self._results) > MAX_RESULTS:
            del self._results[next(iter(self._results))]
        return self._results[call.id].told() if call.forgotten else self._results[call.id]

    def _end(self, call_id: str, over: Over) -> None:
        self._pending.pop(call_id, None)
        self._over[call_id] = over
        if len(self._over) > MAX_REMEMBERED:
            del self._over[next(iter(self._over))]
