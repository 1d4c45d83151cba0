"""A network that breaks: nothing that is said is lost, and the page tells what is going on."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import numpy as np
from playwright.async_api import expect

from antiphon.session import Limits
from browser.conftest import OpenConsole
from browser.console import listening, model_of, until, until_heard_by
from browser.models import attentive, talkative
from freezing_relay import FreezingRelay, freezing_relay
from gateway.running import Gateway, running_gateway

BROKEN: Final = ("WebSocket connection to", "ERR_")


@asynccontextmanager
async def relay_to(gateway: Gateway, port: int = 0) -> AsyncIterator[FreezingRelay]:
    async with freezing_relay(port) as relay:
        relay.target = f"127.0.0.1:{gateway.port}"
        yield relay


async def test_nothing_is_lost_where_the_network_breaks_in_mid_sentence(
    open_console: OpenConsole, speech: Path
) -> None:
    async with (
        running_gateway(talkative) as gateway,
        relay_to(gateway) as relay,
        open_console(
            gateway, query="?raw", port=relay.port, microphone=speech, expected_complaints=BROKEN
        ) as console,
    ):
        await console.show("Messages")
        model = await listening(gateway, console)
        for cut in (1, 2):
            await until_heard_by(model, 0.7 * cut)
            relay.freeze()  # nobody is told at first
            relay.reset()
            await expect(console.notice("connection")).to_contain_text("what you say meanwhile is kept")
            await console.is_in("Reconnecting…")
            relay.thaw()
            await expect(console.notice("connection")).to_have_count(0)
            await console.is_in("Listening")
            resumed = re.compile(r"Resumed after .*: .* made up for, nothing lost")
            await expect(console.marks.filter(has_text=resumed)).to_have_count(cut)
            await expect(console.marks.nth(1)).to_contain_text("connection was lost")
        await until_heard_by(model, 2.8)
        await console.press("Stop")
        await expect(console.users.locator(".words")).to_have_text("Go forward ten meters.")
        await expect(console.answers).to_have_count(1)

        ended = console.lines.filter(has_text="audio_stream_end").locator(".gist")
        (duration_ms,) = re.findall(r'"duration":([\d.]+)', await ended.inner_text())
        assert float(duration_ms) == len(model.heard) / 32, "the model heard all that the microphone did"
        assert len(gateway.upstream.conversations) == 1
        samples = np.frombuffer(bytes(model.heard), dtype="<i2")
        assert np.max(np.abs(samples)) > 1000


async def test_a_server_that_comes_back_as_another(open_console: OpenConsole) -> None:
    """It knows nothing of the session: another one begins, and what was said stays in sight."""
    async with (
        running_gateway(talkative) as first,
        running_gateway(talkative) as second,
        relay_to(first) as relay,
        open_console(first, port=relay.port, flags=(), expected_complaints=BROKEN) as console,
    ):
        await console.write("hello")
        await expect(console.answers.locator(".words")).to_have_text("You said hello.")
        relay.target = f"127.0.0.1:{second.port}"
        relay.reset()
        await expect(console.marks.filter(has_text="Connected as alice.")).to_have_count(2)
        await console.is_in("Connected")
        await console.write("are you new?")
        await expect(console.answers.nth(1).locator(".words")).to_have_text("You said are you new?.")
        assert (await model_of(second)).texts == ["are you new?"]
        await expect(console.users).to_have_count(2)


async def test_a_server_that_stays_away_is_given_up_and_tried_again(open_console: OpenConsole) -> None:
    async with running_gateway(talkative, limits=Limits(resume_s=1)) as gateway:
        async with relay_to(gateway) as relay:
            port = relay.port
            opened = open_console(gateway, port=port, flags=(), expected_complaints=BROKEN)
            console = await opened.__aenter__()
            await console.write("hello")
            await expect(console.answers).to_have_count(1)
        await expect(console.alert).to_contain_text("The server is gone")
        await console.is_in("Not connected")
        await console.press("Try again")
        await expect(console.alert).to_contain_text("is the gateway running")
        async with relay_to(gateway, port):
            await console.press("Try again")
            await console.is_in("Connected")
            await expect(console.alert).to_have_count(0)
            await console.write("and now?")
            await expect(console.answers).to_have_count(2)
            await opened.__aexit__(None, None, None)


async def test_a_call_that_is_ended_leaves_nothing_behind(open_console: OpenConsole) -> None:
    async with running_gateway(attentive) as gateway, open_console(gateway) as console:
        await listening(gateway, console)
        await console.press("End")
        await console.is_in("Ready")
        await expect(console.marks.first).to_contain_text("Closed by you.")
        await gateway.deserted()
        await console.press("Talk")
        await until_heard_by(await model_of(gateway, 1), 0.1)
        await console.page.goto("about:blank")
        await until(lambda: not gateway.upstream.open, "the model is let go")
