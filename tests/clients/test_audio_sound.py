"""The client's sound in real time: what it plays, what it hears, and what it says where it cannot."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soxr
from playwright.async_api import Page

from audio_samples import mux_opus, speech
from browser.conftest import GRANTED
from browser.sound import FADE_S, LEVEL, impurity, runs, tone
from clients.audio_page import OpenPage, Samples, encoded, floats, launch, open_page, shorts, site

__all__ = ["launch", "open_page", "site"]

pytestmark = [pytest.mark.browser, pytest.mark.node, pytest.mark.asyncio(loop_scope="session")]

DENIED = ("--use-fake-device-for-media-stream",)
"""A microphone, and nobody who allows it."""


def wav(samples: Samples, rate_hz: int, channels: int = 1) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((channels, 2, rate_hz, 0, "NONE", ""))
        writer.writeframes((samples * 32767).astype("<i2").tobytes())
    return file.getvalue()


# ---- the speaker

SPEAK = """async (pcm) => {
  const { pcmOf, toBase64, tap, sleep } = await import("/helpers.js");
  const { Sound } = await import("/audio/sound.js");
  const { Speaker } = await import("/audio/speaker.js");
  const sound = new Sound();
  const told = [];
  const listener = Object.fromEntries(
    ["started", "progress", "ended", "dropped"].map((name) => [
      name,
      (id, ...values) => told.push([name, id, performance.now(), ...values]),
    ]),
  );
  const speaker = new Speaker(sound, listener);
  const until = async (name, id) => {
    while (!told.some(([kind, of]) => kind === name && of === id)) await sleep(10);
  };
  const play = (id, from = 0, to = Infinity) => speaker.play(id, pcmOf(pcm).subarray(from, to), 24000);
  const finish = async (tapped, result) => {
    await sleep(50); // beyond its end
    const [first, samples] = await tapped();
    await sound.close();
    return { first, samples: toBase64(samples), rateHz: sound.context.sampleRate, told, ...result };
  };
  %s
}"""


async def speak(page: Page, script: str, pcm: bytes) -> dict[str, Any]:
    return dict(await page.evaluate(SPEAK % script, encoded(pcm)))


def heard(result: dict[str, Any]) -> Samples:
    """Return what went to the loudspeaker. A busy machine may make a gap; the player loses nothing by it."""
    return floats(result["samples"])


def sounding_s(result: dict[str, Any]) -> float:
    return np.count_nonzero(heard(result)) / int(result["rateHz"])


async def test_pieces_play_as_one(open_page: OpenPage) -> None:
    """What comes before the worklet is loaded is heard, too."""
    page = await open_page()
    result = await speak(
        page,
        """
        play("a", 0, 12000);
        const tapped = await tap(sound);
        await sound.load();
        for (let at = 12000; at < 36000; at += 2400) play("a", at, at + 2400);
        await until("ended", "a");
        return finish(tapped, { position: speaker.position("a"), none: speaker.position("b") });
        """,
        tone(1.5),
    )
    assert sounding_s(result) == pytest.approx(1.5, abs=0.0005)
    for run in runs(heard(result), result["rateHz"]):
        assert impurity(run, result["rateHz"]) < 2 * LEVEL / (FADE_S * result["rateHz"])
    names = [name for name, *_ in result["told"]]
    assert names[0] == "started"
    assert 1 < names.count("progress") <= 6
    assert result["told"][-1][3] == result["position"] == pytest.approx(1500, abs=1e-6)
    assert result["none"] == 0


async def test_when_it_is_heard_is_told_in_the_page_s_time(open_page: OpenPage) -> None:
    """The first sample's frame, and the latency of the output on top."""
    page = await open_page()
    result = await speak(
        page,
        """
        await sound.load();
        const tapped = await tap(sound);
        await sleep(300);
        const before = performance.now();
        play("a");
        await until("ended", "a");
        const { contextTime, performanceTime } = sound.context.getOutputTimestamp();
        const latencyMs = 1000 * sound.context.outputLatency;
        return finish(tapped, { before, contextTime, performanceTime, latencyMs });
        """,
        tone(0.5),
    )
    frame = result["first"] + int(np.flatnonzero(heard(result))[0])
    _, _, told_at, at_ms, played_ms = result["told"][0]
    expected = result["performanceTime"] + 1000 * (frame / result["rateHz"] - result["contextTime"])
    assert at_ms == pytest.approx(expected, abs=40)  # the browser's own clocks jitter
    assert result["before"] < at_ms < told_at + 500
    assert played_ms == 0


async def test_a_flush_tells_what_was_heard(open_page: OpenPage) -> None:
    """What it says was played is what came out, to the sample, and nothing comes after it."""
    page = await open_page()
    result = await speak(
        page,
        """
        await sound.load();
        const tapped = await tap(sound);
        for (let at = 0; at < 48000; at += 2400) play("a", at, at + 2400);
        await until("progress", "a");
        const flushed = await speaker.flush();
        const names = told.map(([name]) => name);
        play("a", 0, 24000); // which comes too late
        await sleep(300);
        speaker.begin("b");
        const nothing = await speaker.flush();
        play("b");
        play("c", 0, 4800);
        await until("ended", "c");
        return finish(tapped, { flushed, nothing, names });
        """,
        tone(2),
    )
    flushed = result["flushed"]
    assert flushed["responseId"] == "a"
    assert flushed["playedMs"] + flushed["droppedMs"] == pytest.approx(2000, abs=1e-6)
    assert result["names"][-1] == "ended"
    assert result["nothing"] == {"responseId": "b", "playedMs": 0, "droppedMs": 0}
    assert sounding_s(result) == pytest.approx(flushed["playedMs"] / 1000 + 0.2, abs=0.0005)
    assert {told[1] for told in result["told"]} == {"a", "c"}


async def test_a_flush_where_nothing_runs(open_page: OpenPage) -> None:
    """Without a worklet, and in a suspended context: it is answered, and nothing is heard afterwards."""
    page = await open_page()
    result = await speak(
        page,
        """
        play("a", 0, 24000);
        const early = await speaker.flush();
        await sound.load();
        const tapped = await tap(sound);
        await sound.context.suspend();
        play("a", 0, 24000);
        play("b", 0, 24000);
        const suspended = await speaker.flush();
        await sound.resume();
        play("c", 0, 4800);
        await until("ended", "c");
        return finish(tapped, { early, suspended });
        """,
        tone(2),
    )
    assert result["early"] == {"responseId": "a", "playedMs": 0, "droppedMs": pytest.approx(1000)}
    assert result["suspended"] == {"responseId": "b", "playedMs": 0, "droppedMs": pytest.approx(1000)}
    assert sounding_s(result) == pytest.approx(0.2, abs=0.0005)


async def test_what_waits_for_the_worklet_is_bounded(open_page: OpenPage) -> None:
    page = await open_page()
    result = await page.evaluate(
        """async () => {
          const { Sound } = await import("/audio/sound.js");
          const { Speaker } = await import("/audio/speaker.js");
          const dropped = [];
          const speaker = new Speaker(new Sound(), { dropped: (...what) => dropped.push(what) });
          for (let second = 0; second < 123; second++) speaker.play("a", new Int16Array(8000), 8000);
          return [dropped, (await speaker.flush()).droppedMs];
        }"""
    )
    assert result == [[["a", 1000]] * 3, 120_000]


async def test_volume_and_levels(open_page: OpenPage) -> None:
    page = await open_page()
    result = await speak(
        page,
        """
        sound.setVolume(5);
        await sound.load();
        const tapped = await tap(sound);
        const before = sound.levels();
        play("a");
        await until("progress", "a");
        const loud = sound.levels();
        sound.setVolume(0.1);
        await sleep(500);
        const quiet = sound.levels();
        await sound.context.suspend();
        return finish(tapped, { before, loud, quiet, suspended: sound.levels() });
        """,
        tone(2),
    )
    assert result["before"] == result["suspended"] == {"input": 0, "output": 0}
    assert result["loud"]["output"] == pytest.approx(LEVEL / np.sqrt(2), rel=0.03)
    assert result["quiet"]["output"] == pytest.approx(0.1 * LEVEL / np.sqrt(2), rel=0.03)


# ---- the context


async def test_it_is_alive_until_it_is_not(open_page: OpenPage) -> None:
    page = await open_page()
    states = await page.evaluate(
        """async () => {
          const { sleep } = await import("/helpers.js");
          const { Sound } = await import("/audio/sound.js");
          const sound = new Sound({ volume: 0.5 });
          const states = [sound.alive, await sound.resume()];
          await sleep(1200);
          states.push(sound.alive);
          await sound.context.suspend();
          states.push(sound.alive, await sound.resume(), sound.alive);
          await sound.setOutputDevice("");
          await sound.close();
          await sound.close();
          states.push(sound.alive, await sound.resume());
          return states;
        }"""
    )
    assert states == [True, True, True, True, True, True, False, False]


async def test_a_page_is_heard_only_after_a_click(open_page: OpenPage, site: str) -> None:
    """What is evaluated in a page counts as a click of the user's, so the page speaks for itself."""
    flags = (*GRANTED, "--autoplay-policy=document-user-activation-required")
    page = await open_page(flags=flags, expected_complaints=("AudioContext was not allowed to start",))
    async with page.expect_console_message(lambda message: message.text.startswith("at first")) as blocked:
        await page.goto(f"{site}resuming")
    assert (await blocked.value).text == "at first: false, suspended"
    async with page.expect_console_message(lambda message: message.text.startswith("after")) as clicked:
        await page.click("button")
    assert (await clicked.value).text == "after a click: true, running"


async def test_a_frozen_clock_is_no_life(open_page: OpenPage) -> None:
    """As on iOS, where a context may be "running" and stand still."""
    page = await open_page()
    states = await page.evaluate(
        """async () => {
          const { sleep } = await import("/helpers.js");
          const { Sound } = await import("/audio/sound.js");
          const sound = new Sound();
          await sleep(1200);
          const states = [sound.alive];
          Object.defineProperty(sound.context, "currentTime", { value: sound.context.currentTime });
          await sleep(50);
          sound.alive;
          await sleep(200);
          return [...states, sound.alive, await sound.resume(), sound.context.state];
        }"""
    )
    assert states == [True, False, False, "running"]


async def test_what_is_said_of_a_worklet_that_is_not_served(open_page: OpenPage) -> None:
    """It can be tried again. One from a blob is forbidden by the policy."""
    page = await open_page(expected_complaints=("404", "Content Security Policy", "blob:"))
    errors, loaded = await page.evaluate(
        """async () => {
          const { Sound } = await import("/audio/sound.js");
          const blob = URL.createObjectURL(new Blob([""], { type: "text/javascript" }));
          const errors = [];
          for (const workletUrl of ["/nowhere.js", blob]) {
            const sound = new Sound({ workletUrl });
            for (let count = 0; count < 2; count++) {
              await sound.load().catch((error) => errors.push([error.code, error.message]));
            }
          }
          const sound = new Sound({ workletUrl: new URL("/worklet.js", location.href) });
          const first = sound.load();
          const same = first === sound.load();
          await Promise.all([first, sound.ready]);
          return [errors, same];
        }"""
    )
    assert [code for code, _ in errors] == ["UNSUPPORTED"] * 4
    assert all("workletUrl" in message for _, message in errors)
    assert loaded


async def test_a_device_that_is_not_there(open_page: OpenPage) -> None:
    """Chosen before, it is no reason not to be heard; chosen now, it is an error."""
    page = await open_page()
    result = await page.evaluate(
        """async () => {
          const { Sound } = await import("/audio/sound.js");
          const sound = new Sound({ outputDeviceId: "gone" });
          const heard = await sound.resume();
          return [heard, await sound.setOutputDevice("gone").catch((error) => error.name)];
        }"""
    )
    assert result == [True, "NotFoundError"]


async def test_an_address_without_https(site: str, open_page: OpenPage) -> None:
    port = site.rpartition(":")[2].strip("/")
    flags = (*GRANTED, "--host-resolver-rules=MAP gateway.test 127.0.0.1")
    page = await open_page(
        url=f"http://gateway.test:{port}/", flags=flags, expected_complaints=("untrustworthy",)
    )
    errors = await page.evaluate(
        """async () => {
          const { Sound } = await import("/audio/sound.js");
          const { Microphone } = await import("/audio/microphone.js");
          const { askForMicrophone } = await import("/audio/ask.js");
          const { devices } = await import("/audio/devices.js");
          const sound = new Sound();
          const { microphones, outputs } = await devices();
          const asked = askForMicrophone({});
          asked.catch(() => {}); // it is not even awaited
          const opening = Microphone.open(sound, {}, {}, asked);
          return [
            await sound.load().catch(({ code, message }) => [code, message]),
            await opening.catch(({ name, kind, message }) => [name, kind, message]),
            [microphones.length, outputs.length],
          ];
        }"""
    )
    (code, sound_message), (name, kind, message), found = errors
    assert (code, name, kind) == ("UNSUPPORTED", "MicrophoneError", "insecure-context")
    assert "https" in sound_message
    assert "https" in message
    assert found == [0, 0]


# ---- the microphone

LISTEN = """async ([options, seconds]) => {
  const { toBase64, joined, sleep } = await import("/helpers.js");
  const { Sound } = await import("/audio/sound.js");
  const { Microphone } = await import("/audio/microphone.js");
  const { askForMicrophone } = await import("/audio/ask.js");
  const sound = new Sound();
  const told = [];
  const chunks = [];
  const listener = {
    audio: (samples, at) => chunks.push([samples, at, performance.now()]),
    ended: ({ kind, message }) => told.push(["ended", kind, message]),
    silent: (error) => told.push(["silent", error?.kind]),
    replaced: () => told.push(["replaced"]),
  };
  // What the browser was asked for, and what it gave.
  const asked = [];
  const tracks = [];
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (constraints) => {
    asked.push(constraints.audio);
    const media = await ask(constraints);
    tracks.push(...media.getAudioTracks());
    return media;
  };
  const lose = (track) => (track.stop(), track.dispatchEvent(new Event("ended")));
  const heard = async (count) => {
    for (const until = chunks.length + count; chunks.length < until; ) await sleep(10);
  };
  const microphone = await Microphone.open(sound, options, listener, askForMicrophone(options));
  const finish = (result) => ({
    chunks: chunks.map(([samples, at, now]) => [samples.length, at, now]),
    pcm: toBase64(joined(chunks.map(([samples]) => samples))),
    told,
    ...result,
  });
  %s
}"""


async def listen(page: Page, script: str, **options: Any) -> dict[str, Any]:
    return dict(await page.evaluate(LISTEN % script, [options, 0]))


async def test_the_microphone_arrives_as_it_is(open_page: OpenPage, tmp_path: Path) -> None:
    """A sweep from 100 Hz to 6.5 kHz, through the browser and the worklet."""
    rate_hz = 48_000
    time = np.arange(2 * rate_hz) / rate_hz
    edges = np.minimum(1, 50 * np.minimum(time, 2 - time))
    sweep = 0.5 * edges * np.sin(2 * np.pi * (100 * time + 1600 * time**2))
    silence = np.zeros(rate_hz // 2)
    played = np.concatenate([silence, sweep, silence, silence]).astype(np.float32)
    file = tmp_path / "sweep.wav"
    file.write_bytes(wav(played, rate_hz))
    page = await open_page(microphone=file)
    result = await listen(
        page,
        "await heard(82); await microphone.stop(); return finish({});",
        echoCancellation=False,
        noiseSuppression=False,
        autoGainControl=False,
    )
    sizes = [size for size, _, _ in result["chunks"]]
    assert set(sizes[:-1]) == {640}
    assert result["told"] == []
    pcm = shorts(result["pcm"]).astype(np.float32) / np.float32(32767)
    expected = soxr.resample(sweep, rate_hz, 16_000, quality="VHQ").astype(np.float32)
    errors = [best_fit_error(pcm, part) for part in np.split(expected, 8)]
    # A machine that is too busy tears the capture itself, in places.
    assert sorted(errors)[1] < -60, errors
    times = np.array([at for _, at, _ in result["chunks"]])
    assert np.all(times < [now for _, _, now in result["chunks"]])
    assert np.median(np.diff(times[:-1])) == pytest.approx(40, abs=15)
    assert times[-1] - times[0] == pytest.approx(40 * (len(times) - 1), rel=0.2)


def best_fit_error(heard: Samples, expected: Samples) -> float:
    """Return in dB what is left of `expected` where it fits `heard` best, to a fraction of a sample."""
    lag = int(np.argmax(np.correlate(heard, expected, "valid")))
    there = heard[lag : lag + len(expected)]
    frequencies = np.fft.rfftfreq(len(expected))
    middle = slice(100, -100)  # a part begins and ends abruptly, which a shift smears
    left = []
    for shift in np.arange(-0.5, 0.5, 0.01):
        turned = np.fft.rfft(there) * np.exp(2j * np.pi * frequencies * shift)
        left.append(np.sum((np.fft.irfft(turned, len(there)) - expected)[middle] ** 2))
    return 10 * float(np.log10(min(left) / np.sum(expected[middle] ** 2)))


async def test_what_is_known_of_the_microphone(open_page: OpenPage) -> None:
    page = await open_page()
    result = await listen(
        page,
        """
        await heard(3);
        const { label, deviceId, settings } = microphone;
        const level = sound.levels().input;
        const { devices } = await import("/audio/devices.js");
        const { microphones, outputs } = await devices();
        await Promise.all([microphone.stop(), microphone.stop()]);
        const count = chunks.length;
        await sleep(200);
        return finish({
          label, deviceId, settings, outputs: outputs.length, late: chunks.length - count,
          ids: microphones.map(({ deviceId }) => deviceId), level: typeof level,
        });
        """,
        echoCancellation=False,
    )
    assert "Fake" in result["label"]
    assert result["deviceId"] in result["ids"]
    assert result["settings"]["echoCancellation"] is False
    assert result["outputs"] > 0
    assert result["late"] == 0


async def test_a_muted_microphone_passes_nothing_on(open_page: OpenPage) -> None:
    page = await open_page()
    result = await listen(
        page,
        """
        const states = [microphone.muted];
        await sleep(400);
        const before = chunks.length;
        microphone.muted = false;
        await heard(5);
        microphone.muted = true;
        const during = chunks.length;
        await sleep(400);
        await microphone.stop();
        return finish({ states, before, added: chunks.length - during });
        """,
        muted=True,
    )
    assert result["states"] == [True]
    assert (result["before"], result["added"]) == (0, 0)
    assert result["told"] == []


async def test_silence_of_the_microphone_is_told(open_page: OpenPage) -> None:
    """A context that stands still gives nothing; once it goes on, so does the microphone."""
    page = await open_page()
    result = await listen(
        page,
        """
        await heard(3);
        await sound.context.suspend();
        while (told.length < 1) await sleep(50);
        await sound.resume();
        while (told.length < 2) await sleep(50);
        await sound.context.suspend();
        const before = performance.now();
        await microphone.stop();
        return finish({ tookMs: performance.now() - before });
        """,
    )
    assert result["told"] == [["silent", "silent"], ["silent", None]]


async def test_the_usual_microphone_takes_the_place_of_one_that_is_lost(open_page: OpenPage) -> None:
    """As Chrome tells it where a device is unplugged. One that is lost at once is not replaced for ever."""
    page = await open_page()
    result = await listen(
        page,
        """
        await heard(3);
        await sleep(3000);
        lose(tracks[0]);
        while (told.length < 1) await sleep(20);
        const label = microphone.label;
        await heard(3);
        lose(tracks[1]);
        while (told.length < 2) await sleep(20);
        const count = chunks.length;
        await sleep(200);
        const states = tracks.map(({ readyState }) => readyState);
        return finish({ asked, label, late: chunks.length - count, states });
        """,
        deviceId="default",
        noiseSuppression=False,
    )
    assert result["told"][0] == ["replaced"]
    assert result["told"][1][:2] == ["ended", "ended"]
    assert "connect it again" in result["told"][1][2]
    first, second = result["asked"]
    assert first["deviceId"] == {"exact": "default"}
    assert "deviceId" not in second
    assert second["noiseSuppression"] is False
    assert "Fake" in result["label"]
    assert result["late"] == 0
    assert result["states"] == ["ended", "ended"]


@pytest.mark.parametrize(
    ("flags", "options", "kind", "word"),
    [
        (DENIED, {}, "permission-denied", "blocked"),
        (GRANTED, {"deviceId": "gone"}, "constraints", "choose another"),
        ((GRANTED[1], "--disable-audio-input"), {}, "not-found", "connect one"),
    ],
)
async def test_why_there_is_no_microphone(
    open_page: OpenPage, flags: tuple[str, ...], options: dict[str, str], kind: str, word: str
) -> None:
    page = await open_page(flags=flags)
    error = await page.evaluate(
        """async (options) => {
          const { Sound } = await import("/audio/sound.js");
          const { Microphone } = await import("/audio/microphone.js");
          const { askForMicrophone } = await import("/audio/ask.js");
          return Microphone.open(new Sound(), options, {}, askForMicrophone(options)).then(
            ({ label }) => ["", "", label],
            ({ name, kind, message }) => [name, kind, message],
          );
        }""",
        options,
    )
    assert error[:2] == ["MicrophoneError", kind]
    assert word in error[2]


async def test_what_the_browser_says_has_a_kind(open_page: OpenPage) -> None:
    """Also what no test can make it say."""
    page = await open_page()
    kinds = await page.evaluate(
        """async (errors) => {
          const { getUserMediaError } = await import("/audio/microphone_errors.js");
          return errors.map(([name, message]) => getUserMediaError(new DOMException(message, name)).kind);
        }""",
        [
            ["NotAllowedError", "Permission denied by system"],
            ["NotAllowedError", "Permission dismissed"],
            ["SecurityError", ""],
            ["NotReadableError", "Could not start audio source"],
            ["AbortError", ""],
            ["NotSupportedError", ""],
        ],
    )
    assert kinds == [
        "permission-denied",
        "permission-dismissed",
        "permission-denied",
        "in-use",
        "in-use",
        "unsupported",
    ]


async def test_a_microphone_without_a_worklet_is_released(open_page: OpenPage) -> None:
    page = await open_page(expected_complaints=("404",))
    error = await page.evaluate(
        """async () => {
          const { Sound } = await import("/audio/sound.js");
          const { Microphone } = await import("/audio/microphone.js");
          const { askForMicrophone } = await import("/audio/ask.js");
          const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
          let media;
          navigator.mediaDevices.getUserMedia = async (constraints) => (media = await ask(constraints));
          const sound = new Sound({ workletUrl: "/nowhere.js" });
          const opening = Microphone.open(sound, {}, {}, askForMicrophone({}));
          const { kind, message } = await opening.catch((error) => error);
          return [kind, message, media.getAudioTracks()[0].readyState];
        }"""
    )
    assert error[0] == "unsupported"
    assert "workletUrl" in error[1]
    assert error[2] == "ended"


async def test_the_microphone_is_asked_for_at_once(open_page: OpenPage) -> None:
    """A click is over once something was awaited."""
    page = await open_page()
    assert await page.evaluate(
        """async () => {
          const { askForMicrophone } = await import("/audio/ask.js");
          let asked = false;
          const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
          navigator.mediaDevices.getUserMedia = (constraints) => ((asked = true), ask(constraints));
          const asking = askForMicrophone({});
          const atOnce = asked;
          for (const track of (await asking).getTracks()) track.stop();
          return atOnce;
        }"""
    )


async def test_a_change_of_devices_is_told_until_it_is_not_wanted(open_page: OpenPage) -> None:
    page = await open_page()
    count = await page.evaluate(
        """async () => {
          const { onDevicesChanged } = await import("/audio/devices.js");
          let count = 0;
          const off = onDevicesChanged(() => count++);
          navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
          off();
          navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
          return count;
        }"""
    )
    assert count == 1


# ---- files

DECODE = """async ([bytes, zeros]) => {
  const { bytesOf, toBase64 } = await import("/helpers.js");
  const { decodeFile } = await import("/audio/file.js");
  try {
    return toBase64(await decodeFile(new Blob([bytesOf(bytes), new Uint8Array(zeros)])));
  } catch ({ name, code, message }) {
    return [name, code, message];
  }
}"""


async def decoded(page: Page, file: bytes) -> npt.NDArray[np.int16]:
    return shorts(await page.evaluate(DECODE, [encoded(file), 0]))


def stereo(left: Samples, right: Samples) -> Samples:
    return np.stack([left, right], axis=1).reshape(-1)


async def test_a_file_is_decoded_to_what_the_gateway_hears(open_page: OpenPage) -> None:
    """Of 16 kHz to the sample; of others band-limited, its channels mixed; of a codec, too."""
    page = await open_page()
    original = np.frombuffer(speech(), "<i2")
    same = await decoded(page, wav_of(original, 16_000))
    assert np.max(np.abs(same.astype(np.int32) - original)) <= 1

    time = np.arange(48_000) / 48_000
    low = (0.8 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)
    high = (0.8 * np.sin(2 * np.pi * 11_000 * time)).astype(np.float32)
    mixed = await decoded(page, wav(stereo(low, high), 48_000, 2)) / 32767
    assert len(mixed) == pytest.approx(16_000, abs=1)
    spectrum = np.abs(np.fft.rfft(mixed[1000:15_000] * np.hanning(14_000))) / 3500
    peak = 1000 * 14_000 // 16_000
    assert spectrum[peak] == pytest.approx(0.4, rel=0.02)
    assert np.max(np.delete(spectrum, range(peak - 10, peak + 11))) < 0.004  # nothing folds back

    opus = await decoded(page, mux_opus(tone(1, 48_000)))
    assert len(opus) == pytest.approx(16_000, abs=2)


def wav_of(pcm: npt.NDArray[np.int16], rate_hz: int) -> bytes:
    return wav(pcm.astype(np.float32) / np.float32(32767), rate_hz)


LONG = bytearray(wav(np.zeros(0, np.float32), 8000))
LONG[4:8] = (36 + 601 * 16_000).to_bytes(4, "little")
LONG[40:44] = (601 * 16_000).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("file", "zeros", "words"),
    [
        (b"This is no audio.", 0, "cannot decode"),
        (b"", 0, "cannot decode"),
        (bytes(LONG), 601 * 16_000, "longer than 10 minutes"),
        (b"", 1 + (128 << 20), "larger than 128 MB"),
    ],
)
async def test_what_is_said_of_a_file_that_cannot_be_sent(
    open_page: OpenPage, file: bytes, zeros: int, words: str
) -> None:
    page = await open_page()
    name, code, message = await page.evaluate(DECODE, [encoded(file), zeros])
    assert (name, code) == ("CallError", "AUDIO_UNSUPPORTED")
    assert words in message
    assert ": send" in message
