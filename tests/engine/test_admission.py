"""Who is taken in while the engine has much to do, counted and over real gRPC by the gateway's own client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon import live
from antiphon.config import Config
from antiphon.engine.admission import BEHIND_S, CAUGHT_UP_S, Admission
from antiphon.errors import ErrorCode, GatewayError
from antiphon.gemini.client import Gemini, Upstream
from antiphon.gemini.profiles import EMBEDDED, Voice
from antiphon.gemini.stream import ModelStream
from antiphon.local import engine_arguments
from loopback_engine import ALL, Engine, engine, said

SETUP = live.Setup("en-US")


def test_so_many_and_no_more() -> None:
    admission = Admission(2)
    assert admission.admit(0.0, renewal=False) is None
    assert admission.admit(0.0, renewal=False) is None
    assert admission.admit(0.0, renewal=False) == "All 2 conversations are taken; try again later."
    assert admission.admit(0.0, renewal=True) is None
    admission.leave()
    assert admission.admit(0.0, renewal=False)
    admission.leave()
    assert admission.admit(0.0, renewal=False) is None


def test_a_machine_that_is_behind_takes_none_until_it_has_caught_up() -> None:
    admission = Admission(9)
    between = (BEHIND_S + CAUGHT_UP_S) / 2
    assert admission.admit(between, renewal=False) is None
    assert "behind" in (admission.admit(BEHIND_S * 1.1, renewal=False) or "")
    assert admission.admit(BEHIND_S * 1.1, renewal=True) is None
    assert admission.admit(between, renewal=False)
    assert admission.admit(CAUGHT_UP_S * 0.9, renewal=False) is None
    assert admission.admit(between, renewal=False) is None


@given(st.integers(1, 5), st.lists(st.sampled_from(["new", "renewal", "leave"]), max_size=40))
def test_the_count_is_right_whatever_comes(most: int, events: list[str]) -> None:
    admission, open_now = Admission(most), 0
    for event in events:
        if event == "leave":
            if open_now:
                admission.leave()
                open_now -= 1
            continue
        refused = admission.admit(0.0, renewal=event == "renewal")
        assert bool(refused) is (event == "new" and open_now >= most)
        open_now += not refused


def test_calls_are_bounded_whatever_they_want() -> None:
    admission = Admission(1)
    calls = 0
    while admission.call() is None:
        calls += 1
        assert calls < 100
    assert calls > 2
    admission.hang_up()
    assert admission.call() is None


# ---- over gRPC


@contextmanager
def busy() -> Iterator[None]:
    with pytest.raises(GatewayError) as caught:
        yield
    assert caught.value.code is ErrorCode.UPSTREAM_BUSY
    assert caught.value.details == {"retryAfterMs": 5_000}


def client(running: Engine) -> Gemini:
    return Gemini(Upstream(running.target, tls=False, voice=Voice(EMBEDDED)))


async def handle_of(stream: ModelStream) -> str:
    async for event in stream:
        if isinstance(event, live.HandleChanged) and event.handle:
            return event.handle
    raise EOFError


async def test_one_too_many_is_refused_as_busy_and_a_renewal_is_not() -> None:
    async with engine(max_conversations=1) as running, AsyncExitStack() as stack:
        gemini = client(running)
        stack.push_async_callback(gemini.aclose)
        async with gemini.connect(SETUP) as first:
            handle = await handle_of(first)
            with busy():
                await stack.enter_async_context(gemini.connect(SETUP))
            # It hears nothing of that.
            await first.send(live.Text("thanks"))
            assert (
                "welcome"
                in (await anext(event async for event in first if isinstance(event, live.Said))).text
            )
        # Its place is taken before it is back, which is no reason to end it.
        async with asyncio.timeout(10):
            while True:
                try:
                    await stack.enter_async_context(gemini.connect(SETUP))
                except GatewayError:
                    continue
                break
        renewed = live.Setup("en-US", handle=handle)
        await stack.enter_async_context(gemini.connect(renewed))
        with busy():
            await stack.enter_async_context(gemini.connect(SETUP))


async def test_while_finals_wait_no_new_conversation_is_taken() -> None:
    delay_s = 0.0
    async with engine(delay_s=lambda: delay_s) as running, AsyncExitStack() as stack:
        gemini = client(running)
        stack.push_async_callback(gemini.aclose)
        async with gemini.connect(SETUP) as first:
            handle = await handle_of(first)
            delay_s = 10.0
            with busy():
                await stack.enter_async_context(gemini.connect(SETUP))
        await stack.enter_async_context(gemini.connect(live.Setup("en-US", handle=handle)))
        delay_s = 0.0
        await stack.enter_async_context(gemini.connect(SETUP))


async def test_a_handle_that_nobody_was_given_is_no_way_in() -> None:
    async with engine(max_conversations=1) as running, running.call() as first, running.call() as second:
        await first.setup()
        await second.send({"setup": {**ALL, "sessionResumption": {"handle": "guess"}}})
        assert (await second.status())[0] == "NOT_FOUND"
        await first.type("thanks")
        assert said(await first.turn()) == "You're welcome."


def test_the_limit_is_a_setting() -> None:
    assert not any(one.startswith("--max-conversations") for one in engine_arguments(Config()))
    assert "--max-conversations=3" in engine_arguments(Config(engine_conversations=3))
