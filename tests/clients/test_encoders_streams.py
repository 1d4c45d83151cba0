"""What the client's encoders make, decoded by what the gateway decodes with, and by FFmpeg."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from typing import Any, get_args

import numpy as np
import pytest
from playwright.async_api import Page

from antiphon.audio.flac import Block, FlacDecoder
from antiphon.audio.ogg import Page as OggPage
from antiphon.audio.ogg import PageReader
from antiphon.audio.opus import OpusDecoder, packet_samples
from antiphon.audio.stream import AudioStream
from antiphon.messages import StreamFormat
from audio_samples import likeness, read_samples, speech, tone
from clients.audio_dist import built
from clients.audio_page import HEADERS, OpenPage, encoded, launch, open_page, site

__all__ = ["launch", "open_page", "site"]

pytestmark = [pytest.mark.browser, pytest.mark.node, pytest.mark.asyncio(loop_scope="session")]

SPEECH = speech()
NOISE = np.random.default_rng(1).integers(-32768, 32768, 16_000).astype("<i2").tobytes()

ENCODE = """async ([name, options, rateHz, streams]) => {
  const { pcmOf, toBase64 } = await import("/helpers.js");
  const factory = (await import(`/encoders/${name}.js`))[name](options);
  const results = [];
  for (const [pcm, size] of streams) {
    const data = [];
    const encoder = await factory.create(rateHz, (bytes, ms) => data.push([toBase64(bytes), ms]));
    const samples = pcmOf(pcm);
    for (let at = 0; at < samples.length; at += size) encoder.encode(samples.subarray(at, at + size));
    await encoder.end();
    const count = data.length;
    encoder.close();
    await new Promise((resolve) => setTimeout(resolve, 50));
    results.push([data, data.length - count]);
  }
  return [factory.format, results];
}"""


async def encode(
    page: Page, name: str, *streams: bytes, rate_hz: int = 16_000, chunk: int = 640, **options: Any
) -> list[list[tuple[bytes, float]]]:
    """Return what each stream becomes: pieces, and how many milliseconds each is."""
    told = [[encoded(pcm), chunk] for pcm in streams]
    name_of_format, results = await page.evaluate(ENCODE, [name, options, rate_hz, told])
    assert name_of_format in get_args(StreamFormat)
    assert [late for _, late in results] == [0] * len(streams)  # all is there when it has ended
    return [[(base64.b64decode(data), ms) for data, ms in stream] for stream, _ in results]


def decode(decoder: FlacDecoder | OpusDecoder, stream: list[tuple[bytes, float]]) -> bytes:
    results = [result for data, _ in stream for result in decoder.feed(data)]
    results += decoder.flush()
    assert all(isinstance(result, Block) for result in results)
    return b"".join(result.pcm for result in results if isinstance(result, Block))


def as_heard(kind: StreamFormat, stream: list[tuple[bytes, float]], rate_hz: int = 16_000) -> bytes:
    """Return what the gateway makes of a stream."""
    audio = AudioStream(kind, rate_hz)
    decoded = [audio.feed(sequence, data) for sequence, (data, _) in enumerate(stream)]
    decoded.append(audio.flush())
    assert [error for part in decoded for error in part.errors] == []
    return b"".join(part.pcm for part in decoded)


def milliseconds(stream: list[tuple[bytes, float]]) -> float:
    return sum(ms for _, ms in stream)


# ---- LINEAR16


async def test_linear16_is_the_samples(open_page: OpenPage) -> None:
    page = await open_page()
    (stream,) = await encode(page, "linear16", SPEECH, chunk=333)
    assert b"".join(data for data, _ in stream) == SPEECH
    assert milliseconds(stream) == pytest.approx(len(SPEECH) / 32)
    assert as_heard("LINEAR16", stream) == SPEECH


# ---- FLAC


async def test_flac_loses_nothing(open_page: OpenPage) -> None:
    """Speech, noise at full scale and silence, in chunks of any size; under the policy of the page."""
    assert "unsafe" not in HEADERS["Content-Security-Policy"]
    page = await open_page()
    for level in (0, 5, 8):
        for chunk in (1, 640, 7001) if level == 5 else (640,):
            short, all_kinds = [SPEECH[:6400]], [SPEECH, NOISE, bytes(3200), SPEECH[:34], b""]
            streams = short if chunk == 1 else all_kinds
            results = await encode(page, "flac", *streams, chunk=chunk, level=level)
            for pcm, stream in zip(streams, results, strict=True):
                assert decode(FlacDecoder(), stream) == pcm
                assert as_heard("FLAC", stream) == pcm
                assert milliseconds(stream) == pytest.approx(len(pcm) / 32)


async def test_flac_is_a_file_and_smaller(open_page: OpenPage) -> None:
    page = await open_page()
    (stream,) = await encode(page, "flac", SPEECH)
    file = b"".join(data for data, _ in stream)
    assert np.array_equal(read_samples(file), np.frombuffer(SPEECH, "<i2").astype(np.float32))
    assert len(file) < 0.7 * len(SPEECH)


async def test_flac_comes_as_it_is_spoken(open_page: OpenPage) -> None:
    """Of what was said, 20 ms wait at most, and the sample that libFLAC looks ahead."""
    page = await open_page()
    waiting_ms = await page.evaluate(
        """async () => {
          const { sleep } = await import("/helpers.js");
          const { flac } = await import("/encoders/flac.js");
          let waiting = 0;
          const encoder = await flac().create(16000, (_, ms) => (waiting -= ms));
          const all = [];
          for (let count = 0; count < 5; count++) {
            waiting += 40;
            encoder.encode(new Int16Array(640));
            for (let patience = 0; patience < 100 && waiting > 20; patience++) await sleep(20);
            all.push(waiting);
          }
          encoder.close();
          return all;
        }"""
    )
    assert all(0 < waiting <= 20 for waiting in waiting_ms)


async def test_flac_of_another_rate(open_page: OpenPage) -> None:
    page = await open_page()
    pcm = tone(48_000, 30_000)
    (stream,) = await encode(page, "flac", pcm, rate_hz=48_000)
    assert decode(FlacDecoder(), stream) == pcm


async def test_the_flac_worker_is_loaded_once_for_streams_that_follow(open_page: OpenPage) -> None:
    page = await open_page()
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url.rpartition("/")[2]))
    await encode(page, "flac", SPEECH, NOISE, SPEECH)
    assert loaded.count("flac_worker.js") == 1


FAIL = """async ([name, options, rateHz]) => {
  const { flac } = await import("/encoders/flac.js");
  const { opus } = await import("/encoders/opus.js");
  try {
    await { flac, opus }[name](options).create(rateHz, () => {});
  } catch (error) {
    return [error.name, error.code, error.message];
  }
}"""


async def test_flac_says_what_to_do_where_the_worker_is_not_served(open_page: OpenPage) -> None:
    page = await open_page(expected_complaints=("404",))
    name, code, message = await page.evaluate(FAIL, ["flac", {"workerUrl": "/nowhere.js"}, 16_000])
    assert (name, code) == ("CallError", "UNSUPPORTED")
    assert "name it with workerUrl" in message


@pytest.mark.parametrize(("name", "options"), [("flac", {}), ("opus", {"bitrate": 1})])
async def test_a_rate_that_cannot_be_is_an_error(
    open_page: OpenPage, name: str, options: dict[str, int]
) -> None:
    page = await open_page()
    kind, code, message = await page.evaluate(FAIL, [name, options, 999_999_999])
    assert (kind, code) == ("CallError", "UNSUPPORTED")
    assert "999999999 Hz" in message
    assert "no encoder" in message


@pytest.mark.parametrize("name", ["flac", "opus"])
async def test_a_closed_encoder_takes_no_more(open_page: OpenPage, name: str) -> None:
    page = await open_page()
    messages = await page.evaluate(
        """async (name) => {
          const encoder = await (await import(`/encoders/${name}.js`))[name]().create(16000, () => {});
          encoder.encode(new Int16Array(640));
          encoder.close();
          encoder.close();
          const messages = [];
          try {
            encoder.encode(new Int16Array(640));
          } catch (error) {
            messages.push(error.message);
          }
          await encoder.end().catch((error) => messages.push(error.message));
          return messages;
        }""",
        name,
    )
    assert len(messages) == 2
    assert all("make another one" in message for message in messages)


@pytest.mark.parametrize("name", ["flac", "opus"])
async def test_node_has_no_such_encoder_and_says_so(name: str) -> None:
    script = f"""
      import {{ {name} }} from {json.dumps((built() / "encoders" / f"{name}.js").as_uri())};
      await {name}().create(16000, () => {{}}).catch((error) => console.log(error.code, error.message));
    """
    node = shutil.which("node")
    assert node
    process = await asyncio.create_subprocess_exec(
        node, "--input-type=module", "--eval", script, stdout=asyncio.subprocess.PIPE
    )
    output = (await process.communicate())[0].decode()
    assert output.startswith("UNSUPPORTED ")
    assert "no encoder" in output


# ---- Opus


async def test_opus_sounds_as_it_was(open_page: OpenPage) -> None:
    """As long as what was said, to the sample, and not displaced; for the gateway and for FFmpeg."""
    page = await open_page()
    (stream,) = await encode(page, "opus", SPEECH)
    assert milliseconds(stream) == pytest.approx(len(SPEECH) / 32)
    heard = as_heard("audio/ogg;codecs=opus", stream)
    assert len(heard) == len(SPEECH)
    assert likeness(heard, SPEECH) > 0.95
    shifts = range(-40, 41)
    middle = np.frombuffer(SPEECH, "<i2")[16_000:32_000].astype(np.float64)
    pcm = np.frombuffer(heard, "<i2").astype(np.float64)
    fits = [float(np.dot(middle, pcm[16_000 + shift : 32_000 + shift])) for shift in shifts]
    assert abs(shifts[int(np.argmax(fits))]) <= 1
    file = b"".join(data for data, _ in stream)
    assert len(file) < len(SPEECH) / 5
    assert len(read_samples(file)) == pytest.approx(3 * len(SPEECH) / 2, abs=1)


@pytest.mark.parametrize("samples", [1, 300, 319, 320, 321, 640, 16_000 - 216, 16_000])
async def test_opus_of_any_length(open_page: OpenPage, samples: int) -> None:
    page = await open_page()
    pcm = tone(16_000, samples)
    first, second, nothing = await encode(page, "opus", pcm, pcm, b"", chunk=250)
    assert len(decode(OpusDecoder(), first)) == 6 * samples
    assert len(decode(OpusDecoder(), [*first, *second])) == 12 * samples  # one after the other
    assert milliseconds(first) == pytest.approx(samples / 16)
    assert nothing == []


async def test_pages_of_opus_are_small(open_page: OpenPage) -> None:
    """At most 100 ms each; the heads have pages of their own, and the last says so."""
    page = await open_page()
    (stream,) = await encode(page, "opus", SPEECH)
    reader = PageReader()
    pages = [item for data, _ in stream for item in reader.feed(data)]
    assert list(reader.flush()) == []
    assert all(isinstance(item, OggPage) for item in pages)
    head, tags, *audio = [item for item in pages if isinstance(item, OggPage)]
    assert head.first
    assert head.parts[0].startswith(b"OpusHead")
    assert tags.parts[0].startswith(b"OpusTags")
    assert [item.number for item in (head, tags, *audio)] == list(range(2 + len(audio)))
    assert [item.last for item in audio] == [False] * (len(audio) - 1) + [True]
    assert max(sum(map(packet_samples, item.parts)) for item in audio) <= 4800
    assert audio[-1].granule == 312 + 3 * len(SPEECH) // 2


async def test_opus_of_another_rate_and_bitrate(open_page: OpenPage) -> None:
    page = await open_page()
    pcm = tone(48_000, 96_000)
    (low,) = await encode(page, "opus", pcm, rate_hz=48_000, bitrate=12_000)
    (high,) = await encode(page, "opus", pcm, rate_hz=48_000, bitrate=64_000)
    assert len(decode(OpusDecoder(), low)) == len(decode(OpusDecoder(), high)) == len(pcm)
    assert sum(len(data) for data, _ in low) < 0.5 * sum(len(data) for data, _ in high)


# ---- Ogg


async def test_pages_of_ogg(open_page: OpenPage) -> None:
    """Packets of every size that a page can hold, and positions that take more than 32 bits."""
    page = await open_page()
    sizes = [0, 1, 254, 255, 256, 509, 510, 511, 1275]
    written, error = await page.evaluate(
        """async (sizes) => {
          const { toBase64 } = await import("/helpers.js");
          const { OggWriter } = await import("/encoders/ogg.js");
          const writer = new OggWriter(0xfedcba98);
          const packets = (size, n) => [new Uint8Array(size).fill(n), Uint8Array.of(7)];
          const pages = sizes.map((size, n) => writer.page(packets(size, n), n * 1e10));
          let error;
          try {
            writer.page([new Uint8Array(65025)], 0);
          } catch ({ name, message }) {
            error = `${name}: ${message}`;
          }
          pages.push(writer.page([new Uint8Array(65024)], 2 ** 40 + 5, true));
          return [pages.map(toBase64), error];
        }""",
        sizes,
    )
    assert error.startswith("RangeError: ")
    reader = PageReader()
    pages = [item for text in written for item in reader.feed(base64.b64decode(text))]
    assert [item.parts for item in pages if isinstance(item, OggPage)] == [
        *((bytes([n]) * size, b"\x07") for n, size in enumerate(sizes)),
        (bytes(65_024),),
    ]
    for n, item in enumerate(pages):
        assert isinstance(item, OggPage)
        assert (item.serial, item.number, item.first) == (0xFEDCBA98, n, n == 0)
        assert item.granule == (n * 10_000_000_000 if n < len(sizes) else 2**40 + 5)
        assert item.last is (n == len(sizes))
