"""The client's player, sample by sample, in contexts that render faster than time and never stall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from playwright.async_api import Page

from browser.sound import FADE_S, LEVEL, impurity, pieces, runs, tone, without_ramps
from clients.audio_page import OpenPage, Samples, encoded, floats, launch, open_page, site

__all__ = ["launch", "open_page", "site"]

pytestmark = [pytest.mark.browser, pytest.mark.node, pytest.mark.asyncio(loop_scope="session")]

Event = tuple[float, bytes | str] | tuple[float, bytes, int]
"""When the player is told something, in seconds, and what: a piece of a response (1), or "flush"."""

Report = dict[str, Any]

BLOCK = 128
FLUSH_MS = 1000 * FADE_S
SILENCE = 10 ** (-60 / 20)

RENDER = """async ([events, pieceRateHz, rateHz, seconds]) => {
  const { pcmOf, toBase64 } = await import("/helpers.js");
  const context = new OfflineAudioContext(1, seconds * rateHz, rateHz);
  await context.audioWorklet.addModule("/worklet.js");
  const player = new AudioWorkletNode(context, "player", { numberOfInputs: 0, outputChannelCount: [1] });
  const posted = [];
  player.port.onmessage = ({ data }) => posted.push(data);
  player.connect(context.destination);

  // A message is in the worklet once another node there has answered one that was sent later.
  const arrived = () => new Promise((resolve) => {
    const node = new AudioWorkletNode(context, "capture");
    node.port.onmessage = ({ data }) => data.type === "ended" && resolve();
    node.port.postMessage("end");
  });
  let through = 0;
  let flushes = 0;
  const command = (what, response = 1) => {
    if (what === "flush") return { type: "flush", id: ++flushes, through };
    through = Math.max(through, response);
    return { type: "piece", response, samples: pcmOf(what), rateHz: pieceRateHz };
  };
  const blocks = Map.groupBy(events, ([time]) => Math.floor((time * rateHz) / 128));
  for (const [block, batch] of blocks) {
    context.suspend((block * 128) / rateHz).then(async () => {
      for (const [, what, response] of batch) player.port.postMessage(command(what, response));
      await arrived();
      context.resume();
    });
  }
  const buffer = await context.startRendering();
  await arrived();
  return [toBase64(buffer.getChannelData(0)), posted];
}"""


async def render(
    page: Page,
    events: Sequence[Event],
    *,
    piece_rate_hz: int = 24_000,
    rate_hz: int = 48_000,
    seconds: float = 2,
) -> tuple[Samples, list[Report]]:
    """Return what the player puts out when it is told these at these times, and what it tells of it."""
    told = [
        (time, what if isinstance(what, str) else encoded(what), *response)
        for time, what, *response in events
    ]
    output, posted = await page.evaluate(RENDER, [told, piece_rate_hz, rate_hz, seconds])
    return floats(output), posted


def of_type(posted: Sequence[Report], kind: str) -> list[Report]:
    return [report for report in posted if report["type"] == kind]


def kinds(posted: Sequence[Report]) -> list[str]:
    """Return what was told, but for how it goes on."""
    return [report["type"] for report in posted if report["type"] != "progress"]


def silent_after_ms(output: Samples, flushed_s: float, rate_hz: int = 48_000) -> float:
    """Return how long after a flush there was still something over -60 dB, in milliseconds."""
    last = int(np.flatnonzero(np.abs(output) > SILENCE)[-1]) + 1
    return 1000 * (last - flushed_s * rate_hz) / rate_hz


# ---- pieces


async def test_jittered_pieces_play_as_one(open_page: OpenPage) -> None:
    """The gateway is 250 ms ahead; pieces may come 200 ms late."""
    page = await open_page()
    for seed in range(5):
        jitter = np.random.default_rng(seed).uniform(0, 0.2, 20)
        due = np.maximum.accumulate(np.maximum(0, np.arange(20) * 0.1 - 0.25) + jitter)
        events = list(zip((0.1 + due).tolist(), pieces(tone(2)), strict=True))
        output, posted = await render(page, events, seconds=3)

        (run,) = runs(output, 48_000)
        body = without_ramps(run, 48_000)
        assert len(run) / 48_000 == pytest.approx(2, abs=0.0002)
        assert impurity(body, 48_000) < 2e-4
        assert np.max(np.abs(body)) == pytest.approx(LEVEL, rel=0.01)
        assert kinds(posted) == ["started", "ended"]
        assert posted[-1] == {"type": "ended", "response": 1, "playedMs": pytest.approx(2000, abs=1e-6)}


async def test_late_pieces_cost_silence_and_nothing_else(open_page: OpenPage) -> None:
    """Pieces of any size at any time: no sample is lost, and no edge clicks."""
    page = await open_page()
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
        assert len(of_type(posted, "started")) > 1
        assert posted[-1]["playedMs"] == pytest.approx(2000, abs=1e-6)
        assert sum(map(len, found)) / 48 + len(found) * 0.1 >= 2000  # a ramp begins and ends in silence
        ends = [report["playedMs"] for report in of_type(posted, "ended")]
        assert [report["playedMs"] for report in of_type(posted, "started")] == pytest.approx([0, *ends[:-1]])
        for run in found:
            ramps = 2 * LEVEL / (FADE_S * 48_000)  # ramps bend the sine, clicks break it
            assert impurity(run, 48_000) < ramps


async def test_an_answer_shorter_than_the_prebuffer_is_heard(open_page: OpenPage) -> None:
    page = await open_page()
    output, posted = await render(page, [(0.1, tone(0.03))])
    (run,) = runs(output, 48_000)
    assert len(run) / 48_000 == pytest.approx(0.03, abs=0.0005)
    assert posted[-1]["playedMs"] == pytest.approx(30, abs=1e-6)


@pytest.mark.parametrize(
    ("piece_rate_hz", "rate_hz"),
    [(24_000, 44_100), (16_000, 48_000), (22_050, 48_000), (48_000, 48_000), (24_000, 96_000)],
)
async def test_other_rates_sound_alike(open_page: OpenPage, piece_rate_hz: int, rate_hz: int) -> None:
    page = await open_page()
    events = [(0.1, piece) for piece in pieces(tone(1, piece_rate_hz), piece_rate_hz)]
    output, posted = await render(page, events, piece_rate_hz=piece_rate_hz, rate_hz=rate_hz)
    (run,) = runs(output, rate_hz)
    assert len(run) / rate_hz == pytest.approx(1, abs=0.0005)
    assert impurity(without_ramps(run, rate_hz), rate_hz) < 2e-4
    assert posted[-1]["playedMs"] == pytest.approx(1000, abs=1e-6)


async def test_more_than_may_wait_is_dropped_and_told(open_page: OpenPage) -> None:
    page = await open_page()
    second = tone(1, 8000)
    posted = (await render(page, [(0.1, second)] * 125, piece_rate_hz=8000, seconds=0.2))[1]
    assert of_type(posted, "overflow") == [{"type": "overflow", "response": 1, "ms": 1000}] * 5


# ---- responses


async def test_it_tells_when_a_response_is_heard_and_how_it_goes_on(open_page: OpenPage) -> None:
    page = await open_page()
    output, posted = await render(page, [(0.1, tone(1.1))])
    first = int(np.flatnonzero(np.abs(output) > 0)[0])
    assert posted[0] == {
        "type": "started",
        "response": 1,
        "frame": pytest.approx(first, abs=1),
        "playedMs": 0,
    }
    progress = [report["playedMs"] for report in of_type(posted, "progress")]
    assert progress == [pytest.approx(250 * n, abs=3 * n) for n in (1, 2, 3, 4)]


async def test_responses_follow_without_a_gap(open_page: OpenPage) -> None:
    """The second begins on the very sample after the first."""
    page = await open_page()
    whole = tone(1)
    output, posted = await render(page, [(0.1, whole[:24_000]), (0.1, whole[24_000:], 2)])
    (run,) = runs(output, 48_000)
    assert len(run) / 48_000 == pytest.approx(1, abs=0.0005)
    assert [(report["type"], report["response"]) for report in posted if report["type"] != "progress"] == [
        ("started", 1),
        ("ended", 1),
        ("started", 2),
        ("ended", 2),
    ]
    first, second = of_type(posted, "started")
    assert second["frame"] - first["frame"] == 24_000
    assert [report["playedMs"] for report in of_type(posted, "ended")] == [pytest.approx(500, abs=1e-6)] * 2


# ---- flush


async def test_a_flush_is_silence_in_five_milliseconds(open_page: OpenPage) -> None:
    """What was queued is dropped, and so is what comes of it later; the next response is heard."""
    page = await open_page()
    events: list[Event] = [(0.1, tone(1)), (0.6, "flush"), (0.7, tone(1)), (1.0, tone(0.3), 2)]
    output, posted = await render(page, events)
    first, second = runs(output, 48_000)
    fade = round(FADE_S * 48_000)
    assert np.all(np.abs(first[-fade:]) <= LEVEL * (np.arange(fade, 0, -1) / fade) + 0.01)
    assert impurity(first[fade:-fade], 48_000) < 2e-4
    assert len(second) / 48_000 == pytest.approx(0.3, abs=0.0005)
    assert kinds(posted) == ["started", "ended", "flushed", "started", "ended"]


async def test_silence_after_a_flush(open_page: OpenPage) -> None:
    """Below -60 dB within the fade and a block. A flush that comes 200 ms later would be seen."""
    page = await open_page()
    limit_ms = FLUSH_MS + 1000 * BLOCK / 48_000
    for flushed_s, delay_s in ((0.6, 0.0), (0.7123, 0.0), (0.6, 0.2)):
        output, _ = await render(page, [(0.1, tone(1.5)), (flushed_s + delay_s, "flush")])
        assert (silent_after_ms(output, flushed_s) <= limit_ms) is not bool(delay_s)


async def test_a_flush_tells_to_the_sample_what_was_played(open_page: OpenPage) -> None:
    """Whenever it comes, at any rate: what it says was played is what came out, the rest was dropped."""
    page = await open_page()
    sent_ms = 1200
    for rate_hz, piece_rate_hz in ((48_000, 24_000), (44_100, 24_000), (48_000, 48_000)):
        for flushed_s in (0.161, 0.1637, 0.4, 0.777, 1.2, 1.3589, 1.36, 1.362):
            events: list[Event] = [(0.1, piece) for piece in pieces(tone(1.2, piece_rate_hz), piece_rate_hz)]
            output, posted = await render(
                page, [*events, (flushed_s, "flush")], piece_rate_hz=piece_rate_hz, rate_hz=rate_hz
            )
            (started,) = of_type(posted, "started")
            (flushed,) = of_type(posted, "flushed")
            last = int(np.flatnonzero(output)[-1])
            came_out = last + 1 - started["frame"]
            # The ramp ends in a zero, which counts as played; so may a zero of the sine before it.
            assert -2 <= came_out - flushed["playedMs"] * rate_hz / 1000 < 1e-6, flushed_s
            assert flushed["playedMs"] + flushed["droppedMs"] == pytest.approx(sent_ms, abs=1e-6)
            assert flushed["response"] == 1


async def test_a_flush_of_several_responses(open_page: OpenPage) -> None:
    """It tells of the one that is heard; what is dropped is of all."""
    page = await open_page()
    events: list[Event] = [
        (0.1, tone(0.5)),
        (0.1, tone(1), 2),
        (0.1, tone(1), 3),
        (1, "flush"),
        (1.1, "flush"),
    ]
    _, posted = await render(page, events)
    first, again = of_type(posted, "flushed")
    assert first["response"] == 2
    assert 0 < first["playedMs"] < 1000
    assert first["playedMs"] + first["droppedMs"] == pytest.approx(2000, abs=1e-6)
    assert again == {"type": "flushed", "id": 2, "response": 3, "playedMs": 0, "droppedMs": 0}


async def test_a_flush_before_anything_was_heard(open_page: OpenPage) -> None:
    page = await open_page()
    events: list[Event] = [(0.1, tone(0.03)), (0.12, "flush"), (1.0, tone(0.3), 2), (1.1, tone(0.1), 2)]
    output, posted = await render(page, events)
    (run,) = runs(output, 48_000)
    assert len(run) / 48_000 == pytest.approx(0.4, abs=0.0005)
    assert kinds(posted) == ["flushed", "started", "ended"]
    assert posted[0] == {
        "type": "flushed",
        "id": 1,
        "response": 1,
        "playedMs": 0,
        "droppedMs": pytest.approx(30, abs=1e-6),
    }


async def test_a_flush_while_there_is_nothing(open_page: OpenPage) -> None:
    """Of a response that is over it tells what was played, as often as it is asked; of none, none."""
    page = await open_page()
    events: list[Event] = [(0.05, "flush"), (0.1, tone(0.2)), (0.8, "flush"), (0.9, "flush")]
    _, posted = await render(page, events)
    nothing, over, again = of_type(posted, "flushed")
    assert (nothing["response"], nothing["playedMs"], nothing["droppedMs"]) == (0, 0, 0)
    for flushed in (over, again):
        assert flushed["response"] == 1
        assert flushed["playedMs"] == pytest.approx(200, abs=1e-6)
        assert flushed["droppedMs"] == pytest.approx(0, abs=1e-6)


async def test_the_next_response_waits_for_the_fade(open_page: OpenPage) -> None:
    """A response that comes together with the flush of another is whole, and begins in silence."""
    page = await open_page()
    output, posted = await render(page, [(0.1, tone(1)), (0.5, "flush"), (0.5, tone(0.3), 2)])
    ended, started = of_type(posted, "ended")[0], of_type(posted, "started")[1]
    assert (ended["response"], started["response"]) == (1, 2)
    silent = round(of_type(posted, "started")[0]["frame"] + ended["playedMs"] * 48)
    assert silent <= started["frame"]
    for part in (output[:silent], output[started["frame"] :]):
        assert np.max(np.abs(part[[0, -1]])) < 1e-3
        assert impurity(part[part.nonzero()], 48_000) < 2 * LEVEL / (FADE_S * 48_000)
    assert posted[-1]["playedMs"] == pytest.approx(300, abs=1e-6)
