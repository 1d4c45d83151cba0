"""Calls of tools: delivered once, answered once, late or not at all, and the model is never left waiting."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon import live
from antiphon.errors import ErrorCode, GatewayError
from antiphon.extension import ToolCall, ToolCancelled, ToolResult
from antiphon.session.calls import (
    MAX_CALL_BYTES,
    MAX_ID,
    MAX_PENDING,
    MAX_REMEMBERED,
    MAX_RESULTS,
    OVER,
    TOO_LONG,
    Calls,
    Outcome,
)
from antiphon.session.effects import Abort, Run
from antiphon.tools.call import BUSY, LATE, Call, ClientTool, PythonTool, Tool

NOW = 1000.0
TOOLS: dict[str, Tool] = {"light": ClientTool(30.0), "time": PythonTool("a.b:c", 10.0)}


def calls(*, calls_client: bool = True) -> Calls:
    return Calls({"light", "time", "next"}, TOOLS, calls_client=calls_client)


def ask(asked: Calls, name: str, call_id: str = "c1", **args: Any) -> list[Outcome]:
    return asked.call(live.Called(call_id, name, args), "s", "alice", NOW)


def results(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    return [outcome.result for outcome in outcomes if isinstance(outcome, live.ToolResult)]


def refusal(asked: Calls, call_id: str = "c1", result: Any = None) -> ErrorCode:
    with pytest.raises(GatewayError) as caught:
        asked.answer(ToolResult(call_id=call_id, result=result))
    return caught.value.code


class TestDelivery:
    def test_to_the_client(self) -> None:
        asked = calls()
        (call,) = ask(asked, "light", on=True)
        assert call == ToolCall(
            timestamp=1_000_000, call_id="c1", name="light", args={"on": True}, deadline_ms=30_000
        )
        assert asked.deadline == NOW + 30

    def test_to_a_worker(self) -> None:
        asked = calls()
        assert ask(asked, "time", zone="UTC") == [
            Run(Call("c1", "time", {"zone": "UTC"}, "s", "alice", 10.0))
        ]
        assert asked.deadline == NOW + 10

    @pytest.mark.parametrize("name", ["light", "time"])
    def test_once(self, name: str) -> None:
        asked = calls()
        ask(asked, name)
        assert ask(asked, name) == []

    @pytest.mark.parametrize(("name", "is_base"), [("next", False), ("light", True)])
    def test_what_nobody_carries_out_is_done(self, name: str, is_base: bool) -> None:
        asked = calls(calls_client=not is_base)
        assert results(ask(asked, name)) == [{"output": "done"}]
        assert asked.deadline == float("inf")

    def test_a_base_client_has_its_workers(self) -> None:
        assert isinstance(ask(calls(calls_client=False), "time")[0], Run)

    def test_a_client_that_carries_out_commands_is_called_for_what_nobody_else_does(self) -> None:
        asked = calls()
        asked.client_carries_out = True
        assert isinstance(ask(asked, "next")[0], ToolCall)
        assert isinstance(ask(asked, "time", "c2")[0], Run)
        assert results(ask(asked, "explode", "c3")) == [{"error": "There is no function explode."}]

    def test_calls_that_the_model_gives_no_id_are_told_apart(self) -> None:
        asked = calls()
        told = [*ask(asked, "light", ""), *ask(asked, "light", "")]
        ids = [call.call_id for call in told if isinstance(call, ToolCall)]
        assert len(set(ids)) == 2
        for call_id in ids:
            outcome = asked.answer(ToolResult(call_id=call_id, result=1))
            assert outcome == [live.ToolResult("", "light", {"output": 1})], "the model knows no id"
        assert refusal(asked, ids[0]) is ErrorCode.TOOL_RESULT_REPEATED

    def test_what_is_not_declared_is_an_error_for_the_model(self) -> None:
        assert results(ask(calls(), "explode")) == [{"error": "There is no function explode."}]

    def test_too_many_at_once(self) -> None:
        asked = calls()
        for place in range(MAX_PENDING):
            assert not results(ask(asked, "light", f"c{place}"))
        assert results(ask(asked, "light", "more")) == [{"error": BUSY}]
        asked.answer(ToolResult(call_id="c0", result=1))
        assert not results(ask(asked, "light", "again"))


class TestResults:
    @pytest.mark.parametrize(
        ("result", "expected"),
        [({"on": 1}, {"on": 1}), ([1], {"output": [1]}), (None, {"output": None}), ("ja", {"output": "ja"})],
    )
    def test_any_value_of_the_client(self, result: Any, expected: dict[str, Any]) -> None:
        asked = calls()
        ask(asked, "light")
        outcome = asked.answer(ToolResult(call_id="c1", result=result))
        assert outcome == [live.ToolResult("c1", "light", expected)]
        assert asked.deadline == float("inf")

    def test_a_sentence_why_nothing_came_of_it(self) -> None:
        asked = calls()
        ask(asked, "light")
        outcome = asked.answer(ToolResult(call_id="c1", result=1, error="No lamp."))
        assert results(outcome) == [{"error": "No lamp."}]

    def test_of_a_worker(self) -> None:
        asked = calls()
        ask(asked, "time")
        assert asked.finish("c1", {"output": 5}) == [live.ToolResult("c1", "time", {"output": 5})]
        assert asked.finish("c1", {"output": 6}) == []

    def test_that_cannot_be_used_may_be_sent_again(self) -> None:
        asked = calls()
        ask(asked, "light")
        with pytest.raises(GatewayError) as caught:
            asked.answer(ToolResult(call_id="c1", result="x" * 70_000))
        assert caught.value.code is ErrorCode.PROTOCOL_BAD_MESSAGE
        assert caught.value.details == {"path": "$.result"}
        assert results(asked.answer(ToolResult(call_id="c1", result="x"))) == [{"output": "x"}]

    def test_twice(self) -> None:
        asked = calls()
        ask(asked, "light")
        asked.answer(ToolResult(call_id="c1", result=1))
        assert refusal(asked) is ErrorCode.TOOL_RESULT_REPEATED

    def test_of_what_never_was(self) -> None:
        assert refusal(calls()) is ErrorCode.TOOL_CALL_UNKNOWN

    def test_of_a_call_that_a_worker_has(self) -> None:
        asked = calls()
        ask(asked, "time")
        assert refusal(asked) is ErrorCode.TOOL_CALL_UNKNOWN
        assert asked.finish("c1", {"output": 5})

    def test_asked_for_again_is_given_again(self) -> None:
        asked = calls()
        ask(asked, "light")
        first = asked.answer(ToolResult(call_id="c1", result=1))
        assert ask(asked, "light") == first

    def test_are_not_kept_for_ever(self) -> None:
        asked = calls()
        for place in range(MAX_RESULTS + 1):
            ask(asked, "next", f"c{place}")
        assert results(ask(asked, "next", "c0")) == [{"error": OVER}]
        assert results(ask(asked, "next", "c1")) == [{"output": "done"}]

    def test_nor_are_the_ids(self) -> None:
        asked = calls()
        ask(asked, "light")
        asked.answer(ToolResult(call_id="c1", result=1))
        for place in range(MAX_REMEMBERED):
            assert refusal(asked) is ErrorCode.TOOL_RESULT_REPEATED
            ask(asked, "next", f"other{place}")
        assert refusal(asked) is ErrorCode.TOOL_CALL_UNKNOWN


@pytest.mark.parametrize(("call_id", "size"), [("c" * (MAX_ID + 1), 0), ("c1", MAX_CALL_BYTES)])
def test_a_call_that_is_too_long_is_sent_to_nobody(call_id: str, size: int) -> None:
    asked = calls()
    assert results(ask(asked, "light", call_id, text="x" * size)) == [{"error": TOO_LONG}]
    assert asked.deadline == float("inf")
    assert isinstance(ask(asked, "light")[0], ToolCall), "and is not remembered"


class TestCancellation:
    def test_by_the_model(self) -> None:
        asked = calls()
        ask(asked, "light")
        ask(asked, "time", "c2")
        assert asked.cancel(("c1", "c2", "c3"), "cancelled", NOW) == [
            ToolCancelled(timestamp=1_000_000, call_id="c1", reason="cancelled"),
            Abort("c2"),
        ]
        assert asked.cancel(("c1", "c2"), "cancelled", NOW) == []
        assert refusal(asked) is ErrorCode.TOOL_RESULT_LATE
        assert asked.finish("c2", {"output": 1}) == []

    def test_of_all_when_the_conversation_is_over(self) -> None:
        asked = calls()
        ask(asked, "light")
        ask(asked, "time", "c2")
        cancelled, aborted = asked.cancel_all("session", NOW)
        assert isinstance(cancelled, ToolCancelled)
        assert cancelled.reason == "session"
        assert aborted == Abort("c2")
        assert asked.cancel_all("session", NOW) == []

    def test_named_twice_is_cancelled_once(self) -> None:
        asked = calls()
        ask(asked, "light")
        assert len(asked.cancel(("c1", "c1"), "cancelled", NOW)) == 1


class TestDeadline:
    def test_the_client_is_told_and_so_is_the_model(self) -> None:
        asked = calls()
        ask(asked, "light")
        assert asked.expire(NOW + 29.9) == []
        assert asked.expire(NOW + 30) == [
            ToolCancelled(timestamp=1_030_000, call_id="c1", reason="deadline"),
            live.ToolResult("c1", "light", {"error": LATE}),
        ]
        assert refusal(asked) is ErrorCode.TOOL_RESULT_LATE
        assert asked.expire(NOW + 60) == []

    def test_a_worker_is_stopped(self) -> None:
        asked = calls()
        ask(asked, "time")
        assert asked.expire(NOW + 10) == [Abort("c1"), live.ToolResult("c1", "time", {"error": LATE})]
        assert asked.finish("c1", {"output": 1}) == []

    def test_the_nearest_counts(self) -> None:
        asked = calls()
        ask(asked, "light")
        ask(asked, "time", "c2")
        assert asked.deadline == NOW + 10
        assert len(asked.expire(NOW + 10)) == 2
        assert asked.deadline == NOW + 30


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["call", "call", "answer", "finish", "cancel", "wait"]),
            st.sampled_from(["light", "time", "next", "explode"]),
            st.integers(0, 3),
        ),
        max_size=40,
    )
)
def test_each_call_is_told_once_and_answered_or_cancelled(steps: list[tuple[str, str, int]]) -> None:
    asked, now = calls(), NOW
    delivered: list[str] = []
    answered: list[live.ToolResult] = []
    given_up: list[str] = []
    called: set[str] = set()
    for what, name, number in [*steps, ("wait", "", 0)]:
        call_id, outcomes = f"c{number}", list[Outcome]()
        match what:
            case "call":
                outcomes = asked.call(live.Called(call_id, name, {}), "s", "alice", now)
                called.add(call_id)
            case "answer":
                try:
                    outcomes = asked.answer(ToolResult(call_id=call_id, result=1))
                except GatewayError:
                    continue
            case "finish":
                outcomes = asked.finish(call_id, {"output": 1})
            case "cancel":
                outcomes = asked.cancel([call_id], "cancelled", now)
                given_up += [call_id] * bool(outcomes)
            case _:
                now += 40
                outcomes = asked.expire(now)
        for outcome in outcomes:
            match outcome:
                case ToolCall(call_id=told) | Run(call=Call(call_id=told)):
                    delivered.append(told)
                case live.ToolResult():
                    answered.append(outcome)
                case _:
                    pass
    assert len(delivered) == len(set(delivered))
    ids = {result.call_id for result in answered}
    assert len(ids) == len(set(map(id, answered))), "asked for again, a result is the same"
    assert ids.isdisjoint(given_up)
    assert ids | set(given_up) == called
    assert asked.deadline == float("inf")
