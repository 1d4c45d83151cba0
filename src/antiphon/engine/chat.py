"""The chat API that brains speak (OpenAI's `chat/completions`): what they are asked, and what they answer."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from antiphon.engine.memory import Memory

Message: TypeAlias = dict[str, Any]
"""One message of the API, as JSON."""

MAX_CALLS: Final = 8
"""In one answer."""
MAX_ARGUMENTS_CHARS: Final = 16_000
MAX_RESULT_CHARS: Final = 8_000
MAX_DEPTH: Final = 16
"""Of lists and objects in arguments; protobuf takes a hundred, each of ours is three of its."""

_MANNER: Final = (
    "You are heard, not read: answer in plain spoken English, in one to three short sentences, "
    "without lists, markup or emojis."
)


class Question(Struct, frozen=True):
    """What the brain is asked: messages, the last of them to be answered, and the functions it may call."""

    messages: tuple[Message, ...]
    tools: tuple[Message, ...] = ()


class Wanted(Struct, frozen=True):
    """A call that the brain wants; `arguments` is the text it wrote, JSON if all is well."""

    id: str
    name: str
    arguments: str


class BrainFailed(Exception):  # noqa: N818 (it reads as what happened)
    """The brain did not answer, or not to the end; the text is for the log."""


class Nonsense(Exception):  # noqa: N818 (it reads as what happened)
    """The brain's answer cannot be understood, or says that it failed; the text is for the log."""


# ---- what it is asked


def opening(instruction: str, memory: Memory, text: str, at: datetime) -> tuple[Message, ...]:
    """Return the messages before an answer: the instruction, what was said, and the user's turn.

    The sides alternate and the user begins, which many models' templates insist on. Only the day is told:
    where a server keeps what it has read of a conversation, a clock at the beginning would cost it all.
    """
    manner = f"{_MANNER} Today is {at:%A, %d %B %Y}."
    system = f"{instruction.strip()}\n\n{manner}".strip()
    messages: list[Message] = [{"role": "system", "content": system}]
    entries = [("assistant" if entry.role == "model" else "user", entry.text) for entry in memory.entries]
    for role, said in (*entries, ("user", text)):
        if not said or (role == "assistant" and len(messages) == 1):
            continue
        if messages[-1]["role"] == role:
            messages[-1]["content"] += f"\n{said}"
        else:
            messages.append({"role": role, "content": said})
    return tuple(messages)


def asked_for(text: str, calls: tuple[Wanted, ...]) -> Message:
    """Return an answer that called functions, for the brain to see again."""
    functions = []
    for call in calls:
        # Some servers read the arguments again, and fail over what is no JSON.
        given = call.arguments if call.arguments and arguments(call.arguments) is not None else "{}"
        function = {"name": call.name, "arguments": given}
        functions.append({"id": call.id, "type": "function", "function": function})
    return {"role": "assistant", "content": text, "tool_calls": functions}


def result_of(call: Wanted, response: dict[str, Any]) -> Message:
    """Return what a function answered."""
    content = msgspec.json.encode(response).decode()[:MAX_RESULT_CHARS]
    return {"role": "tool", "tool_call_id": call.id, "content": content}


def request(question: Question, model: str) -> bytes:
    """Return the body of the request, for a streamed answer."""
    body: dict[str, Any] = {"model": model, "messages": question.messages, "stream": True}
    if question.tools:
        body["tools"] = question.tools
    return msgspec.json.encode(body)


def arguments(text: str) -> dict[str, Any] | None:
    """Return a call's arguments; None where they are no JSON object, or one too deep."""
    try:
        decoded = msgspec.json.decode(text or "{}")
    except (msgspec.DecodeError, RecursionError):
        return None
    return decoded if isinstance(decoded, dict) and _is_shallow(decoded, MAX_DEPTH) else None


def _is_shallow(value: Any, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(_is_shallow(one, depth - 1) for one in inner)


# ---- what it answers


class _Slot(Struct):
    """A call that is being written."""

    id: str
    name: str
    arguments: str


class Reading:
    """Reads one answer, in pieces or at once; `over` once it says that it is complete."""

    def __init__(self) -> None:
        self.over = False
        self._slots: list[_Slot] = []
        self._by_index: dict[int, _Slot] = {}

    @property
    def calls(self) -> tuple[Wanted, ...]:
        """The calls that it wants; only at the end are they whole."""
        return tuple(
            Wanted(slot.id or f"call_{number}", slot.name, slot.arguments)
            for number, slot in enumerate(self._slots)
        )

    def take(self, data: str | bytes) -> str | None:
        """Take a piece, or an answer that came at once; return its text, None where it brought nothing.

        Raises:
            Nonsense: it cannot be read, or says that the brain failed.
        """
        if data in ("[DONE]", b"[DONE]"):
            self.over = True
            return None
        try:
            piece = msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError):
            raise Nonsense("its answer is no JSON") from None
        if not isinstance(piece, dict) or piece.get("error") or piece.get("object") == "error":
            raise Nonsense(f"it says: {complaint(piece)}")
        choices = piece.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return None  # usage, or a sign of life
        said = choice.get("delta") or choice.get("message")
        if not isinstance(said, dict):
            return None
        calls = said.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            self._call(call)
        text = said.get("content")
        if isinstance(text, str) and text:
            return text
        thinks = said.get("reasoning_content") or said.get("reasoning")
        return "" if calls or thinks else None

    def _call(self, call: Any) -> None:
        """Add a piece of a call: to the one of its index, unless its id says that it is another."""
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise Nonsense("it calls a function in a way that cannot be read")
        call_id, index = _text(call.get("id")), call.get("index")
        slot = self._by_index.get(index) if isinstance(index, int) else None
        if slot is None and not isinstance(index, int) and not call_id and self._slots:
            slot = self._slots[-1]
        if slot is None or (call_id and slot.id and call_id != slot.id):
            slot = _Slot(call_id, "", "")
            self._slots.append(slot)
        if isinstance(index, int):
            self._by_index[index] = slot
        slot.id = slot.id or call_id
        slot.name += _text(function.get("name"))
        given = function.get("arguments")
        slot.arguments += msgspec.json.encode(given).decode() if isinstance(given, dict) else _text(given)
        if len(self._slots) > MAX_CALLS or len(slot.name + slot.arguments) > MAX_ARGUMENTS_CHARS:
            raise Nonsense("it calls too many functions, or with too much")


def complaint(answer: Any) -> str:
    """Return what an answer says that went wrong, on one line for the log."""
    told = answer.get("error") or answer if isinstance(answer, dict) else answer
    if isinstance(told, dict):
        told = told.get("message") or told
    line = " ".join(str(told).split())
    return "".join(letter for letter in line if letter.isprintable())[:200]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
