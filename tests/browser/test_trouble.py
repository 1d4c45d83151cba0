"""What the page says when something is in the way: the microphone, the token, the connection."""

from __future__ import annotations

from typing import Final

import pytest
from playwright.async_api import Page, expect

from antiphon.errors import ErrorCode
from browser.conftest import GRANTED, OpenPage, TakePicture
from browser.hands import listening, press, type_command
from browser.scripted_gateway import GOOD_TOKEN, Gateway, Session

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

NO_ANSWER: Final = ("ERR_CONNECTION_", "WebSocket connection to", "503 (Service Unavailable)")


# ---- the microphone


async def refusal(page: Page, picture: TakePicture, name: str) -> str:
    """Press the button and return what the page says is wrong."""
    await press(page, "Talk")
    await expect(page.get_by_role("alert")).to_be_visible()
    await picture(page, name)
    await expect(page.get_by_role("button", name="Talk")).to_be_visible()
    return await page.get_by_role("alert").inner_text()


async def test_a_denied_microphone(gateway: Gateway, open_page: OpenPage, picture: TakePicture) -> None:
    page = await open_page(gateway.link, flags=(GRANTED[0], "--deny-permission-prompts"))
    assert "The microphone is blocked" in await refusal(page, picture, "denied")
    await type_command(page, "still here")
    await gateway.until(lambda: gateway.sessions[0].commands == ["still here"], "the command")


async def test_a_missing_microphone(gateway: Gateway, open_page: OpenPage, picture: TakePicture) -> None:
    page = await open_page(gateway.link, flags=(), permissions=["microphone"])
    assert "No microphone was found" in await refusal(page, picture, "missing")


async def test_a_microphone_in_use(gateway: Gateway, open_page: OpenPage, picture: TakePicture) -> None:
    """No flag of Chromium brings this about: the page gets the error that it raises."""
    page = await open_page(
        gateway.link,
        init_script="""navigator.mediaDevices.getUserMedia = async () => {
          throw new DOMException("Could not start audio source", "NotReadableError");
        };""",
    )
    assert "Another program may be using it" in await refusal(page, picture, "in-use")


async def test_an_insecure_address(gateway: Gateway, open_page: OpenPage, picture: TakePicture) -> None:
    flags = (*GRANTED, "--host-resolver-rules=MAP gateway.test 127.0.0.1")
    page = await open_page(gateway.link.replace("127.0.0.1", "gateway.test"), flags=flags)
    assert "only over https" in await refusal(page, picture, "insecure")
    await type_command(page, "still here")
    await gateway.until(lambda: gateway.sessions and gateway.sessions[0].commands, "the command")


async def test_sound_that_stands_still(gateway: Gateway, open_page: OpenPage, picture: TakePicture) -> None:
    """As in a browser that finds no loudspeaker."""
    page = await open_page(
        gateway.link,
        init_script="""window.AudioContext = class extends AudioContext {
          constructor(...options) { super(...options); this.suspend(); }
          async resume() {}
        };""",
    )
    await press(page, "Talk")
    await expect(page.get_by_role("alert")).to_contain_text("Nothing comes from the microphone")
    await picture(page, "still")


async def test_a_microphone_that_goes_away(gateway: Gateway, open_page: OpenPage) -> None:
    page = await open_page(
        gateway.link,
        init_script="""const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (wanted) => (window.microphone = await ask(wanted));""",
    )
    session = await listening(gateway, page)
    await page.evaluate("window.microphone.getTracks()[0].dispatchEvent(new Event('ended'))")
    await expect(page.get_by_role("alert")).to_contain_text("The microphone was disconnected")
    await gateway.ended(session.streams[0])


# ---- the token


async def test_the_token_leaves_the_address_bar_and_survives_a_reload(
    gateway: Gateway, open_page: OpenPage
) -> None:
    page = await open_page(f"{gateway.url}?raw=1#token={GOOD_TOKEN}")
    await expect(page).to_have_url(f"{gateway.url}?raw=1")
    assert await page.evaluate("localStorage.length") == 0
    await page.reload()
    session = await listening(gateway, page)
    assert session.token == GOOD_TOKEN


async def test_without_a_token_the_page_asks_for_one(
    gateway: Gateway, open_page: OpenPage, picture: TakePicture
) -> None:
    page = await open_page(gateway.url)
    await expect(page.get_by_label("Token")).to_be_visible()
    await expect(page.locator("#notice")).to_contain_text("make serve")
    await picture(page, "no-token")
    await press(page, "Talk")
    await expect(page.get_by_label("Token")).to_be_focused()
    assert gateway.sessions == []
    await page.get_by_label("Token").fill(f" {gateway.link}\n")
    await press(page, "Use it")
    await expect(page.locator("#notice")).to_be_hidden()
    assert (await listening(gateway, page)).token == GOOD_TOKEN


@pytest.mark.parametrize("code", [ErrorCode.AUTH_TOKEN_INVALID, ErrorCode.AUTH_TOKEN_EXPIRED])
async def test_a_refused_token_can_be_replaced(
    gateway: Gateway, open_page: OpenPage, code: ErrorCode, picture: TakePicture
) -> None:
    async def check(session: Session) -> None:
        await (session.authenticated() if session.token == GOOD_TOKEN else session.fail(code))

    gateway.on_token = check
    page = await open_page(f"{gateway.url}#token=bad")
    await press(page, "Talk")
    notice = page.get_by_role("alert")
    await expect(notice).to_contain_text("get a new one")
    await expect(notice).to_contain_text("make serve")
    await expect(page.get_by_role("button", name="Talk")).to_be_visible()
    await picture(page, code)
    await page.get_by_label("Token").fill(GOOD_TOKEN)
    await press(page, "Use it")
    await gateway.until(lambda: gateway.sessions[-1].token == GOOD_TOKEN, "the good token")
    await expect(page.locator("#notice")).to_be_hidden()
    assert len(gateway.sessions) == 2


async def test_a_token_that_expires_in_a_conversation(gateway: Gateway, open_page: OpenPage) -> None:
    page = await open_page(gateway.link)
    session = await listening(gateway, page)
    await session.fail(ErrorCode.AUTH_TOKEN_EXPIRED)
    await expect(page.get_by_role("alert")).to_contain_text("The token has expired")
    await expect(page.get_by_role("button", name="Talk")).to_be_visible()
    await page.goto(f"{gateway.url}#token=another")  # a link followed in the same tab
    await gateway.until(lambda: gateway.sessions[-1].token == "another", "the token of the link")
    await expect(page).to_have_url(gateway.url)


# ---- the connection


async def test_a_server_that_goes_and_comes_back(
    gateway: Gateway, open_page: OpenPage, picture: TakePicture
) -> None:
    page = await open_page(gateway.link, expected_complaints=NO_ANSWER)
    await listening(gateway, page)
    await gateway.vanish()
    notice = page.locator("#notice")
    await expect(notice).to_contain_text(f"The server does not answer at 127.0.0.1:{gateway.port}")
    await expect(page.locator("#state")).to_have_text("Reconnecting…")
    await picture(page, "gone")
    gateway.ready = False
    await gateway.listen()
    await expect(notice).to_contain_text("The server is not ready", timeout=15_000)
    assert len(gateway.sessions) == 1
    gateway.ready = True
    stream = await gateway.stream(2)
    await gateway.chunks(stream, 5)
    await expect(notice).to_be_hidden()
    await expect(page.locator("#state")).to_have_text("Listening")


async def test_trying_again_at_once(gateway: Gateway, open_page: OpenPage) -> None:
    page = await open_page(gateway.link, expected_complaints=NO_ANSWER)
    await gateway.vanish()
    await press(page, "Talk")
    await expect(page.locator("#notice")).to_contain_text("does not answer")
    gateway.ready = False  # which the page asks before it tries by itself
    await gateway.listen()
    await expect(page.locator("#notice")).to_contain_text("not ready", timeout=15_000)
    await press(page, "Try again")
    await gateway.chunks(await gateway.stream(), 1)


async def test_a_server_that_stays_away_is_given_up(
    gateway: Gateway, open_page: OpenPage, picture: TakePicture
) -> None:
    page = await open_page(gateway.link, expected_complaints=NO_ANSWER)
    await listening(gateway, page)
    await gateway.vanish()
    await page.clock.install()
    alert = page.get_by_role("alert")
    for _ in range(100):
        await page.clock.run_for(1000)
        if await alert.is_visible():
            break
    await expect(alert).to_contain_text("The server is gone")
    await expect(page.get_by_role("button", name="Try again")).to_be_visible()
    await expect(page.get_by_role("button", name="Talk")).to_be_visible()
    await picture(page, "given-up")


@pytest.mark.parametrize(
    "code", [ErrorCode.SERVER_AT_CAPACITY, ErrorCode.QUOTA_CONNECTIONS, ErrorCode.UPSTREAM_LOST]
)
async def test_what_passes_is_tried_again(gateway: Gateway, open_page: OpenPage, code: ErrorCode) -> None:
    async def refuse_once(session: Session) -> None:
        await (session.fail(code) if len(gateway.sessions) == 1 else session.authenticated())

    gateway.on_token = refuse_once
    page = await open_page(gateway.link)
    await press(page, "Talk")
    if code != ErrorCode.UPSTREAM_LOST:  # that is tried again before one could read it
        await expect(page.locator("#notice")).to_contain_text("Trying again")
    await gateway.chunks(await gateway.stream(), 5)
    await expect(page.locator("#notice")).to_be_hidden()
    assert len(gateway.sessions) == 2


@pytest.mark.parametrize("code", [ErrorCode.UPSTREAM_UNAUTHORIZED, ErrorCode.AUTH_USER_CHANGED])
async def test_what_lasts_is_not_tried_again(gateway: Gateway, open_page: OpenPage, code: ErrorCode) -> None:
    page = await open_page(gateway.link)
    session = await listening(gateway, page)
    await session.fail(code)
    await expect(page.get_by_role("alert")).to_contain_text("The conversation has ended")
    await expect(page.get_by_role("button", name="Talk")).to_be_visible()
    assert len(gateway.sessions) == 1


async def test_an_idle_close_is_no_alarm(gateway: Gateway, open_page: OpenPage) -> None:
    page = await open_page(gateway.link)
    await type_command(page, "hello")
    await gateway.until(lambda: gateway.sessions and gateway.sessions[0].commands, "the command")
    await gateway.sessions[0].fail(ErrorCode.SESSION_IDLE)
    await expect(page.locator("#notice")).to_contain_text("idle for too long")
    await expect(page.get_by_role("alert")).to_have_count(0)
    await listening(gateway, page)
    await expect(page.locator("#notice")).to_be_hidden()
    assert len(gateway.sessions) == 2


async def test_an_error_that_closes_nothing_is_told(gateway: Gateway, open_page: OpenPage) -> None:
    page = await open_page(gateway.link)
    session = await listening(gateway, page)
    await session.fail(ErrorCode.AUDIO_SEQUENCE_GAP, expected=3, received=5)
    await expect(page.locator("#notice")).to_contain_text("Audio chunks are missing")
    await expect(page.locator("#state")).to_have_text("Listening")


async def test_a_stream_that_the_server_ended_is_not_sent_on(gateway: Gateway, open_page: OpenPage) -> None:
    page = await open_page(gateway.link)
    session = await listening(gateway, page)
    session.open_stream = None
    await session.fail(ErrorCode.AUDIO_UNSUPPORTED)
    await expect(page.get_by_role("button", name="Talk")).to_be_visible()
    late = [fault for fault in gateway.faults if "audio without a stream" in fault]
    gateway.faults = [fault for fault in gateway.faults if fault not in late]  # what was under way
