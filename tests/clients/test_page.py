"""What a page goes through while it is in a call: hidden and seen, frozen, online again, other devices."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from playwright.async_api import Page

from browser.conftest import GRANTED, speech
from browser.sound import tone
from clients.audio_page import OpenPage, launch, open_page, site
from clients.test_browser_call import calling, origins, singing, until
from fake_gemini import Conversation
from freezing_relay import freezing_relay
from gateway.running import running_gateway

__all__ = ["launch", "open_page", "site", "speech"]

pytestmark = [pytest.mark.browser, pytest.mark.node]

BROKEN: Final = ("WebSocket connection to", "ERR_")
NEVER_MS: Final = 3_600_000

SHOW = """(hidden) => {
  Object.defineProperty(document, "hidden", { configurable: true, value: hidden });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
"""No headless Chromium hides a page: it is told so."""

SPY_ON_LOCKS = """() => {
  window.locks = [];
  const request = navigator.wakeLock.request.bind(navigator.wakeLock);
  navigator.wakeLock.request = async (type) => {
    await new Promise((resolve) => setTimeout(resolve, window.lockDelayMs ?? 0));
    const lock = await request(type);
    window.locks.push(lock);
    return lock;
  };
}"""

REFUSE_LOCKS = """() => {
  navigator.wakeLock.request = async () => {
    throw new DOMException("The battery is low", "NotAllowedError");
  };
}"""

COUNT_PINGS = """() => {
  window.sent = 0;
  window.call.on("wire", ({ message }) => (window.sent += message.type === "ping"));
}"""

HELD = "window.locks.filter(({ released }) => !released).length"


async def held(page: Page, locks: int) -> None:
    await page.wait_for_function(f"{HELD} === {locks}")


@pytest.mark.parametrize("seen", [f"({SHOW})(false)", "window.dispatchEvent(new Event('online'))"])
async def test_it_comes_back_at_once_where_it_is_seen_or_online_again(
    site: str, open_page: OpenPage, seen: str
) -> None:
    """And not before: hidden it waits for what was agreed, here an hour."""
    async with freezing_relay() as relay, running_gateway(singing(0.2), origins=origins(site)) as gateway:
        relay.target = f"127.0.0.1:{gateway.port}"
        async with calling(
            gateway,
            open_page,
            relay=relay,
            page={"expected_complaints": BROKEN},
            reconnect={"delaysMs": [NEVER_MS], "giveUpMs": 2 * NEVER_MS},
        ) as page:
            await page.evaluate("Math.random = () => 1")
            if "hidden" in seen:
                await page.evaluate(SHOW, True)
            relay.reset()
            await until(page, "state", state="reconnecting")
            await page.evaluate("window.call.sendText('kept meanwhile')")
            if "hidden" in seen:
                await page.evaluate(SHOW, True)
            await asyncio.sleep(0.5)
            assert await page.evaluate("window.call.state") == "reconnecting"
            await page.evaluate(seen)
            await until(page, "connected", recovered=True, timeout_s=3)
            await until(page, "response", status="completed")
            assert gateway.upstream.conversations[0].texts == ["kept meanwhile"]


async def test_a_connection_that_died_unseen_is_found_out_when_the_page_is_seen(
    site: str, open_page: OpenPage
) -> None:
    """Nobody told of it; it is asked at once, not when a heartbeat is missed."""
    async with freezing_relay() as relay, running_gateway(singing(0.2), origins=origins(site)) as gateway:
        relay.target = f"127.0.0.1:{gateway.port}"
        async with calling(gateway, open_page, relay=relay, page={"expected_complaints": BROKEN}) as page:
            await page.evaluate(COUNT_PINGS)
            await asyncio.sleep(4)  # the pings that set the clock are over
            relay.freeze()
            before = await page.evaluate("window.sent")
            await page.evaluate(SHOW, False)
            assert await page.evaluate("window.sent") == before + 1
            await until(page, "state", state="reconnecting", timeout_s=10)
            relay.reset()
            relay.thaw()
            await until(page, "connected", recovered=True)


async def test_a_page_that_was_frozen_goes_on(site: str, open_page: OpenPage) -> None:
    """Its process stands still for 12 s, as in a pocket: what was said to it is there after."""
    asleep = asyncio.Event()

    async def speaks_meanwhile(conversation: Conversation) -> None:
        await conversation.begin()
        await asleep.wait()
        await conversation.say("While you slept.", tone(0.3))
        await conversation.end_turn()
        await conversation.until_gone()

    async with running_gateway(speaks_meanwhile, origins=origins(site)) as gateway:
        # A browser of its own, as all of its pages stand still.
        flags = (*GRANTED, "--disable-features=SpareRendererForSitePerProcess")
        page_options = {"flags": flags, "expected_complaints": BROKEN}
        async with calling(gateway, open_page, page=page_options, microphone=True) as page:
            await until(page, "microphone", state="on")
            await page.evaluate("window.call.sendText('before')")
            async with frozen(page):
                await asyncio.sleep(1)
                asleep.set()
                await asyncio.sleep(11)
            await until(page, "transcript", role="model", text="While you slept.")
            await until(page, "response", status="completed")
            await page.evaluate("window.call.sendText('after')")
            (model,) = gateway.upstream.conversations
            async with asyncio.timeout(10):
                while model.texts != ["before", "after"]:
                    await asyncio.sleep(0.05)
            heard = len(model.heard)
            async with asyncio.timeout(10):
                while len(model.heard) <= heard:
                    await asyncio.sleep(0.05)
            events: list[dict[str, Any]] = await page.evaluate("window.events")
            assert not [event for event in events if event.get("lossy")]


@asynccontextmanager
async def frozen(page: Page) -> AsyncIterator[None]:
    """The processes of the browser's pages stand still."""
    assert page.context.browser is not None
    session = await page.context.browser.new_browser_cdp_session()
    processes = (await session.send("SystemInfo.getProcessInfo"))["processInfo"]
    pages = [process["id"] for process in processes if process["type"] == "renderer"]
    assert pages
    for pid in pages:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pages:
            os.kill(pid, signal.SIGCONT)


async def test_the_screen_stays_on_while_the_microphone_is(site: str, open_page: OpenPage) -> None:
    async with (
        running_gateway(origins=origins(site)) as gateway,
        calling(gateway, open_page, page={}, wakeLock=True) as page,
    ):
        await page.evaluate(SPY_ON_LOCKS)
        await page.evaluate("window.call.openMicrophone()")
        await held(page, 1)
        # Browsers let go of it when the page is hidden.
        await page.evaluate("window.locks[0].release()")
        await page.evaluate(SHOW, True)
        await asyncio.sleep(0.2)
        await held(page, 0)
        await page.evaluate(SHOW, False)
        await held(page, 1)
        await page.evaluate(SHOW, False)
        await asyncio.sleep(0.2)
        await held(page, 1)
        # Another microphone takes it over; one closed sooner than it is granted leaves none behind.
        await page.evaluate("window.call.openMicrophone()")
        await held(page, 1)
        await page.evaluate("window.call.closeMicrophone()")
        await held(page, 0)
        await page.evaluate("window.lockDelayMs = 300")
        await page.evaluate("window.call.openMicrophone().then(() => window.call.closeMicrophone())")
        before = await page.evaluate("window.locks.length")
        await page.wait_for_function(f"window.locks.length > {before - 1}")
        await asyncio.sleep(0.5)
        await held(page, 0)
        # The end of the call is the end of it; hidden or seen makes no difference then.
        await page.evaluate("(window.lockDelayMs = 0, window.call.openMicrophone())")
        await held(page, 1)
        await page.evaluate("window.call.disconnect()")
        await held(page, 0)
        await page.evaluate(SHOW, False)
        await asyncio.sleep(0.2)
        await held(page, 0)


async def test_the_screen_is_left_alone_where_nobody_asked(site: str, open_page: OpenPage) -> None:
    async with (
        running_gateway(origins=origins(site)) as gateway,
        calling(gateway, open_page, page={}) as page,
    ):
        await page.evaluate(SPY_ON_LOCKS)
        await page.evaluate("window.call.openMicrophone()")
        await until(page, "microphone", state="on")
        await page.evaluate(SHOW, False)
        await asyncio.sleep(0.2)
        assert await page.evaluate("window.locks.length") == 0


async def test_a_screen_that_may_not_be_held_is_no_reason_to_stop(site: str, open_page: OpenPage) -> None:
    async with (
        running_gateway(origins=origins(site)) as gateway,
        calling(gateway, open_page, page={}, wakeLock=True) as page,
    ):
        await page.evaluate(REFUSE_LOCKS)
        await page.evaluate("window.call.openMicrophone()")
        await until(page, "microphone", state="on")


async def test_devices_that_come_and_go_are_told_of_and_another_is_taken(
    site: str, open_page: OpenPage
) -> None:
    async with (
        running_gateway(singing(0.2), origins=origins(site)) as gateway,
        calling(gateway, open_page, page={}, microphone=True) as page,
    ):
        await page.evaluate("void window.call.on('devicesChanged', (event) => window.events.push(event))")
        first = await until(page, "microphone", state="on")
        await page.evaluate("navigator.mediaDevices.dispatchEvent(new Event('devicechange'))")
        await until(page, "devicesChanged")
        inputs = """async () => (await navigator.mediaDevices.enumerateDevices())
          .filter(({ kind }) => kind === "audioinput").map(({ deviceId, label }) => [deviceId, label])"""
        devices = await page.evaluate(inputs)
        device, label = next(one for one in devices if one[1] != first["label"] and one[0] != "default")
        await page.evaluate("(id) => window.call.setMicrophoneDevice(id)", device)
        await until(page, "microphone", state="on", label=label)
        assert await page.evaluate("window.call.microphone.deviceId") == device
        heard = len(gateway.upstream.conversations[0].heard)
        await asyncio.sleep(0.5)
        assert len(gateway.upstream.conversations[0].heard) > heard
        await page.evaluate("window.call.setMuted(true)")
        await page.evaluate("(id) => window.call.setMicrophoneDevice(id)", devices[0][0])
        await until(page, "microphone", state="muted")
        assert await page.evaluate("window.call.microphone.state") == "muted", "muted stays muted"


@pytest.mark.parametrize("microphone", [False, True])
async def test_sound_that_stands_still_is_made_anew_by_a_click(
    site: str, open_page: OpenPage, microphone: bool
) -> None:
    """As on iOS, where a context may run and its clock not."""
    async with (
        running_gateway(singing(0.2), origins=origins(site)) as gateway,
        calling(gateway, open_page, page={}, microphone=microphone) as page,
    ):
        await page.evaluate("Object.defineProperty(window.call.sound, 'alive', { value: false })")
        assert await page.evaluate("(window.before = window.call.sound, window.call.startAudio())")
        assert await page.evaluate("window.call.sound !== window.before")
        await page.evaluate("window.call.sendText('sing')")
        await until(page, "playback", playing=True)
        if microphone:
            await page.wait_for_function("window.call.microphone.state === 'on'")
            heard = len(gateway.upstream.conversations[0].heard)
            async with asyncio.timeout(10):
                while len(gateway.upstream.conversations[0].heard) <= heard:
                    await asyncio.sleep(0.05)
