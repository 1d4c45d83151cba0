"""What goes to the loudspeaker, stored block by block: measured in samples, and not by a clock."""

from __future__ import annotations

import base64

import numpy as np
from playwright.async_api import Page

from browser.sound import Samples

TAP_SCRIPT = """
const worklet = `registerProcessor("tap", class extends AudioWorkletProcessor {
  process([[samples]]) {
    if (samples) this.port.postMessage([currentFrame, samples.slice()]);
    return true;
  }
})`;
const url = URL.createObjectURL(new Blob([worklet], { type: "text/javascript" }));
const connect = AudioNode.prototype.connect;
window.tapped = [];
window.flushedAt = undefined;
AudioNode.prototype.connect = function (target, ...rest) {
  if (target instanceof AudioDestinationNode && this instanceof AnalyserNode) {
    window.tapContext = this.context;
    this.context.audioWorklet.addModule(url).then(() => {
      const tap = new AudioWorkletNode(this.context, "tap");
      tap.port.onmessage = ({ data }) => window.tapped.push(data);
      connect.call(this, tap);
      connect.call(tap, target);
    });
  }
  return connect.call(this, target, ...rest);
};
window.WebSocket = class extends WebSocket {
  set onmessage(listener) {
    super.onmessage = (event) => {
      if (typeof event.data !== "string" || !event.data.includes('"audio_flush"')) return listener(event);
      window.flushedAt ??= window.tapContext.currentTime;
      if (window.flushDelayMs) setTimeout(() => listener(event), window.flushDelayMs);
      else listener(event);
    };
  }
};
"""
"""Stores each block with the frame it begins at, and the context's time when the first `audio_flush` came.

The tap's worklet is made from a blob, so the page's policy must be off. With `window.flushDelayMs` the page
hears of the flush so much later.
"""

HEARD_S = """() => {
  const loud = window.tapped.filter(([, block]) => block.some((sample) => Math.abs(sample) > 0.01));
  return loud.length * 128 / window.tapContext.sampleRate;
}"""


async def until_heard(page: Page, seconds: float) -> None:
    """Wait until so much sound has gone to the loudspeaker."""
    await page.wait_for_function(f"(seconds) => ({HEARD_S})() >= seconds", arg=seconds)


async def until_silent(page: Page, seconds: float = 0.5) -> None:
    """Wait until the last so many seconds were silent."""
    await page.wait_for_function(
        """(seconds) => {
          const blocks = window.tapped.slice(-seconds * window.tapContext.sampleRate / 128);
          const silent = ([, block]) => block.every((sample) => Math.abs(sample) < 1e-3);
          return blocks.length && blocks.every(silent);
        }""",
        arg=seconds,
    )


async def tapped(page: Page) -> tuple[float, Samples, int]:
    """Return all that went to the loudspeaker: the time of the first sample, the samples, and their rate."""
    first, encoded, rate_hz = await page.evaluate(
        """() => {
          const first = window.tapped[0][0];
          const samples = new Float32Array(window.tapped.at(-1)[0] - first + 128);
          for (const [frame, block] of window.tapped) samples.set(block, frame - first);
          let text = "";
          for (const byte of new Uint8Array(samples.buffer)) text += String.fromCharCode(byte);
          return [first, btoa(text), window.tapContext.sampleRate];
        }"""
    )
    return first / rate_hz, np.frombuffer(base64.b64decode(encoded), dtype=np.float32), rate_hz
