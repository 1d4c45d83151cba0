"""A call of the TypeScript client in a real Chromium, with a real gateway before a model of the test's."""

from __future__ import annotations

import asyncio
import base64
import json
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from playwright.async_api import CDPSession, Page

from browser.conftest import GRANTED, speech
from browser.sound import impurity, runs, tone, without_ramps
from clients.audio_page import OpenPage, floats, launch, open_page, site
from fake_gemini import Conversation
from freezing_relay import FreezingRelay, freezing_relay
from gateway.running import Gateway, running_gateway

__all__ = ["launch", "open_page", "site", "speech"]

pytestmark = [pytest.mark.browser, pytest.mark.node]

SILENCE: Final = 10 ** (-60 / 20)
SILENT_MS: Final = 20
QUIETED: Final = ("--autoplay-policy=document-user-activation-required",)
NOT_CLICKED: Final = ("AudioContext was not allowed to start",)

CALL = """async ([url, token, options]) => {
  const { Call, Conversation } = await import("/index.js");
  const { tap } = await import("/helpers.js");
  const { flushDelayMs = 0, encoder, ...rest } = options;
  const workerUrl = "/flac_worker.js";
  if (encoder === "flac") rest.encoder = (await import("/encoders/flac.js")).flac({ workerUrl });
  if (encoder === "opus") rest.encoder = (await import("/encoders/opus.js")).opus();
  window.events = [];
  // Tells when a flush came in, and lets the client have it later where that is asked for.
  const socket = (address, protocols) => {
    const inner = new WebSocket(address, protocols);
    return new Proxy(inner, {
      get: (_, name) => (typeof inner[name] === "function" ? inner[name].bind(inner) : inner[name]),
      set: (_, name, value) => {
        if (name !== "onmessage" || !value) return Reflect.set(inner, name, value);
        inner.onmessage = (event) => {
          if (typeof event.data !== "string" || !event.data.includes('"audio_flush"')) return value(event);
          window.flushedAt = window.call.sound.context.currentTime;
          if (flushDelayMs) setTimeout(() => value(event), flushDelayMs);
          else value(event);
        };
        return true;
      },
    });
  };
  window.call = new Call({ url, token, socket, workletUrl: "/worklet.js", language: "en-US", ...rest });
  const types = ["state", "connected", "transcript", "response", "interrupted", "playback", "microphone",
    "turn", "error", "audioDropped", "closed", "playbackBlocked"];
  for (const type of types) {
    window.call.on(type, (event) => window.events.push(event));
  }
  const connecting = window.call.connect();
  window.tapped = await tap(window.call.sound);
  await connecting;
}"""

TAPPED = """async () => {
  await new Promise((resolve) => setTimeout(resolve, 50)); // beyond its end
  const { toBase64 } = await import("/helpers.js");
  const [first, samples] = await window.tapped();
  const { sampleRate } = window.call.sound.context;
  return [first / sampleRate, toBase64(samples), sampleRate, window.flushedAt ?? null];
}"""


async def until(page: Page, kind: str, timeout_s: float = 20, **fields: Any) -> dict[str, Any]:
    """Return the first event of a kind with those fields."""
    handle = await page.wait_for_function(
        """([type, fields]) => window.events.find((event) => event.type === type
          && Object.entries(fields).every(([name, value]) => event[name] === value))""",
        arg=[kind, fields],
        timeout=timeout_s * 1000,
    )
    event: dict[str, Any] = await handle.json_value()
    return event


@asynccontextmanager
async def calling(
    gateway: Gateway,
    open_page: OpenPage,
    *,
    relay: FreezingRelay | None = None,
    page: dict[str, Any],
    **options: Any,
) -> AsyncIterator[Page]:
    """A page that is in a call; its policy is off, as the gateway is of another origin here."""
    opened = await open_page(bypass_csp=True, **page)
    await opened.click("button")
    port = relay.port if relay else gateway.port
    await opened.evaluate(CALL, [f"ws://127.0.0.1:{port}/ws", gateway.token(ttl_s=300), options])
    yield opened
    await opened.evaluate("window.call.disconnect()")


def origins(site: str) -> frozenset[str]:
    return frozenset({site.rstrip("/")})


def singing(seconds: float, cut_after_s: float | None = None) -> Any:
    """Return a model that answers with a tone, and is interrupted by the user where that is said."""

    async def script(conversation: Conversation) -> None:
        await conversation.begin()
        while True:
            message = await conversation.receive()
            if not (message.realtime_input.text or message.realtime_input.audio_stream_end):
                continue
            await conversation.say("La la la.", tone(seconds))
            if cut_after_s is not None:
                await asyncio.sleep(cut_after_s)
                await conversation.send(server_content={"interrupted": True})
            await conversation.end_turn()

    return script


async def test_an_answer_is_played_whole_and_without_a_gap(site: str, open_page: OpenPage) -> None:
    async with (
        running_gateway(singing(1.5), origins=origins(site)) as gateway,
        calling(gateway, open_page, page={}) as page,
    ):
        await page.evaluate("window.call.sendText('sing')")
        await until(page, "response", status="completed")
        ended = await until(page, "playback", playing=False)
        _, encoded, rate_hz, _ = await page.evaluate(TAPPED)
        (run,) = runs(floats(encoded), rate_hz)
        assert len(run) / rate_hz == pytest.approx(1.5, abs=0.003)
        assert impurity(without_ramps(run, rate_hz), rate_hz) < 2e-4
        assert ended["playedMs"] == pytest.approx(1500, abs=2)
        metrics = (await until(page, "turn"))["metrics"]
        assert metrics["hops"][-1]["name"] == "playback"
        assert metrics["hops"][-1]["ms"] > 0


async def silence_after(page: Page) -> tuple[float, float]:
    """Return for how long after the flush came there was sound, in ms, and how much was heard in all."""
    cut = await until(page, "interrupted")
    await until(page, "response", status="interrupted")
    first_s, encoded, rate_hz, flushed_s = await page.evaluate(TAPPED)
    samples = floats(encoded)
    loud = np.flatnonzero(np.abs(samples) > SILENCE)
    assert loud.size, "nothing was heard"
    heard_ms = 1000 * (loud[-1] - loud[0]) / rate_hz
    assert cut["playedMs"] == pytest.approx(heard_ms, abs=10), "what was played is counted in samples"
    return 1000 * (first_s + loud[-1] / rate_hz - flushed_s), heard_ms


async def test_an_interruption_is_silence_at_once(site: str, open_page: OpenPage) -> None:
    """Within 20 ms of the flush, though seconds were queued."""
    async with (
        running_gateway(singing(10, cut_after_s=1.2), origins=origins(site)) as gateway,
        calling(gateway, open_page, page={}, playbackBufferMs=5000) as page,
    ):
        await page.evaluate("window.call.sendText('sing')")
        late_ms, heard_ms = await silence_after(page)
        assert late_ms <= SILENT_MS
        assert 500 < heard_ms < 2000
        cut = await until(page, "interrupted")
        assert cut["droppedMs"] > 1000


async def test_a_flush_that_comes_late_is_seen(site: str, open_page: OpenPage) -> None:
    """The control: the same, 200 ms later, would fail."""
    async with (
        running_gateway(singing(10, cut_after_s=1.2), origins=origins(site)) as gateway,
        calling(gateway, open_page, page={}, playbackBufferMs=5000, flushDelayMs=200) as page,
    ):
        await page.evaluate("window.call.sendText('sing')")
        late_ms, _ = await silence_after(page)
        assert late_ms > 150


async def test_the_user_interrupts_by_a_click(site: str, open_page: OpenPage) -> None:
    async with (
        running_gateway(singing(10), origins=origins(site)) as gateway,
        calling(gateway, open_page, page={}, playbackBufferMs=5000) as page,
    ):
        await page.evaluate("window.call.sendText('sing')")
        await until(page, "playback", playing=True)
        await asyncio.sleep(0.7)
        heard = await page.evaluate(
            "(window.flushedAt = window.call.sound.context.currentTime, window.call.interrupt())"
        )
        cut = await until(page, "interrupted")
        assert (cut["playedMs"], cut["droppedMs"]) == (heard["playedMs"], heard["droppedMs"])
        first_s, encoded, rate_hz, flushed_s = await page.evaluate(TAPPED)
        loud = np.flatnonzero(np.abs(floats(encoded)) > SILENCE)
        assert 1000 * (first_s + loud[-1] / rate_hz - flushed_s) <= SILENT_MS


async def test_speech_goes_up_and_survives_a_cut(site: str, open_page: OpenPage, speech: Any) -> None:
    """What a microphone hears, through a network that breaks twice in mid-sentence, is all heard."""
    async with freezing_relay() as relay, running_gateway(singing(0.3), origins=origins(site)) as gateway:
        relay.target = f"127.0.0.1:{gateway.port}"
        async with calling(
            gateway,
            open_page,
            relay=relay,
            page={"microphone": speech, "expected_complaints": ("WebSocket",)},
            microphone={"echoCancellation": False},
        ) as page:
            await until(page, "microphone", state="on")
            for _ in range(2):
                await asyncio.sleep(0.7)
                relay.reset()
            await asyncio.sleep(1)
            await page.evaluate("window.call.closeMicrophone()")
            await until(page, "response", status="completed")
            heard = gateway.upstream.conversations[0].heard
            recovered = [event for event in await page.evaluate("window.events") if event.get("recovered")]
            assert len(recovered) == 2
            assert not any(event["lossy"] for event in recovered)
            assert len(gateway.upstream.conversations) == 1
            samples = np.frombuffer(bytes(heard), dtype="<i2")
            assert 1.9 < len(samples) / 16_000 < 4
            assert np.max(np.abs(samples)) > 1000


async def test_a_denied_microphone_is_named(site: str, open_page: OpenPage) -> None:
    flags = (GRANTED[0], "--deny-permission-prompts")
    async with running_gateway(origins=origins(site)) as gateway:
        page = await open_page(bypass_csp=True, flags=flags)
        await page.click("button")
        kind = await page.evaluate(
            f"""async (arguments_) => {{
              try {{
                await ({CALL})(arguments_);
              }} catch (error) {{
                return [error.name, error.kind, error.message, window.call.state];
              }}
            }}""",
            [gateway.url, gateway.token(), {"microphone": True}],
        )
        assert kind[:2] == ["MicrophoneError", "permission-denied"]
        assert "allow it" in kind[2]
        assert kind[3] == "closed"
        # It goes on without one.
        async with calling(gateway, open_page, page={"flags": flags}) as quiet:
            await quiet.evaluate("window.call.sendText('hello')")
            await until(quiet, "response", status="completed")


async def test_push_to_talk_takes_what_is_said_while_it_is_pressed(site: str, open_page: OpenPage) -> None:
    async def listens(conversation: Conversation) -> None:
        await conversation.begin()
        while True:
            message = await conversation.receive()
            if message.realtime_input.HasField("activity_end"):
                await conversation.hear("hello")
                await conversation.say("Yes.", tone(0.2))
                await conversation.end_turn()

    async with (
        running_gateway(listens, origins=origins(site)) as gateway,
        calling(gateway, open_page, page={}, microphone=True, pushToTalk=True) as page,
    ):
        await until(page, "microphone", state="on")
        await asyncio.sleep(0.3)
        await page.evaluate("window.call.startTalking()")
        await asyncio.sleep(1)
        await page.evaluate("window.call.stopTalking()")
        await until(page, "response", status="completed")
        metrics = (await until(page, "turn"))["metrics"]
        assert metrics["origin"] == "pushToTalk"
        heard_s = len(gateway.upstream.conversations[0].heard) / 32_000
        assert 0.9 < heard_s < 1.5


async def test_a_file_is_sent_as_if_it_were_spoken(site: str, open_page: OpenPage, speech: Any) -> None:
    async with (
        running_gateway(singing(0.2), origins=origins(site)) as gateway,
        calling(gateway, open_page, page={}) as page,
    ):
        loudest = await page.evaluate(
            """async (data) => {
              const { bytesOf } = await import("/helpers.js");
              let loudest = 0;
              await window.call.sendFile(new Blob([bytesOf(data)]), {
                onProgress: () => (loudest = Math.max(loudest, window.call.levels().input)),
              });
              return loudest;
            }""",
            base64.b64encode(speech.read_bytes()).decode(),
        )
        assert loudest > 0.05, "it can be seen as what is spoken can"
        await until(page, "response", status="completed")
        samples = np.frombuffer(bytes(gateway.upstream.conversations[0].heard), dtype="<i2")
        assert len(samples) == (speech.stat().st_size - 44) // 2
        wrong = await page.evaluate("window.call.sendFile(new Blob(['?'])).catch((error) => error.code)")
        assert wrong == "AUDIO_UNSUPPORTED"


@pytest.mark.parametrize("encoder", ["flac", "opus"])
async def test_encoded_speech_survives_a_cut(
    site: str, open_page: OpenPage, speech: Path, encoder: str
) -> None:
    """FLAC to the sample, Opus to its length, though the connection breaks in the middle of it."""
    with wave.open(str(speech)) as file:
        pcm = file.readframes(file.getnframes())
    async with freezing_relay() as relay, running_gateway(singing(0.3), origins=origins(site)) as gateway:
        relay.target = f"127.0.0.1:{gateway.port}"
        async with calling(
            gateway, open_page, relay=relay, page={"expected_complaints": ("WebSocket",)}, encoder=encoder
        ) as page:
            for half in (pcm[: len(pcm) // 4 * 2], pcm[len(pcm) // 4 * 2 :]):
                await page.evaluate(
                    """async (data) => {
                      const { pcmOf } = await import("/helpers.js");
                      const samples = pcmOf(data);
                      for (let at = 0; at < samples.length; at += 640) {
                        window.call.sendAudio(samples.subarray(at, at + 640));
                      }
                    }""",
                    base64.b64encode(half).decode(),
                )
                relay.reset()
                await page.wait_for_function("window.events.some(({ recovered }) => recovered)")
            await page.evaluate("window.call.endAudio()")
            await until(page, "response", status="completed")
            heard = bytes(gateway.upstream.conversations[0].heard)
            if encoder == "flac":
                assert heard == pcm
            else:
                assert abs(len(heard) - len(pcm)) <= 2 * 320  # a packet's worth at most
            errors = [event for event in await page.evaluate("window.events") if event["type"] == "error"]
            assert errors == []


async def test_a_page_that_was_not_clicked_says_that_it_cannot_be_heard(
    site: str, open_page: OpenPage
) -> None:
    """What comes meanwhile is kept, and heard once it was."""
    async with running_gateway(singing(0.5), origins=origins(site)) as gateway:
        page = await open_page(bypass_csp=True, flags=QUIETED, expected_complaints=NOT_CLICKED)
        session = await page.context.new_cdp_session(page)
        call = json.dumps([gateway.url, gateway.token(ttl_s=300), {}])
        # Playwright's own way to run a script counts as a click.
        await session.send("Runtime.evaluate", {"expression": f"void ({CALL})({call})", "userGesture": False})
        quiet = "window.events?.find((event) => event.type === 'playbackBlocked')?.blocked"
        say = "window.call.state === 'connected' && (window.call.sendText('sing'), true)"
        for expression in (f"{quiet} === true", say, "window.events.some((e) => e.status === 'completed')"):
            await evaluates(session, expression)
        await evaluates(session, "window.events.every((event) => event.type !== 'playback')")
        await session.send(
            "Runtime.evaluate",
            {
                "expression": "document.querySelector('button').onclick = () => window.call.startAudio(); 0",
                "userGesture": False,
            },
        )
        await page.click("button")
        await until(page, "playbackBlocked", blocked=False)
        await until(page, "playback", playing=True)
        await until(page, "playback", playing=False)
        await page.evaluate("window.call.disconnect()")


SECOND_SESSION = """async () => {
  window.events.length = 0;
  await window.call.disconnect();
  await window.call.connect();
  window.call.sendText("sing");
}"""


async def test_the_answers_of_a_second_session_are_heard_too(site: str, open_page: OpenPage) -> None:
    """Though the gateway counts them anew, and whatever became of the first of that name."""
    async with (
        running_gateway(singing(0.6), origins=origins(site)) as gateway,
        calling(gateway, open_page, page={}) as page,
    ):
        await page.evaluate("window.call.sendText('sing')")
        await until(page, "playback", playing=False)
        for cut in (False, True):
            await page.evaluate(SECOND_SESSION)
            began = await until(page, "playback", playing=True)
            assert (began["responseId"], began["playedMs"]) == ("r1", 0)
            if cut:
                await page.evaluate("window.call.interrupt()")
            ended = await until(page, "playback", playing=False)
            if not cut:
                assert ended["playedMs"] == pytest.approx(600, abs=2)
        await page.evaluate(SECOND_SESSION)
        await until(page, "playback", playing=True)


async def test_another_gateway_counts_its_answers_anew(site: str, open_page: OpenPage) -> None:
    """What is heard of the one before is heard to its end; the figures of the next are its own."""
    async with (
        freezing_relay() as relay,
        running_gateway(singing(3), origins=origins(site)) as first,
        running_gateway(singing(0.5), origins=origins(site)) as second,
    ):
        relay.target = f"127.0.0.1:{first.port}"
        expected = ("WebSocket",)
        async with calling(
            first, open_page, relay=relay, page={"expected_complaints": expected}, playbackBufferMs=5000
        ) as page:
            await page.evaluate("window.call.sendText('sing')")
            await until(page, "playback", playing=True)
            relay.target = f"127.0.0.1:{second.port}"
            relay.reset()
            await until(page, "connected", lossy=True)
            await page.evaluate("(window.events.length = 0, window.call.sendText('sing'))")
            began = await until(page, "playback", playing=True, responseId="r1")
            assert began["playedMs"] == 0
            ended = await until(page, "playback", playing=False, responseId="r1")
            assert ended["playedMs"] == pytest.approx(500, abs=2)
            assert [event for event in await page.evaluate("window.events") if event["type"] == "error"] == []


async def test_it_thinks_until_it_is_heard(site: str, open_page: OpenPage) -> None:
    async with (
        running_gateway(singing(0.3), origins=origins(site)) as gateway,
        calling(gateway, open_page, page={}) as page,
    ):
        await page.evaluate(
            """() => {
              window.agent = [];
              window.call.on("agentState", ({ state }) => window.agent.push(state));
              window.call.sendText("sing");
            }"""
        )
        await until(page, "playback", playing=False)
        assert await page.evaluate("window.agent") == ["thinking", "speaking", "idle"]


async def test_a_microphone_is_closed_with_a_call_that_was_never_made(site: str, open_page: OpenPage) -> None:
    page = await open_page(bypass_csp=True)
    await page.click("button")
    states = await page.evaluate(
        """async () => {
          const { Call } = await import("/index.js");
          const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
          let media;
          navigator.mediaDevices.getUserMedia = async (wanted) => (media = await ask(wanted));
          const call = new Call({ url: "ws://127.0.0.1:1/ws", token: "t", workletUrl: "/worklet.js" });
          call.setMuted(true);
          await call.openMicrophone();
          const states = [call.microphone.state];
          await call.disconnect();
          return [...states, call.microphone.state, media.getTracks()[0].readyState];
        }"""
    )
    assert states == ["muted", "off", "ended"]


async def test_one_microphone_is_open_whatever_comes_between(site: str, open_page: OpenPage) -> None:
    """A call that is ended and begun again while the browser still asks, and one opened twice."""
    async with running_gateway(origins=origins(site)) as gateway:
        page = await open_page(bypass_csp=True)
        await page.click("button")
        live = await page.evaluate(
            """async ([url, token]) => {
              const { Call } = await import("/index.js");
              const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
              const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
              const tracks = [];
              navigator.mediaDevices.getUserMedia = async (wanted) => {
                const media = await ask(wanted);
                tracks.push(...media.getTracks());
                await wait(200 / tracks.length); // the first comes last
                return media;
              };
              const live = () => tracks.filter(({ readyState }) => readyState === "live").length;
              const call = new Call({ url, token, workletUrl: "/worklet.js", microphone: true });
              const first = call.connect().catch((error) => error.code);
              void call.disconnect();
              await call.connect();
              await first;
              await wait(300);
              const counts = [live(), call.microphone.state];
              await Promise.all([call.openMicrophone(), call.openMicrophone()]);
              await wait(300);
              counts.push(live(), call.microphone.state);
              await call.disconnect();
              await wait(300);
              return [...counts, live(), call.microphone.state];
            }""",
            [gateway.url, gateway.token(ttl_s=300)],
        )
        assert live == [1, "on", 1, "on", 0, "off"]


async def test_a_microphone_that_cannot_be_had_leaves_the_one_that_is(site: str, open_page: OpenPage) -> None:
    async with (
        running_gateway(origins=origins(site)) as gateway,
        calling(gateway, open_page, page={}, microphone=True) as page,
    ):
        kind = await page.evaluate("window.call.setMicrophoneDevice('nope').catch((error) => error.kind)")
        assert kind == "constraints"
        assert await page.evaluate("window.call.microphone.state") == "on"
        await page.evaluate("window.call.openMicrophone()")
        assert await page.evaluate("window.call.microphone.state") == "on"


async def test_files_are_sent_one_after_the_other(site: str, open_page: OpenPage, speech: Path) -> None:
    with wave.open(str(speech)) as file:
        pcm = file.readframes(8000)
    short = speech.with_name("short.wav")
    with wave.open(str(short), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(pcm)
    async with (
        running_gateway(singing(0.1), origins=origins(site)) as gateway,
        calling(gateway, open_page, page={}) as page,
    ):
        await page.evaluate(
            """async (data) => {
              const { bytesOf } = await import("/helpers.js");
              const file = new Blob([bytesOf(data)]);
              const wrong = window.call.sendFile(new Blob(["?"])).catch((error) => error.code);
              await Promise.all([window.call.sendFile(file), wrong, window.call.sendFile(file)]);
            }""",
            base64.b64encode(short.read_bytes()).decode(),
        )
        (model,) = gateway.upstream.conversations
        async with asyncio.timeout(10):
            while len(model.heard) < 2 * len(pcm):
                await asyncio.sleep(0.05)
        assert bytes(model.heard) == 2 * pcm
        assert model.ended == 2


async def evaluates(session: CDPSession, expression: str) -> None:
    """Wait until an expression is true, without the browser taking that for a click."""
    async with asyncio.timeout(20):
        while True:
            wanted = {"expression": f"Boolean({expression})", "userGesture": False, "returnByValue": True}
            if (await session.send("Runtime.evaluate", wanted))["result"].get("value") is True:
                return
            await asyncio.sleep(0.05)
