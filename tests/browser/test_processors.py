"""The page's audio processors, sample by sample, in contexts that render faster than time and never stall."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
import pytest
from playwright.async_api import Page

from browser.conftest import OpenPage
from browser.scripted_gateway import Gateway, pieces
from browser.sound import FADE_S, LEVEL, Samples, impurity, runs, tone, without_ramps

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

Event = tuple[float, bytes | str]
"""When something is sent to the player, in seconds, and what: a piece, or "stop"."""

RENDER = """async ([events, pieceRateHz, rateHz, seconds]) => {
  const decode = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0)).buffer;
  const context = new OfflineAudioContext(1, seconds * rateHz, rateHz);
  await context.audioWorklet.addModule("/app.js");
  const player = new AudioWorkletNode(context, "player", { numberOfInputs: 0, outputChannelCount: [1] });
  const posted = [];
  player.port.onmessage = ({ data }) => posted.push(data);
  player.connect(context.destination);

  // A message is in the worklet once another node there has answered one that was sent later.
  const arrived = () => new Promise((resolve) => {
    const node = new AudioWorkletNode(context, "capture");
    node.port.onmessage = ({ data }) => data.ended && resolve();
    node.port.postMessage("end");
  });
  const blocks = Map.groupBy(events, ([time]) => Math.floor((time * rateHz) / 128));
  for (const [block, batch] of blocks) {
    context.suspend((block * 128) / rateHz).then(async () => {
      for (const [, what] of batch) {
        player.port.postMessage(what === "stop" ? what : { pcm: decode(what), rateHz: pieceRateHz });
      }
      await arrived();
      context.resume();
    });
  }
  const buffer = await context.startRendering();
  await arrived();
  let text = "";
  for (const byte of new Uint8Array(buffer.getChannelData(0).buffer)) text += String.fromCharCode(byte);
  return [btoa(text), posted];
}"""


async def render(
    page: Page,
    events: Sequence[Event],
    *,
    piece_rate_hz: int = 24_000,
    rate_hz: int = 48_000,
    seconds: float = 2,
) -> tuple[Samples, list[dict[str, float]]]:
    """Return what the player puts out when it is sent pieces at these times, and what it tells of it."""
    encoded = [
        (time, what if isinstance(what, str) else base64.b64encode(what).decode()) for time, what in events
    ]
    output, posted = await page.evaluate(RENDER, [encoded, piece_rate_hz, rate_hz, seconds])
    return np.frombuffer(base64.b64decode(output), dtype=np.float32), posted


# ---- the player


async def test_jittered_pieces_play_as_one(gateway: Gateway, open_page: OpenPage) -> None:
    """The gateway is 250 ms ahead; pieces may come 200 ms late."""
    page = await open_page(gateway.url)
    for seed in range(5):
        jitter = np.random.default_rng(seed).uniform(0, 0.2, 20)
        due = np.maximum.accumulate(np.maximum(0, np.arange(20) * 0.1 - 0.25) + jitter)
        events = list(zip((0.1 + due).tolist(), pieces(tone(2)), strict=True))
        output, posted = await render(page, events, seconds=3)

        (run,) = runs(output, 48_000)
        body = without_ramps(run, 48_000)
        assert 1.998 < len(run) / 48_000 <= 2  # the last 1.3 ms stay in the filter
        assert impurity(body, 48_000) < 2e-4
        assert np.max(np.abs(body)) == pytest.approx(LEVEL, rel=0.01)
        assert [state["playing"] for state in posted] == [True, False]
        assert posted[-1]["playedMs"] == pytest.approx(len(run) / 48, abs=0.2)


async def test_late_pieces_cost_silence_and_nothing_else(gateway: Gateway, open_page: OpenPage) -> None:
    """Pieces of any size at any time: no sample is lost, and no edge clicks."""
    page = await open_page(gateway.url)
    for seed in range(5):
        random = np.random.default_rng(seed)
        pcm, sent, now = tone(2), 0, 0.1
        events: list[Event] = []
        while sent < len(pcm):
            size = 2 * int(random.integers(1, 6000))
            events.append((now, pcm[sent : sent + size]))
            sent += size
            now += float(random.choice([0, 0.02, 0.1, 0.3]))
        output, posted = await render(page, events, seconds=now + 2.5)

        found = runs(output, 48_000)
        assert len(found) > 1
        played_ms = sum(state["playedMs"] for state in posted if not state["playing"])
        assert 1998 < played_ms <= 2000
        for run in found:
            assert impurity(run, 48_000) < 2 * LEVEL / (
                FADE_S * 48_000
            )  # ramps bend the sine, clicks break it


async def test_an_answer_shorter_than_the_prebuffer_is_heard(gateway: Gateway, open_page: OpenPage) -> None:
    page = await open_page(gateway.url)
    output, _ = await render(page, [(0.1, tone(0.03))])
    (run,) = runs(output, 48_000)
    assert len(run) / 48_000 == pytest.approx(0.03, abs=0.003)


async def test_stop_is_silence_in_five_milliseconds(gateway: Gateway, open_page: OpenPage) -> None:
    """What was queued is forgotten; what comes after it is heard."""
    page = await open_page(gateway.url)
    output, posted = await render(page, [(0.1, tone(1)), (0.6, "stop"), (1.0, tone(0.3))])
    first, second = runs(output, 48_000)
    fade = round(FADE_S * 48_000)
    assert len(first) / 48_000 == pytest.approx(0.505, abs=0.003)
    assert np.all(np.abs(first[-fade:]) <= LEVEL * (np.arange(fade, 0, -1) / fade) + 0.01)
    assert impurity(first[fade:-fade], 48_000) < 2e-4
    assert len(second) / 48_000 == pytest.approx(0.3, abs=0.003)
    assert posted[1]["playedMs"] == pytest.approx(len(first) / 48, abs=0.2)


async def test_stop_before_anything_was_heard(gateway: Gateway, open_page: OpenPage) -> None:
    page = await open_page(gateway.url)
    output, posted = await render(
        page, [(0.1, tone(0.03)), (0.12, "stop"), (1.0, tone(0.3)), (1.1, tone(0.1))]
    )
    (run,) = runs(output, 48_000)
    assert len(run) / 48_000 == pytest.approx(0.4, abs=0.003)
    assert [state["playing"] for state in posted] == [True, False]


@pytest.mark.parametrize(
    ("piece_rate_hz", "rate_hz"), [(24_000, 44_100), (16_000, 48_000), (22_050, 48_000), (48_000, 48_000)]
)
async def test_other_rates_sound_alike(
    gateway: Gateway, open_page: OpenPage, piece_rate_hz: int, rate_hz: int
) -> None:
    page = await open_page(gateway.url)
    events = [(0.1, piece) for piece in pieces(tone(1, piece_rate_hz), piece_rate_hz)]
    output, _ = await render(page, events, piece_rate_hz=piece_rate_hz, rate_hz=rate_hz)
    (run,) = runs(output, rate_hz)
    assert len(run) / rate_hz == pytest.approx(1, abs=0.003)
    assert impurity(without_ramps(run, rate_hz), rate_hz) < 2e-4


# ---- the microphone's processor


@pytest.mark.parametrize("rate_hz", [44_100, 48_000, 96_000])
async def test_no_sample_is_lost_between_first_and_last(
    gateway: Gateway, open_page: OpenPage, rate_hz: int
) -> None:
    """The page's processor, in a context that renders a second of sound as fast as it can."""
    page = await open_page(gateway.link)
    chunks = await page.evaluate(
        """async (rateHz) => {
          const context = new OfflineAudioContext(1, rateHz, rateHz);
          await context.audioWorklet.addModule("/app.js");
          const source = new ConstantSourceNode(context, { offset: 0.5 });
          const node = new AudioWorkletNode(context, "capture");
          const chunks = [];
          const ended = new Promise((resolve) => {
            node.port.onmessage = ({ data: { pcm, ended } }) => {
              if (ended) resolve();
              else chunks.push([...new Int16Array(pcm)]);
            };
          });
          source.connect(node).connect(context.destination);
          source.start();
          await context.startRendering();
          node.port.postMessage("end");
          await ended;
          return chunks;
        }""",
        rate_hz,
    )
    blocks = -(-rate_hz // 128) * 128  # a context renders whole blocks
    assert {len(chunk) for chunk in chunks[:-1]} == {1600}
    assert sum(map(len, chunks)) == -(-blocks * 16_000 // rate_hz)
    level = np.concatenate(chunks)[40:-40]
    assert np.all(np.abs(level - 0.5 * 32767) < 2)


# ---- resampling


async def test_resampling_is_band_limited(gateway: Gateway, open_page: OpenPage) -> None:
    """Within 0.1% of ideal at 0.8 of the lower Nyquist frequency, 70 dB down just beyond it."""
    page = await open_page(gateway.link)
    for from_hz, to_hz in (
        (48_000, 16_000),
        (44_100, 16_000),
        (96_000, 16_000),
        (8_000, 16_000),
        (24_000, 48_000),
        (24_000, 44_100),
    ):
        nyquist_hz = min(from_hz, to_hz) / 2
        middle = slice(to_hz // 40, -to_hz // 40)
        resampled = await resample(page, sine(0.8 * nyquist_hz, from_hz), from_hz, to_hz)
        assert len(resampled) == to_hz // 4
        assert np.max(np.abs(resampled - sine(0.8 * nyquist_hz, to_hz))[middle]) < 1e-3
        if from_hz > to_hz:
            aliased = await resample(page, sine(1.05 * nyquist_hz, from_hz), from_hz, to_hz)
            assert np.max(np.abs(aliased[middle])) < 10 ** (-70 / 20)


def sine(frequency_hz: float, rate_hz: int) -> Samples:
    """Return a quarter of a second of it."""
    return np.sin(2 * np.pi * frequency_hz * np.arange(rate_hz // 4) / rate_hz).astype(np.float32)


async def resample(page: Page, samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """Run the page's own resampler, in blocks of all sizes."""
    result = await page.evaluate(
        """async ([samples, fromHz, toHz]) => {
          const { Resampler } = await import("/app.js");
          const resampler = new Resampler(fromHz, toHz);
          const input = Float32Array.from(samples);
          const output = [];
          for (let at = 0, size = 1; at < input.length; at += size, size = (size * 7) % 509 + 1) {
            output.push(...resampler.push(input.subarray(at, at + size)));
          }
          output.push(...resampler.flush());
          return output;
        }""",
        [samples.tolist(), from_hz, to_hz],
    )
    return np.array(result, dtype=np.float32)
