"""Files in and out: audio that is said, a session that is exported and replayed; settings, links and code."""

from __future__ import annotations

import ast
import json
from pathlib import Path

from playwright.async_api import expect

from browser.conftest import OpenConsole
from browser.console import Console, model_of, until_heard_by
from browser.models import attentive, talkative
from gateway.running import running_gateway


async def choose_file(console: Console, path: Path) -> None:
    async with console.page.expect_file_chooser() as choosing:
        await console.press("Send an audio file")
    await (await choosing.value).set_files(path)


async def test_a_sound_file_is_said_whether_dropped_or_chosen(
    open_console: OpenConsole, speech: Path, tmp_path: Path
) -> None:
    samples = (speech.stat().st_size - 44) // 2
    async with running_gateway(talkative) as gateway, open_console(gateway, flags=()) as console:
        await console.drop(speech, "audio/wav")
        await expect(console.page.get_by_text("Speaking “speech.wav”")).to_be_visible()
        await expect(console.answers.locator(".words")).to_have_text("So I did.")
        await expect(console.page.get_by_text("Speaking “speech.wav”")).to_have_count(0)
        model = await model_of(gateway)
        assert len(model.heard) == 2 * samples

        await choose_file(console, speech)
        await until_heard_by(model, samples / 16_000 + 0.3)
        await console.press("Stop sending")
        await expect(console.answers).to_have_count(2)
        assert len(model.heard) < 4 * samples

        wrong = tmp_path / "notes.wav"
        wrong.write_text("no sound")
        await choose_file(console, wrong)
        await expect(console.notice("file")).to_contain_text("“notes.wav” could not be sent")


async def test_a_session_is_exported_and_replayed(open_console: OpenConsole, tmp_path: Path) -> None:
    exported = tmp_path / "session.jsonl"
    async with running_gateway(talkative) as gateway, open_console(gateway, flags=()) as console:
        for count, words in enumerate(("hello", "and again"), 1):
            await console.write(words)
            await expect(console.answers).to_have_count(count)
            await expect(console.row(count)).to_be_visible()
        await console.is_in("Connected")
        totals = await console.page.locator(".waterfall .total").all_inner_texts()
        await console.show("Setup")
        exported.write_text(await console.download("Export session"))
        token = await console.page.evaluate("sessionStorage.getItem('antiphon.token')")
        assert token not in exported.read_text()

        async with open_console(gateway, token="", flags=()) as another:
            await another.drop(exported)
            page = another.page
            await expect(page.get_by_role("region", name="Replay")).to_contain_text("“session.jsonl”")
            await expect(another.users).to_contain_text(["hello", "and again"])
            await expect(another.answers).to_contain_text(["You said hello.", "You said and again."])
            assert await page.locator(".waterfall .total").all_inner_texts() == totals
            await expect(another.marks).to_contain_text(["Connected as alice."])
            await another.is_in("Replay: connected")
            await another.show("Messages")
            await expect(another.lines.locator(".type").filter(has_text="response_done")).to_have_count(2)

            await page.get_by_role("slider", name="Where it is").press("Home")
            await expect(another.users).to_have_count(0)
            await page.get_by_role("combobox", name="Speed").select_option("8")
            await another.press("Play")
            await expect(another.answers).to_have_count(2)
            play = page.get_by_role("button", name="Play", exact=True)
            await expect(play).to_be_visible()  # it is at its end
            await another.press("Close replay")
            await expect(another.users).to_have_count(0)
            await expect(another.words).to_be_visible()

            lines = exported.read_text().splitlines()
            for name, text, says in (
                ("other.jsonl", '{"format": "other"}', "no session that was exported"),
                ("torn.jsonl", "\n".join([*lines[:3], lines[3][:20]]), "is no JSON"),
                ("empty.jsonl", lines[0], "nothing in this session"),
            ):
                (tmp_path / name).write_text(text)
                await another.drop(tmp_path / name)
                await expect(another.notice("file")).to_contain_text(f"“{name}” cannot be replayed")
                await expect(another.notice("file")).to_contain_text(says)


async def test_settings_are_kept_and_a_link_opens_the_same(open_console: OpenConsole) -> None:
    async with (
        running_gateway(attentive) as gateway,
        open_console(gateway, permissions=["clipboard-read", "clipboard-write"]) as console,
    ):
        page = console.page
        await console.show("Setup")
        await console.choose("How to talk", "Push to talk: hold")
        await console.choose("Language", "French (France)")
        await console.choose("Speech is sent as", "FLAC, without loss")
        await console.choose("Colours", "Dark")
        await page.get_by_label("Echo cancellation").uncheck()
        await page.get_by_label("Answers ahead, ms").fill("5000")
        await page.get_by_label("Answers ahead, ms").press("Tab")
        await page.reload()
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        await console.show("Setup")
        await expect(page.get_by_role("combobox", name="How to talk")).to_have_value("hold")
        await expect(page.get_by_label("Echo cancellation")).not_to_be_checked()

        await console.press("Copy link")
        link = await page.evaluate("navigator.clipboard.readText()")
        assert "token" not in link
        async with open_console(link, flags=()) as other:
            await other.show("Setup")
            await expect(other.page.get_by_role("combobox", name="How to talk")).to_have_value("hold")
            await expect(other.page.get_by_role("combobox", name="Language")).to_have_value("fr-FR")
            await expect(other.page.get_by_role("combobox", name="Speech is sent as")).to_have_value("flac")
            await expect(other.page.get_by_label("Answers ahead, ms")).to_have_value("5000")
            await expect(other.page.get_by_label("Echo cancellation")).not_to_be_checked()
            await expect(other.page.get_by_label("Noise suppression")).to_be_checked()
            await expect(other.page.locator("html")).to_have_attribute("data-theme", "light")

        await console.press("Copy as code")
        code = await page.evaluate("navigator.clipboard.readText()")
        for part in ('from "@antiphon/client"', "encoder: flac()", 'language: "fr-FR"', "pushToTalk: true"):
            assert part in code
        await console.press("Python")
        await console.press("Copy as code")
        program = await page.evaluate("navigator.clipboard.readText()")
        ast.parse(program)
        assert '"FLAC"' in program
        assert f"127.0.0.1:{gateway.port}/ws" in program

        await console.press("Reset all")
        await expect(page.get_by_role("combobox", name="How to talk")).to_have_value("open")
        kept = json.loads(await page.evaluate("localStorage.getItem('antiphon.settings')"))
        assert kept["encoder"] == "linear16"


async def test_each_encoder_is_understood(open_console: OpenConsole) -> None:
    """The code and the worker that it needs are loaded under the page's policy."""
    for name in ("flac", "opus"):
        async with (
            running_gateway(talkative) as gateway,
            open_console(gateway, query=f"?encoder={name}") as console,
        ):
            await console.press("Talk")
            await until_heard_by(await model_of(gateway), 0.5)
            await console.press("Stop")
            await expect(console.answers).to_have_count(1)
