"""An answer that is cut: silence at once, and the transcript ends where it was heard."""

from __future__ import annotations

import re

import numpy as np
from playwright.async_api import expect

from browser.conftest import OpenConsole
from browser.console import Console, listening, model_of
from browser.models import WORDS, counting, cut_off
from browser.tap import tapped, until_heard, until_silent
from gateway.running import running_gateway

SILENCE = 10 ** (-60 / 20)
SILENT_MS = 20


async def late_ms(console: Console) -> float:
    """Return for how long there was sound after the flush came."""
    await until_silent(console.page)
    first_s, samples, rate_hz = await tapped(console.page)
    flushed_s = await console.page.evaluate("window.flushedAt")
    loud = np.flatnonzero(np.abs(samples) > SILENCE)
    return float(1000 * (first_s + loud[-1] / rate_hz - flushed_s))


async def is_cut(console: Console) -> tuple[str, str]:
    """Check that the answer is shown as cut, and return what of it was heard and what was not."""
    timing = console.answers.locator(".timing")
    await expect(timing).to_have_text(re.compile(r"cut after \d+(\.\d+)? (ms|s).* dropped"))
    await expect(console.marks.first).to_contain_text(re.compile(r"Answer cut: .* heard, .* dropped"))
    measured = re.compile(r"cut: \d+ ms played, \d+ ms dropped")
    await expect(console.row(1).locator(".cut")).to_have_text(measured)
    unheard = await console.answers.locator("del").inner_text()
    whole = await console.answers.locator(".words").inner_text()
    assert "Generated, but not heard:" in whole
    return whole.partition("Generated")[0].strip(), unheard.strip()


async def test_the_user_speaks_while_seconds_of_an_answer_wait(open_console: OpenConsole) -> None:
    async with (
        running_gateway(counting) as gateway,
        open_console(gateway, query="?buffer=5000", tap=True) as console,
    ):
        model = await listening(gateway, console)
        await console.write("count")
        await until_heard(console.page, 1.2)
        await console.is_in("Answering")
        await cut_off(model)
        heard, unheard = await is_cut(console)
        assert f"{heard} {unheard}".split() == list(WORDS[: len(f"{heard} {unheard}".split())])
        assert heard.split()[0] == "one"
        assert len(unheard.split()) >= 3
        assert await late_ms(console) <= SILENT_MS


async def test_a_flush_that_comes_late_is_seen(open_console: OpenConsole) -> None:
    """The control: the same, 200 ms later, would fail."""
    async with (
        running_gateway(counting) as gateway,
        open_console(
            gateway, query="?buffer=5000", tap=True, init_script="window.flushDelayMs = 200"
        ) as console,
    ):
        await console.write("count")
        await until_heard(console.page, 1.2)
        await cut_off(await model_of(gateway))
        await expect(console.answers.locator(".timing")).to_contain_text("cut after")
        assert await late_ms(console) > 150


async def test_the_user_cuts_it_off_by_a_button_or_a_key(open_console: OpenConsole) -> None:
    async with running_gateway(counting) as gateway, open_console(gateway, tap=True) as console:
        await expect(console.page.get_by_role("button", name="Interrupt")).to_be_disabled()
        await console.write("count")
        await until_heard(console.page, 0.3)
        await console.press("Interrupt")
        await is_cut(console)
        await console.is_in("Connected")
        await console.write("again")
        await expect(console.page.get_by_role("button", name="Interrupt")).to_be_enabled()
        await console.page.locator(".transcript").press("i")
        await expect(console.answers.locator(".timing").nth(1)).to_contain_text("cut")
        await console.is_in("Connected")
