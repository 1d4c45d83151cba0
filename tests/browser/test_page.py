"""What the page shows and says, in a real browser, against a gateway that follows the test."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import expect

from antiphon import messages
from antiphon.errors import ErrorCode
from browser.conftest import OpenPage, TakePicture
from browser.hands import listening, press, type_command
from browser.scripted_gateway import Gateway, Session

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

PHONE: Final = {"width": 360, "height": 640}


# ---- a conversation


async def test_words_appear_while_speaking_and_the_answer_is_read(
    gateway: Gateway, open_page: OpenPage, picture: TakePicture, speech: Path
) -> None:
    page = await open_page(gateway.link, microphone=speech)
    log, partial, answer = page.get_by_role("log"), page.locator("#partial"), page.locator("#answer")
    await expect(page.get_by_text("Press the button and speak.")).to_be_visible()
    await expect(page.get_by_text("a script")).to_be_visible()
    await picture(page, "idle")

    session = await listening(gateway, page)
    await expect(page.get_by_text("Speak now.")).to_be_visible()
    for words, after_chunks in (("go", 12), ("go to the", 18), ("go to the next", 24)):
        await gateway.chunks(session.streams[0], after_chunks)
        await session.recognise(words)
        await expect(partial.locator(".words")).to_have_text(words)
        await expect(log.locator(".turn")).to_have_count(0)
    await picture(page, "speaking")
    await session.recognise("Go to the next one.", final=True)
    await expect(partial).to_be_hidden()
    await expect(log.locator(".turn")).to_have_count(1)
    await expect(log).to_contain_text("Go to the next one.")

    await session.recognise(
        "Go to the next one.", final=True, command="next"
    )  # once more, now with its command
    await expect(log.locator(".tag")).to_have_text("Command: next")
    await expect(log.locator(".turn")).to_have_count(1)

    await session.say(b"\0\0" * 2400, "All right.")
    await expect(answer.locator(".words")).to_have_text("All right.")
    await session.say(b"\0\0" * 2400, "Here is the")
    await session.say(b"\0\0" * 2400, " next one.")
    await expect(answer.locator(".words")).to_have_text("All right. Here is the next one.")
    await expect(page.locator("#answer .timing")).to_have_text(re.compile(r"answer after \d\.\d s"))
    await picture(page, "answering")
    await expect(log.locator(".turn")).to_have_count(2)  # the answer is over after a while
    await expect(answer).to_be_hidden()

    await press(page, "Stop")
    await gateway.ended(session.streams[0])
    await picture(page, "answered")


async def test_a_second_utterance_with_the_same_words_is_a_turn_of_its_own(
    gateway: Gateway, open_page: OpenPage
) -> None:
    page = await open_page(gateway.link)
    session = await listening(gateway, page)
    for _ in range(2):
        await session.recognise("Next.", final=True, command="next")
    await expect(page.get_by_role("log").locator(".turn")).to_have_count(2)
    await session.recognise("", final=True)  # noise
    await session.recognise("And now?")
    await expect(page.locator("#partial")).to_contain_text("And now?")
    await expect(page.get_by_role("log").locator(".turn")).to_have_count(2)


async def test_typing_needs_no_microphone(gateway: Gateway, open_page: OpenPage) -> None:
    page = await open_page(gateway.link, flags=())

    async def answer(session: Session, message: messages.ClientMessage) -> None:
        if isinstance(message, messages.Command):
            await session.recognise(message.command, final=True, command="pause")
            await session.say(b"", f"You said {message.command}.")

    gateway.on_message = answer
    await type_command(page, "  hold on ")
    await expect(page.get_by_role("log")).to_contain_text("hold on")
    await expect(page.get_by_role("log").locator(".tag")).to_have_text("Command: pause")
    await expect(page.locator("#live")).to_contain_text("You said hold on.")
    assert gateway.sessions[0].commands == ["hold on"]


async def test_text_of_the_server_is_text(gateway: Gateway, open_page: OpenPage) -> None:
    page = await open_page(gateway.link)
    session = await listening(gateway, page)
    markup = "<img src=x onerror=alert(1)><b>bold</b>"
    await session.recognise(markup, final=True, command=markup)
    await session.say(b"", markup)
    await expect(page.get_by_role("log")).to_contain_text(markup)
    await expect(page.locator("#answer .words")).to_have_text(markup)
    assert await page.locator("main img, main b").count() == 0


async def test_an_answer_that_cannot_be_played_is_read(gateway: Gateway, open_page: OpenPage) -> None:
    page = await open_page(gateway.link)
    session = await listening(gateway, page)
    await session.say(b"OggS", "Can you hear me?", audio_format="audio/ogg")
    await expect(page.get_by_role("status")).to_contain_text(["", "audio/ogg"])
    await expect(page.locator("#answer .words")).to_have_text("Can you hear me?")


# ---- for everyone


async def test_the_keyboard_is_enough(gateway: Gateway, open_page: OpenPage) -> None:
    page = await open_page(gateway.link)
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="Talk")).to_be_focused()
    await page.keyboard.press("Space")
    stream = await gateway.stream()
    await gateway.chunks(stream, 1)
    await expect(page.get_by_role("button", name="Stop")).to_be_focused()
    await page.keyboard.press("Space")
    await gateway.ended(stream)
    await page.keyboard.press("Tab")
    await page.keyboard.type("hello")
    await page.keyboard.press("Enter")
    await gateway.until(lambda: gateway.sessions[0].commands == ["hello"], "the command")


CONTRASTS = """() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = (rgb) => rgb.slice(0, 3)
    .map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color[3] !== 0) return color;
    }
  };
  return [...document.querySelectorAll("body *")]
    .filter((element) => element.checkVisibility() && !element.classList.contains("unseen"))
    .filter((element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
    .map((element) => {
      const pair = [parse(getComputedStyle(element).color), behind(element)].map(luminance).sort();
      return [element.textContent, (pair[1] + 0.05) / (pair[0] + 0.05)];
    });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_phone_and_weak_eyes(
    gateway: Gateway, open_page: OpenPage, picture: TakePicture, scheme: str
) -> None:
    """Nothing is wider than the screen, and all text has the contrast of WCAG AA."""
    page = await open_page(gateway.link, viewport=PHONE, color_scheme=scheme, has_touch=True)
    session = await listening(gateway, page)
    await type_command(page, "What can you do for me today?")
    await gateway.until(lambda: session.commands, "the command")
    await session.recognise("What can you do for me today?", final=True, command="help")
    await session.say(
        b"\0\0" * 2400, "I can go to the next one, " + "very" * 40 + " far, or say what I heard."
    )
    await session.recognise("And what time")
    await session.fail(ErrorCode.AUDIO_SEQUENCE_GAP)
    await expect(page.locator("#answer .timing")).to_be_visible()
    await expect(page.locator("#partial .words")).to_have_text("And what time")
    await picture(page, f"phone-{scheme}")
    assert await page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    await session.fail(ErrorCode.AUTH_TOKEN_EXPIRED)
    await expect(page.get_by_role("alert")).to_be_visible()
    await picture(page, f"phone-{scheme}-alert")
    contrasts = await page.evaluate(CONTRASTS)
    assert len(contrasts) > 10
    assert [pair for pair in contrasts if pair[1] < 4.5] == []


async def test_less_motion_where_it_is_asked_for(gateway: Gateway, open_page: OpenPage) -> None:
    page = await open_page(gateway.link, reduced_motion="reduce")
    await listening(gateway, page)
    levels = await page.evaluate(
        """() => new Promise((resolve) => {
          const levels = new Set();
          new MutationObserver(() => levels.add(talk.style.getPropertyValue("--level"))).observe(talk, {
            attributes: true, attributeFilter: ["style"],
          });
          setTimeout(() => resolve([...levels]), 1200);
        })"""
    )
    assert set(levels) <= {"0.000"}
