"""What a brain is asked, and what it answers."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.engine import chat
from antiphon.engine.chat import Nonsense, Question, Reading, Wanted, arguments, opening, request
from antiphon.engine.memory import Memory

AT = datetime(2026, 11, 22, 9, 5, tzinfo=UTC)


def test_the_opening_has_the_instruction_what_was_said_and_the_turn() -> None:
    memory = Memory().with_entry("user", "Hello.").with_entry("model", "Good morning!")
    system, *said = opening("  You sell tea. ", memory, "Which?\n\nContext: {}", AT)
    assert system["role"] == "system"
    assert system["content"].startswith("You sell tea.\n\nYou are heard, not read")
    assert system["content"].endswith("Today is Sunday, 22 November 2026.")
    assert said == [
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Good morning!"},
        {"role": "user", "content": "Which?\n\nContext: {}"},
    ]
    assert opening("", Memory(), "x", AT)[0]["content"].startswith("You are heard")


@given(st.lists(st.tuples(st.sampled_from(["user", "model"]), st.sampled_from(["a", "b", ""])), max_size=12))
def test_the_sides_alternate_and_the_user_begins_and_ends(entries: list[tuple[Any, str]]) -> None:
    memory = Memory()
    for role, text in entries:
        memory = memory.with_entry(role, text)
    roles = [message["role"] for message in opening("", memory, "x", AT)]
    assert roles[0] == "system"
    assert roles[1:] == ["user", *["assistant", "user"] * (len(roles) // 2 - 1)]


def test_the_request() -> None:
    message = {"role": "user", "content": "Hi"}
    assert json.loads(request(Question((message,)), "m")) == {
        "model": "m",
        "messages": [message],
        "stream": True,
    }


def test_calls_and_results_are_told_in_the_words_of_the_api() -> None:
    wanted = (Wanted("a", "next", '{"n": 1}'), Wanted("b", "odd", "{"), Wanted("c", "none", ""))
    message = chat.asked_for("Well.", wanted)
    assert (message["role"], message["content"]) == ("assistant", "Well.")
    assert [call["function"]["arguments"] for call in message["tool_calls"]] == ['{"n": 1}', "{}", "{}"]
    assert [call["id"] for call in message["tool_calls"]] == ["a", "b", "c"]
    assert chat.result_of(wanted[0], {"output": "é"}) == {
        "role": "tool",
        "tool_call_id": "a",
        "content": '{"output":"é"}',
    }
    assert len(chat.result_of(wanted[0], {"x": "y" * 20_000})["content"]) == chat.MAX_RESULT_CHARS


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", {}),
        ('{"a": [1, {"b": null}]}', {"a": [1, {"b": None}]}),
        ("[]", None),
        ("3", None),
        ("{", None),
        ('{"a": NaN}', None),
        ('{"a": "\\ud800"}', None),
        ('{"a": ' + "[" * 16 + "]" * 16 + "}", None),
        ("[" * 100_000, None),
    ],
)
def test_arguments(text: str, value: dict[str, Any] | None) -> None:
    assert arguments(text) == value


def taken(*pieces: Any) -> tuple[list[str | None], tuple[Wanted, ...]]:
    reading = Reading()
    texts = [reading.take(piece if isinstance(piece, str) else json.dumps(piece)) for piece in pieces]
    return texts, reading.calls


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"delta": fields}]}


def part(**function: Any) -> dict[str, Any]:
    ends = {key: function.pop(key) for key in ("id", "index") if key in function}
    return delta(tool_calls=[{**ends, "function": function}])


def test_text() -> None:
    texts, calls = taken(
        delta(role="assistant", content=None),
        delta(content="Hel"),
        {"choices": [{"message": {"content": "lo"}}]},
        delta(reasoning_content="Hm"),
        delta(reasoning="Hm"),
        {"choices": [], "usage": {}},
        {"choices": [{"finish_reason": "stop"}]},
        {"choices": ["?"]},
        {"choices": [{"delta": {"content": ["parts"], "tool_calls": "?"}}]},
    )
    assert texts == [None, "Hel", "lo", "", "", None, None, None, ""]
    assert calls == ()


def test_it_is_over_when_it_says_so() -> None:
    reading = Reading()
    assert reading.take("[DONE]") is None
    assert reading.over


@pytest.mark.parametrize(
    ("pieces", "calls"),
    [
        (
            [
                part(index=0, id="a", name="go", arguments=""),
                part(index=0, arguments='{"n"'),
                part(index=0, arguments=":1}"),
            ],
            [("a", "go", '{"n":1}')],
        ),
        (
            [
                part(index=0, id="a", name="go"),
                part(index=1, id="b", name="on"),
                part(index=0, arguments="{}"),
            ],
            [("a", "go", "{}"), ("b", "on", "")],
        ),
        # One index for all of them, but each whole.
        (
            [
                part(index=0, id="a", name="go", arguments="{}"),
                part(index=0, id="b", name="on", arguments="{}"),
            ],
            [("a", "go", "{}"), ("b", "on", "{}")],
        ),
        # No index at all, and no ids.
        (
            [part(id="a", name="go"), part(arguments="{}"), part(id="b", name="on")],
            [("a", "go", "{}"), ("b", "on", "")],
        ),
        ([part(name="go", arguments={"n": 1})], [("call_0", "go", '{"n":1}')]),
        # The id is told again with every piece.
        ([part(index=0, id="a", name="go"), part(index=0, id="a", arguments="{}")], [("a", "go", "{}")]),
    ],
)
def test_calls_in_pieces(pieces: list[dict[str, Any]], calls: list[tuple[str, str, str]]) -> None:
    texts, found = taken(*pieces)
    assert set(texts) == {""}
    assert [(call.id, call.name, call.arguments) for call in found] == calls


@pytest.mark.parametrize(
    ("piece", "why"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("3", "it says: 3"),
        ({"error": {"message": "out\nof  memory\x07", "code": 1}}, "it says: out of memory"),
        ({"error": "busy"}, "it says: busy"),
        ({"error": {"code": 7}}, "it says: {'code': 7}"),
        ({"object": "error", "message": "too long"}, "it says: too long"),
        ({"error": "x" * 1_000}, f"it says: {'x' * 200}$"),
        (delta(tool_calls=["?"]), "cannot be read"),
        (delta(tool_calls=[{"function": "?"}]), "cannot be read"),
        (delta(tool_calls=[{"id": str(n), "function": {"name": "go"}} for n in range(9)]), "too many"),
        (part(name="go", arguments="x" * 20_000), "too many"),
    ],
)
def test_nonsense(piece: Any, why: str) -> None:
    with pytest.raises(Nonsense, match=why):
        taken(piece)
