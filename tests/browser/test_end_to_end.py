"""The whole of it, as a new user has it: his voice, Chromium, the gateway, the engine, and its voice back."""

from __future__ import annotations

import json
import re
import wave
from pathlib import Path

import numpy as np
import pytest
from playwright.async_api import expect

from browser.conftest import OpenConsole
from browser.sound import Samples
from browser.tap import tapped, until_silent
from commands.running import serving
from recordings import word_errors, words

pytestmark = pytest.mark.speech

NOTE_PARTIALS = """() => new MutationObserver(() => {
  const partial = document.querySelector(".partial.user .words");
  if (partial) window.partial = partial.textContent;
}).observe(document.querySelector("#live"), { childList: true, subtree: true, characterData: true })"""


async def test_speech_is_recognised_and_answered_aloud(
    open_console: OpenConsole, speech: Path, tmp_path: Path
) -> None:
    async with serving(tmp_path) as gateway:
        await gateway.until_line("#token=")
        link = gateway.link.replace("#", "?raw#")
        async with open_console(link, microphone=speech, tap=True) as console:
            await expect(console.page.get_by_text("Answers come from: embedded engine")).to_be_visible()
            await console.page.evaluate(NOTE_PARTIALS)
            await console.press("Talk")
            spoken = re.compile("go forward ten meters", re.I)
            await expect(console.users.locator(".words")).to_have_text(spoken)
            assert "go" in (await console.page.evaluate("window.partial")).lower()
            await expect(console.answers).to_contain_text(re.compile(r"answer after \d+ ms"))
            await console.press("Stop")
            await console.is_in("Connected")
            await until_silent(console.page, 1)
            said = await console.answers.locator(".words").inner_text()
            parts = console.row(1).locator(".parts-in-words")
            await expect(parts).to_contain_text(re.compile(r"endpoint [1-9]"))

            _, samples, rate_hz = await tapped(console.page)
            recording = write_wav(tmp_path / "answer.wav", samples, rate_hz)
            status, out, err = await gateway.antiphon(
                "talk", str(recording), "--url", gateway.ws_url, "--json", "--fast"
            )
            assert status == 0, err
            results = [m for m in map(json.loads, out.splitlines()) if m["type"] == "recognition_result"]
            heard = " ".join(result["transcript"] for result in results if result["isFinal"])
            assert word_errors(said, heard) <= len(words(said)) / 3, (said, heard)

            await console.write("Next one, please.")
            await expect(console.users.last.locator(".tag")).to_have_text("Command: next")
            await expect(console.answers).to_have_count(2)
            await expect(console.row(2)).to_be_visible()
        assert await gateway.stop() == 0


def write_wav(path: Path, samples: Samples, rate_hz: int) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes((32767 * np.clip(samples, -1, 1)).astype("<i2").tobytes())
    return path
