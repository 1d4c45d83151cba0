"""What the client records, to the sample: the capture processor, and the resampler."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from playwright.async_api import Page

from clients.audio_page import OpenPage, Samples, launch, open_page, shorts, site

__all__ = ["launch", "open_page", "site"]

pytestmark = [pytest.mark.browser, pytest.mark.node, pytest.mark.asyncio(loop_scope="session")]

CAPTURE = """async ([rateHz, options, seconds]) => {
  const { toBase64 } = await import("/helpers.js");
  const context = new OfflineAudioContext(1, seconds * rateHz, rateHz);
  await context.audioWorklet.addModule("/worklet.js");
  const source = new ConstantSourceNode(context, { offset: 0.5 });
  const node = new AudioWorkletNode(context, "capture", { processorOptions: options });
  const chunks = [];
  const ended = new Promise((resolve) => {
    node.port.onmessage = ({ data }) => {
      if (data.type === "ended") resolve();
      else chunks.push([toBase64(data.samples), data.frame]);
    };
  });
  source.connect(node).connect(context.destination);
  source.start();
  const heard = await context.startRendering();
  node.port.postMessage("end");
  await ended;
  return [chunks, heard.getChannelData(0).every((sample) => sample === 0)];
}"""


async def capture(
    page: Page, rate_hz: int, *, seconds: float = 1, **options: Any
) -> tuple[list[Samples], list[float]]:
    """Return the chunks of a constant, and where each begins, in frames of the context."""
    chunks, mute = await page.evaluate(CAPTURE, [rate_hz, options, seconds])
    assert mute
    return [shorts(samples).astype(np.float32) for samples, _ in chunks], [frame for _, frame in chunks]


@pytest.mark.parametrize("rate_hz", [44_100, 48_000, 96_000])
async def test_no_sample_is_lost_between_first_and_last(open_page: OpenPage, rate_hz: int) -> None:
    """In a context that renders a second of sound as fast as it can."""
    page = await open_page()
    chunks, frames = await capture(page, rate_hz)
    blocks = -(-rate_hz // 128) * 128  # a context renders whole blocks
    assert {len(chunk) for chunk in chunks[:-1]} == {640}
    assert sum(map(len, chunks)) == -(-blocks * 16_000 // rate_hz)
    level = np.concatenate(chunks)[40:-40]
    assert np.all(np.abs(level - 0.5 * 32767) < 2)
    assert frames == pytest.approx([n * 640 * rate_hz / 16_000 for n in range(len(chunks))])


async def test_chunks_may_have_another_size(open_page: OpenPage) -> None:
    page = await open_page()
    chunks, _ = await capture(page, 48_000, chunkSamples=1600)
    assert {len(chunk) for chunk in chunks[:-1]} == {1600}


async def test_a_source_that_pauses_tells_when_it_goes_on(open_page: OpenPage) -> None:
    """What is heard after a pause has the time at which it was heard."""
    page = await open_page()
    frames = await page.evaluate(
        """async () => {
          const context = new OfflineAudioContext(1, 48000, 48000);
          await context.audioWorklet.addModule("/worklet.js");
          const node = new AudioWorkletNode(context, "capture");
          const frames = [];
          node.port.onmessage = ({ data }) => data.type === "chunk" && frames.push(data.frame);
          node.connect(context.destination);
          const source = new ConstantSourceNode(context, { offset: 0.5 });
          source.connect(node);
          source.start();
          const at = (block, change) =>
            context.suspend((block * 128) / 48000).then(() => (change(), context.resume()));
          at(50, () => source.disconnect());
          at(250, () => source.connect(node));
          await context.startRendering();
          await new Promise((resolve) => setTimeout(resolve, 50));
          return frames;
        }"""
    )
    chunk = 640 * 3
    before = [frame for frame in frames if frame < 50 * 128]
    after = frames[len(before) :]
    assert before == [n * chunk for n in range(len(before))]
    # The chunk that was begun before the pause ends after it.
    assert after == pytest.approx([200 * 128 + (len(before) + n) * chunk for n in range(len(after))], abs=1)
    assert len(after) > 5


# ---- resampling


async def test_resampling_is_band_limited(open_page: OpenPage) -> None:
    """Within 0.1% of ideal at 0.8 of the lower Nyquist frequency, 70 dB down just beyond it."""
    page = await open_page()
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


async def test_a_resampler_begins_anew_once_it_was_flushed(open_page: OpenPage) -> None:
    """It knows how much it still holds, and the second stream is as the first."""
    page = await open_page()
    streams = await page.evaluate(
        """async () => {
          const { Resampler } = await import("/audio/worklet/resampler.js");
          const resampler = new Resampler(24000, 44100);
          return [1, 2].map(() => {
            const input = Float32Array.from({ length: 1001 }, (_, index) => Math.sin(index / 5));
            const first = [...resampler.push(input)];
            const { pending } = resampler;
            const rest = [...resampler.flush()];
            return [pending, rest.length, [...first, ...rest]];
          });
        }"""
    )
    (pending, rest, first), (_, _, second) = streams
    assert pending == rest
    assert len(first) == -(-1001 * 44_100 // 24_000)
    assert first == second


def sine(frequency_hz: float, rate_hz: int) -> Samples:
    """Return a quarter of a second of it."""
    return np.sin(2 * np.pi * frequency_hz * np.arange(rate_hz // 4) / rate_hz).astype(np.float32)


async def resample(page: Page, samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """Run the client's own resampler, in blocks of all sizes."""
    result = await page.evaluate(
        """async ([samples, fromHz, toHz]) => {
          const { Resampler } = await import("/audio/worklet/resampler.js");
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
