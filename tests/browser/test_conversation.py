"""A conversation: spoken and typed, with a command; taken apart turn by turn, and message by message."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.async_api import expect

from antiphon import messages
from antiphon.gemini.profiles import EMBEDDED, Voice
from browser.conftest import OpenConsole, TakePicture
from browser.console import Console, listening, model_of, until_heard_by
from browser.models import answer, attentive, call, talkative
from gateway.running import running_gateway


async def bars(console: Console, turn: int) -> tuple[float, float, list[int]]:
    """Return of a turn how much of the scale its bars take, its total, and its parts as they are written."""
    row = console.row(turn)
    shares = await row.locator(".bar i").evaluate_all(
        "(bars) => bars.map((bar) => parseFloat(bar.style.width))"
    )
    words = await row.locator(".parts-in-words").text_content()
    parts = [int(number) for number in re.findall(r"\d+", words or "")]
    return sum(shares), int(await row.locator(".total").inner_text()), parts


async def test_words_appear_while_they_are_spoken_and_the_answer_is_taken_apart(
    open_console: OpenConsole, picture: TakePicture, speech: Path
) -> None:
    async with running_gateway(attentive) as gateway, open_console(gateway, microphone=speech) as console:
        await expect(console.page.get_by_text("Answers come from: a fake")).to_be_visible()
        await expect(console.page.get_by_text("Press the button and speak.")).to_be_visible()
        model = await listening(gateway, console)
        await console.is_in("Listening")
        said = ""
        for words, after_s in (("Go", 0.8), (" forward", 1.2), (" ten", 1.6)):
            await until_heard_by(model, after_s)
            await model.hear(words)
            said += words
            await expect(console.partial.locator(".words")).to_have_text(said)
            await expect(console.users).to_have_count(0)
        await until_heard_by(model, 3)
        await model.hear(" meters.")
        await answer(model, "Ten meters it is.", 1)

        await expect(console.partial).to_have_count(0)
        await expect(console.users.locator(".words")).to_have_text("Go forward ten meters.")
        await expect(console.answers.locator(".words")).to_have_text("Ten meters it is.")
        await expect(console.answers).to_contain_text(re.compile(r"answer after \d+ ms"))
        await expect(console.log.locator("article")).to_have_count(2)

        share, total_ms, parts = await bars(console, 1)
        assert share == pytest.approx(100, abs=0.01), "the bars of the longest turn fill the scale"
        assert sum(parts) == pytest.approx(total_ms, abs=(len(parts) + 1) / 2), "each is rounded"
        await expect(console.answers).to_contain_text(f"answer after {total_ms} ms")
        stamp = console.row(1).get_by_role("button")
        await expect(stamp).to_have_accessible_name("t1, spoken: mark this turn")

        await console.press("Stop")
        await console.is_in("Connected")
        await expect(console.page.get_by_role("button", name="Talk", exact=True)).to_be_visible()


async def lit_in_the_waveform(console: Console) -> int:
    """Return how many of its pixels are lit, once it is drawn anew."""
    await console.page.wait_for_timeout(500)
    pixels: int = await console.page.locator(".wave canvas").evaluate(
        """(canvas) => {
          const context = canvas.getContext("2d");
          context.fillStyle = getComputedStyle(canvas).getPropertyValue("--lit").trim();
          const color = context.fillStyle;
          const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
          const hex = (at) => "#" + [0, 1, 2].map((n) => data[at + n].toString(16).padStart(2, "0")).join("");
          let count = 0;
          for (let at = 0; at < data.length; at += 4) count += data[at + 3] === 255 && hex(at) === color;
          return count;
        }"""
    )
    return pixels


async def test_a_command_is_a_tag_and_each_turn_is_lit_up_everywhere(open_console: OpenConsole) -> None:
    async with (
        running_gateway(attentive) as gateway,
        open_console(gateway, flags=(), expected_complaints=("willReadFrequently",)) as console,
    ):
        await console.write("  next one please ")
        model = await model_of(gateway)
        await call(model, "next")
        await answer(model, "Here is the next one.")
        await expect(console.users.locator(".words")).to_have_text("next one please")
        await expect(console.users.locator(".tag")).to_have_text("Command: next")
        await expect(console.users.locator(".timing")).to_contain_text("typed")
        await expect(console.row(1)).to_be_visible()
        share, _, _ = await bars(console, 1)
        assert share == pytest.approx(100, abs=0.01)
        assert model.texts == ["next one please"]
        assert gateway.upstream.open == 1

        lit = console.page.locator("[data-lit=true]")
        column = console.page.locator(".plot .column")
        await console.is_in("Connected")
        await expect(lit).to_have_count(0)
        await console.answers.get_by_role("button", name="mark this turn").click()
        await console.page.mouse.move(2, 2)
        for pane in (console.users, console.answers, console.row(1), column):
            await expect(pane).to_have_attribute("data-lit", "true")
        assert await lit_in_the_waveform(console) > 100
        await console.show("Messages")
        lines = console.lines.and_(lit)
        await expect(lines.filter(has_text="response_started")).to_be_visible()
        await console.page.locator("main .transcript").press("Escape")
        await expect(lit).to_have_count(0)
        await console.show("Latency")
        for pane in (console.users, console.answers, console.row(1), column):
            await pane.hover()
            await expect(console.users).to_have_attribute("data-lit", "true")
            await console.page.mouse.move(2, 2)
            await expect(lit).to_have_count(0)
        assert await lit_in_the_waveform(console) == 0


async def test_another_language_counts_from_the_next_call_on(open_console: OpenConsole) -> None:
    async with (
        running_gateway(talkative, voice=Voice(EMBEDDED)) as gateway,
        open_console(gateway) as console,
    ):
        await listening(gateway, console)
        await console.show("Setup")
        await console.choose("Language", "German (Germany)")
        await expect(console.page.get_by_text("counts from the next call on")).to_be_visible()
        await console.press("Start it now")
        await until_heard_by(await model_of(gateway, 1), 0.1)
        setups = [conversation.setup for conversation in gateway.upstream.conversations]
        spoken = [setup.generation_config.speech_config.language_code for setup in setups]
        assert spoken == ["en-US", "de-DE"]

        await console.choose("Language", "Another…")
        tag = console.page.get_by_label("Tag of the language")
        await tag.fill("Deutsch, bitte")
        await expect(tag).to_have_attribute("aria-invalid", "true")
        await tag.fill("de-AT")
        await expect(tag).to_have_attribute("aria-invalid", "false")
        await expect(console.page.get_by_text("Austrian German")).to_be_visible()


async def test_the_messages_can_be_filtered_read_and_exported(open_console: OpenConsole) -> None:
    async with running_gateway(talkative) as gateway, open_console(gateway, flags=()) as console:
        await console.show("Messages")
        await console.write("hello")
        await expect(console.answers).to_have_count(1)
        page = console.page
        lines, types = console.lines, console.lines.locator(".type")
        await expect(types.filter(has_text="auth_success")).to_have_count(1)
        await expect(types.filter(has_text="response_done")).to_have_count(1)
        await expect(types.filter(has_text="audio_response")).to_have_count(0)
        await page.get_by_label("Audio and pings").check()
        await expect(types.filter(has_text="audio_response").first).to_be_visible()
        await expect(types.filter(has_text="ping").first).to_be_visible()

        await page.get_by_label("Direction").select_option("sent")
        await expect(lines.locator(".arrow").filter(has_text="received")).to_have_count(0)
        await page.get_by_label("Type", exact=True).select_option("command")
        await expect(types).to_have_text(["command"])
        await lines.click()
        detail = page.get_by_role("region", name="Message command")
        assert json.loads(await detail.locator("pre").inner_text())["command"] == "hello"
        await page.get_by_label("Type", exact=True).select_option("")
        await page.get_by_label("Only messages with this text").fill("(not shown)")
        await expect(types).to_have_text(["auth"])

        await page.get_by_label("Only messages with this text").fill("")
        await page.get_by_label("Direction").select_option("")
        exported = await console.download("Export")
        rows = [json.loads(line) for line in exported.splitlines()]
        assert {row["direction"] for row in rows} == {"sent", "received"}
        assert {"auth", "command", "audio_response"} <= {row["message"]["type"] for row in rows}
        token = await page.evaluate("sessionStorage.getItem('antiphon.token')")
        assert token not in exported


async def test_text_of_the_server_is_only_text(open_console: OpenConsole) -> None:
    markup = "<img src=x onerror=\"document.title='run'\"><b>bold</b><script>document.title='run'</script>"
    async with running_gateway(attentive) as gateway, open_console(gateway, query="?commands=on") as console:
        model = await listening(gateway, console)
        await model.hear(markup)
        await expect(console.partial.locator(".words")).to_have_text(markup)
        await answer(model, markup)
        await expect(console.users.locator(".words")).to_have_text(markup)
        await expect(console.answers.locator(".words")).to_have_text(markup)

        await console.write(markup)
        await expect(console.users.nth(1)).to_contain_text(markup)
        await call(model, "next", {markup: markup})
        card = console.page.get_by_role("region", name="Tool call next")
        await expect(card.locator("pre")).to_contain_text(json.dumps(markup))
        await card.get_by_label("Why next fails, as a sentence").fill(markup)
        await card.get_by_role("button", name="Fail").click()
        await console.log.locator("summary").click()
        await expect(console.log.locator(".card p").nth(1)).to_have_text(markup)

        (connection,) = gateway.connections
        connection.send(messages.encode(messages.Error(timestamp=0, code=markup, message=markup)))
        await expect(console.notice("gateway")).to_contain_text(markup)
        await console.show("Messages")
        error = console.lines.filter(has=console.page.locator(".type", has_text="error"))
        await expect(error).to_contain_text("<img")
        assert await console.page.locator("main img, main b b, main .words *").count() == 0
        assert await console.page.title() == "Antiphon"
