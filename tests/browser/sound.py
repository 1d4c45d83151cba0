"""What the page is given to hear and to play, and what can be measured of it."""

from __future__ import annotations

import base64
from typing import Final

import numpy as np
import numpy.typing as npt
from playwright.async_api import Page

Samples = npt.NDArray[np.float32]

TONE_HZ: Final = 440
LEVEL: Final = 0.4
FADE_S: Final = 0.005


def tone(seconds: float, rate_hz: int = 24_000) -> bytes:
    """Return a sine as PCM16."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    return (LEVEL * 32767 * np.sin(2 * np.pi * TONE_HZ * time)).astype("<i2").tobytes()


def runs(samples: Samples, rate_hz: int) -> list[Samples]:
    """Return the stretches of sound between silences of more than 2 ms."""
    loud = np.flatnonzero(np.abs(samples) > 1e-5)
    if not loud.size:
        return []
    borders = np.flatnonzero(np.diff(loud) > 0.002 * rate_hz)
    starts = [loud[0], *loud[borders + 1]]
    ends = [*loud[borders], loud[-1]]
    return [samples[start : end + 1] for start, end in zip(starts, ends, strict=True)]


def impurity(samples: Samples, rate_hz: int) -> float:
    """Return the most by which a sample is off from what the sine through its neighbours demands."""
    turn = 2 * np.cos(2 * np.pi * TONE_HZ / rate_hz)
    return float(np.max(np.abs(samples[2:] - turn * samples[1:-1] + samples[:-2])))


def without_ramps(samples: Samples, rate_hz: int) -> Samples:
    ramp = round(FADE_S * rate_hz) + 1
    return samples[ramp:-ramp]


async def played(page: Page, times: int = 1) -> None:
    """Wait until that many stretches of an answer have been heard since the page was opened."""
    await page.wait_for_function(
        """times => {
          const heard = window.states.filter((state) => state === "answering").length;
          return heard >= times && window.states.at(-1) !== "answering";
        }""",
        arg=times,
    )


async def tapped(page: Page) -> tuple[Samples, int]:
    """Return all that went to the loudspeaker, each block at its time, and the rate."""
    rate_hz, encoded = await page.evaluate(
        """async () => {
          const rateHz = await window.tapping;
          const first = window.tapped[0][0];
          const samples = new Float32Array(window.tapped.at(-1)[0] - first + 128);
          for (const [frame, block] of window.tapped) samples.set(block, frame - first);
          let text = "";
          for (const byte of new Uint8Array(samples.buffer)) text += String.fromCharCode(byte);
          return [rateHz, btoa(text)];
        }"""
    )
    return np.frombuffer(base64.b64decode(encoded), dtype=np.float32), rate_hz
