"""`antiphon talk` against a real WebSocket server, and the rule by which it knows that an answer is over."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path

import pytest

from antiphon import extension
from antiphon.audio.stream import AudioStream
from antiphon.client import BaseOnly, Closed, SessionLost, SoundError
from antiphon.messages import AudioChunk, AudioResponse, AudioStreamEnd, AuthSuccess, RecognitionResult
from antiphon.talk import Exchange, TalkError, Turn, add_arguments, run, talk
from audio_samples import SPEECH, speech, tone, write_wav
from fake_sound import FakeSound
from scripted_gateway import EXTENDED, Peer, Script, scripted_gateway
from unit.resuming_gateway import ResumingGateway, lose, refusing, resuming_gateway

FILE = SPEECH / "ps_goforward.wav"


def arguments(*words: str | Path, token: str | None = "a token") -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args([str(word) for word in words])
    args.token = token
    return args


async def answering(peer: Peer) -> None:
    """Hear a stream, and answer it."""
    await peer.accept()
    await peer.hear()
    await peer.result("go", final=False)
    await peer.result("go forward")
    await peer.answer("Going ")
    await peer.answer("forward.")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for less long than is sensible on a network."""
    monkeypatch.setattr(Turn, "SILENCE_S", 0.4)
    monkeypatch.setattr(Turn, "SETTLE_S", 0.3)
    monkeypatch.setattr(Turn, "TAIL_S", 0.2)
    monkeypatch.setattr(Exchange, "SILENCE_S", 0.4)
    monkeypatch.setattr(Exchange, "TAIL_S", 0.1)


class TestTurn:
    @staticmethod
    def piece(duration_ms: float) -> AudioResponse:
        return AudioResponse(timestamp=0, data=b"", format="", duration=duration_ms, text="", language="en")

    @staticmethod
    def result(transcript: str, *, final: bool = True, command: str | None = None) -> RecognitionResult:
        named = {} if command is None else {"command": command}
        return RecognitionResult(timestamp=0, transcript=transcript, confidence=0.0, is_final=final, **named)

    def test_open_while_speech_is_sent(self) -> None:
        turn = Turn()
        turn.receive(self.result("hello"), 1)
        turn.receive(self.piece(100), 2)
        assert turn.deadline is None

    def test_silence(self) -> None:
        turn = Turn()
        turn.end(10)
        assert turn.deadline == 18
        assert turn.complaint("it") == "Nothing was recognised in it."
        assert Turn(behind_s=5).deadline is None
        turn = Turn(behind_s=5)
        turn.end(10)
        assert turn.deadline == 23

    def test_an_answer_is_waited_for_and_played_out(self) -> None:
        turn = Turn()
        turn.end(10)
        turn.receive(self.result("hello", final=False), 11)
        assert turn.deadline == 19
        turn.receive(self.result("hello"), 12)
        assert turn.deadline == 20
        assert turn.complaint("it") == "No answer came to it."
        turn.receive(self.piece(2000), 13)
        turn.receive(self.piece(3000), 13.5)
        assert turn.deadline == 13 + 5 + 1
        assert turn.complaint("it") is None

    def test_a_pause_in_the_answer(self) -> None:
        turn = Turn()
        turn.end(10)
        turn.receive(self.piece(100), 11)
        turn.receive(self.piece(100), 12)
        assert turn.deadline == pytest.approx(12 + 0.1 + 1)

    def test_all_before_the_end_of_speech(self) -> None:
        turn = Turn()
        turn.receive(self.result("hello"), 3)
        turn.receive(self.piece(500), 4)
        turn.end(10)
        assert turn.deadline == 10 + 3

    def test_an_answer_still_playing_at_the_end_of_speech(self) -> None:
        turn = Turn()
        turn.receive(self.result("hello"), 3)
        turn.receive(self.piece(9000), 4)
        turn.end(10)
        assert turn.deadline == 13 + 3

    def test_a_second_utterance_after_the_first_answer(self) -> None:
        turn = Turn()
        turn.receive(self.result("hello"), 3)
        turn.receive(self.piece(500), 4)
        turn.receive(self.result("and", final=False), 9)
        turn.end(10)
        assert turn.deadline == 18
        turn.receive(self.result("and more"), 11)
        assert turn.deadline == 19
        turn.receive(self.piece(500), 12)
        assert turn.deadline == 12.5 + 1

    def test_a_final_result_sent_again_with_its_command_awaits_no_other_answer(self) -> None:
        turn = Turn()
        turn.end(10)
        turn.receive(self.result("next"), 11)
        turn.receive(self.piece(500), 12)
        turn.receive(self.result("next", command="next"), 12.1)
        assert turn.deadline == 12.5 + 1
        turn.receive(self.result("other", command="other"), 12.2)
        assert turn.deadline == 12.5 + 8

    def test_what_says_nothing_of_an_answer(self) -> None:
        turn = Turn()
        turn.end(10)
        turn.receive(AuthSuccess(timestamp=0, session_id="", user_id=""), 15)
        assert turn.deadline == 18


class TestExchange:
    STARTED = extension.ResponseStarted(timestamp=0, response_id="r1", format="", language="en")
    DONE = extension.ResponseDone(timestamp=0, response_id="r1", status="completed")
    SPEAKS = extension.SpeechStarted(timestamp=0, stream_ms=0)
    CALL = extension.ToolCall(timestamp=0, call_id="c1", name="next", args={}, deadline_ms=1000)
    PIECE = TestTurn.piece(100)

    @staticmethod
    def heard(text: str) -> extension.TranscriptUpdate:
        return extension.TranscriptUpdate(
            timestamp=0, role="user", utterance_id="u1", revision=1, text=text, is_final=False
        )

    def test_open_while_speech_is_sent(self) -> None:
        exchange = Exchange()
        exchange.receive(self.heard("go"), 1)
        exchange.receive(self.STARTED, 2)
        exchange.receive(self.DONE, 3)
        assert exchange.deadline is None

    def test_silence(self) -> None:
        exchange = Exchange(behind_s=5)
        exchange.end(10)
        assert exchange.deadline == 10 + 8 + 5
        exchange.receive(self.SPEAKS, 12)
        exchange.receive(self.heard(""), 12)
        assert exchange.complaint("it") == "Nothing was recognised in it."
        exchange.receive(self.heard("go"), 13)
        assert exchange.deadline == 13 + 8 + 5
        assert exchange.complaint("it") == "No answer came to it."

    def test_the_gateway_says_when_an_answer_is_over(self) -> None:
        exchange = Exchange()
        exchange.end(10)
        exchange.receive(self.heard("go"), 11)
        exchange.receive(self.STARTED, 12)
        assert exchange.deadline == 12 + 8
        exchange.receive(self.PIECE, 18)
        assert exchange.deadline == 18 + 8, "it goes on"
        exchange.receive(self.DONE, 19)
        assert exchange.deadline == 19 + 0.3
        assert exchange.complaint("it") is None

    @pytest.mark.parametrize("due", [SPEAKS, CALL], ids=["speech", "tool"])
    def test_another_answer_is_due(self, due: extension.ServerMessage) -> None:
        exchange = Exchange()
        exchange.end(10)
        exchange.receive(self.STARTED, 11)
        exchange.receive(due, 12)
        exchange.receive(self.DONE, 13)
        assert exchange.deadline == 13 + 8
        exchange.receive(self.STARTED, 14)
        exchange.receive(self.DONE, 15)
        assert exchange.deadline == 15 + 0.3

    def test_answered_before_the_end_of_speech(self) -> None:
        exchange = Exchange()
        exchange.receive(self.STARTED, 3)
        exchange.receive(self.DONE, 4)
        exchange.end(10)
        assert exchange.deadline == 10 + 3, "its last words may be on their way"

    def test_an_engine_that_may_still_hear(self) -> None:
        exchange = Exchange(behind_s=5)
        exchange.end(10)
        exchange.receive(self.STARTED, 11)
        exchange.receive(self.DONE, 12)
        assert exchange.deadline == 15

    def test_what_says_nothing_of_an_answer(self) -> None:
        exchange = Exchange()
        exchange.end(10)
        exchange.receive(AuthSuccess(timestamp=0, session_id="", user_id=""), 15)
        assert exchange.deadline == 18

    def test_nothing_can_come_while_the_connection_is_lost(self) -> None:
        resumed = extension.Resumed(
            timestamp=0,
            session_id="",
            resume_token="",
            next_sequence=0,
            replayed=0,
            lossy=False,
            received=0,
        )
        exchange = Exchange()
        exchange.end(10)
        exchange.lost()
        exchange.receive(self.heard("go"), 11)
        deadlines = [exchange.deadline]
        exchange.lost()  # again, before it is read that it was resumed
        for now in (30, 40, 50):
            exchange.receive(resumed, now)
            deadlines.append(exchange.deadline)
        assert deadlines == [None, None, 40 + 8, 50 + 8]

    def test_a_base_session_is_not_resumed(self) -> None:
        turn = Turn()
        turn.end(10)
        turn.lost()
        assert turn.deadline == 18


@pytest.mark.usefixtures("quick")
class TestTalk:
    async def said(self, script: Script, *words: str | Path) -> int:
        async with scripted_gateway(script) as url:
            return await talk(arguments(*words, "--url", url))

    async def test_results_are_printed(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert await self.said(answering, FILE, "--fast") == 0
        assert capsys.readouterr() == ("You: go forward\nAntiphon: Going forward.\n", "")

    @pytest.mark.parametrize("format_", ["LINEAR16", "FLAC"])
    @pytest.mark.parametrize("rate_hz", [8000, 16_000, 44_100])
    async def test_every_sample_arrives(self, format_: str, rate_hz: int, tmp_path: Path) -> None:
        pcm = tone(rate_hz, rate_hz * 2 + 77)
        heard = b""
        peers = []

        async def script(peer: Peer) -> None:
            nonlocal heard
            peers.append(peer)
            await peer.accept()
            heard = await peer.hear()
            await peer.answer("Yes.")

        file = write_wav(tmp_path / "a.wav", pcm, rate_hz)
        assert await self.said(script, file, "--fast", "--format", format_, "--language", "de-AT") == 0
        start, first, *_, end = peers[0].received[1:]
        assert start["config"] == {"sampleRate": rate_hz, "format": format_, "language": "de-AT"}
        assert end["duration"] == pytest.approx(2000 + 77_000 / rate_hz)
        assert first["sequence"] == 0
        decoded = AudioStream("FLAC", rate_hz) if format_ == "FLAC" else AudioStream("LINEAR16", rate_hz)
        plain = AudioStream("LINEAR16", rate_hz)
        assert decoded.feed(0, heard).pcm + decoded.flush().pcm == plain.feed(0, pcm).pcm + plain.flush().pcm

    async def test_real_time(self, tmp_path: Path) -> None:
        arrivals: list[float] = []

        async def script(peer: Peer) -> None:
            await peer.accept()
            while not isinstance(await peer.receive(), AudioStreamEnd):
                arrivals.append(time.monotonic())
            arrivals.append(time.monotonic())
            await peer.answer("Yes.")

        begin = time.monotonic()
        assert await self.said(script, write_wav(tmp_path / "a.wav", speech()[:32_000])) == 0
        assert len(arrivals) == 1 + 10 + 1
        assert arrivals[-1] - begin >= 1.0, "not faster than it is spoken"
        # Each is late by what the machine is, and the next makes up for it.
        assert all(at - begin >= 0.1 * number for number, at in enumerate(arrivals[1:-1], 1))

    async def test_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.hear()
            pretty = {"type": "recognition_result", "timestamp": 1, "transcript": "a\nb", "confidence": 0}
            await peer.socket.send(json.dumps({**pretty, "isFinal": True}, indent=2))
            await peer.fail("AUDIO_CORRUPT", "A little.")
            await peer.answer("Yes.")

        assert await self.said(script, FILE, "--fast", "--json") == 0
        out, err = capsys.readouterr()
        printed = [json.loads(line) for line in out.splitlines()]
        assert [message["type"] for message in printed] == [
            "auth_success",
            "recognition_result",
            "error",
            "audio_response",
        ]
        assert printed[1]["transcript"] == "a\nb"
        assert err == "antiphon: A little. (AUDIO_CORRUPT)\n"

    async def test_files_are_turns_of_one_conversation(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        peers = []

        async def script(peer: Peer) -> None:
            peers.append(peer)
            await peer.accept()
            for number, rate_hz in enumerate((24_000, 16_000)):
                await peer.hear()
                await peer.result(f"words {number}")
                await peer.answer(f"Answer {number}.", 300, rate_hz)

        first = write_wav(tmp_path / "first.wav", speech()[:16_000])
        second = write_wav(tmp_path / "second.wav", speech()[:16_000], 8000)
        assert await self.said(script, first, second, "--fast", "--save", tmp_path / "to" / "here") == 0
        assert len(peers) == 1
        sequences = [message.get("sequence") for message in peers[0].received]
        assert sequences.count(0) == 2, "each is a stream of its own"
        assert capsys.readouterr().out.splitlines() == [
            "You: words 0",
            "Antiphon: Answer 0.",
            "You: words 1",
            "Antiphon: Answer 1.",
        ]
        for name, rate_hz in (("first", 24_000), ("second", 16_000)):
            with wave.open(str(tmp_path / "to" / "here" / f"{name}.answer.wav"), "rb") as file:
                parameters = (
                    file.getframerate(),
                    file.getnframes(),
                    file.getnchannels(),
                    file.getsampwidth(),
                )
            assert parameters == (rate_hz, rate_hz * 3 // 10, 1, 2)

    async def test_commands(self, capsys: pytest.CaptureFixture[str]) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.hear()
            await peer.result("next\x1b[2J", command="next")
            await peer.answer("Done. ")
            await peer.result("slower")
            await peer.answer("Slower.")
            await peer.result("slower", command="slower")

        assert await self.said(script, FILE, "--fast") == 0
        assert capsys.readouterr().out.splitlines() == [
            "You: next [2J [next]",
            "Antiphon: Done.",
            "You: slower",
            "[slower]",
            "Antiphon: Slower.",
        ]

    async def test_a_long_answer_is_heard_to_its_end(self, capsys: pytest.CaptureFixture[str]) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.hear()
            await peer.result("words")
            for number in range(8):
                await peer.answer(f"{number} ", 300)
                await asyncio.sleep(0.1)

        assert await self.said(script, FILE, "--fast") == 0
        assert capsys.readouterr().out == "You: words\nAntiphon: 0 1 2 3 4 5 6 7\n"

    async def test_silence(self, capsys: pytest.CaptureFixture[str]) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.hear()
            await peer.hear()
            await peer.result("words")

        file = SPEECH / "ps_0880.wav"
        assert await self.said(script, FILE, file, "--fast") == 1
        assert capsys.readouterr() == (
            "You: words\n",
            f"antiphon: Nothing was recognised in {FILE.name}.\nantiphon: No answer came to {file.name}.\n",
        )

    async def test_closed_while_speaking(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.receive()
            await peer.fail("SERVER_DRAINING", "Going.", 1001)

        with pytest.raises(Closed, match=r"^The gateway closed the connection: Going.$"):
            await self.said(script, FILE)

    async def test_token_expired_while_listening(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.hear()
            await peer.fail("AUTH_TOKEN_EXPIRED", "Expired.", 4440)

        with pytest.raises(TalkError, match="refused the token; get a new one with"):
            await self.said(script, FILE, "--fast")

    async def test_answers_that_cannot_be_saved(self, tmp_path: Path) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.hear()
            piece = {"data": "", "format": format_, "duration": 1, "text": "", "language": "en"}
            await peer.send("audio_response", **piece)

        for format_ in ("audio/opus", "audio/pcm", "audio/pcm;rate=fast", ""):
            with pytest.raises(TalkError, match=f"The answer comes as {format_}, which cannot be saved"):
                await self.said(script, FILE, "--fast", "--save", tmp_path)
        blocked = tmp_path / "file"
        blocked.touch()
        with pytest.raises(TalkError, match=r"ps_goforward.answer.wav cannot be written: Not a directory\."):
            await self.said(answering, FILE, "--fast", "--save", blocked / "below")


@pytest.mark.usefixtures("quick")
class TestExtended:
    """By antiphon.v1, where the gateway speaks it."""

    async def said(self, script: Script, *words: str | Path) -> int:
        async with scripted_gateway(script, **EXTENDED) as url:
            return await talk(arguments(*words, "--url", url, "--fast"))

    async def test_what_nobody_listens_to_counts_as_played(self, capsys: pytest.CaptureFixture[str]) -> None:
        peers = []

        async def script(peer: Peer) -> None:
            peers.append(peer)
            await peer.accept()
            await peer.hear()
            await peer.result("go forward")
            await peer.update("user", "go forward", of="u1", final=True)
            await peer.respond("Going forward.", duration_ms=10_000)

        assert await self.said(script, FILE) == 0
        assert capsys.readouterr() == ("You: go forward\nAntiphon: Going forward.\n", "")
        hello = next(message for message in peers[0].received if message["type"] == "client_hello")
        assert peers[0].marks == [("r1", 10_000)]
        assert hello == {"type": "client_hello", "features": ["playback_mark"], "playbackBufferMs": 30_000}

    async def test_the_transcript_is_what_was_heard(self, capsys: pytest.CaptureFixture[str]) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.hear()
            await peer.send("response_started", responseId="r1", format="audio/wav", language="en")
            await peer.update("model", "A long story.", final=False)
            await peer.answer("A long story.")
            await peer.send("audio_flush", responseId="r1", reason="interrupted")
            await peer.send("response_done", responseId="r1", status="interrupted")
            while ("r1", 100.0) not in peer.marks:
                await peer.receive()
            await peer.result("stop")
            await peer.update("model", "A long", revision=2, final=True)
            await peer.update("user", "stop", of="u2", final=True)
            await peer.respond("I stop.", of="r2")

        assert await self.said(script, FILE) == 0
        assert capsys.readouterr().out.splitlines() == [
            "Antiphon: A long",
            "You: stop",
            "Antiphon: I stop.",
        ]

    async def test_each_response_is_a_file_where_it_is_a_stream(self, tmp_path: Path) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.hear()
            for number in (1, 2):
                await peer.send("response_started", responseId="r", format="audio/flac", language="en")
                for part in range(2):
                    piece = {"data": "AAA=", "format": "audio/flac", "duration": number, "text": ""}
                    await peer.send("audio_response", **piece, language=str(part))
                await peer.send("response_done", responseId="r", status="completed")

        assert await self.said(script, FILE, "--output", "flac", "--save", tmp_path) == 0
        names = ["ps_goforward.answer.2.flac", "ps_goforward.answer.flac"]
        assert sorted(path.name for path in tmp_path.iterdir()) == names
        assert [(tmp_path / name).read_bytes() for name in names] == [bytes(4)] * 2

    async def test_what_is_not_offered(self, capsys: pytest.CaptureFixture[str]) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.hear()
            await peer.answer("Yes.")

        assert await self.said(script, FILE, "--output", "opus", "--base", "--binary") == 0
        assert capsys.readouterr().err.splitlines() == [
            "antiphon: The gateway offers no answers as opus; they come as pcm.",
            "antiphon: The gateway takes no binary frames; audio travels as JSON.",
        ]

    async def test_push_to_talk_needs_it(self) -> None:
        with pytest.raises(BaseOnly, match="has the base messages only"):
            await self.said(answering, FILE, "--push-to-talk", "--base")


@pytest.mark.usefixtures("quick")
class TestLostConnection:
    """It is survived, and told in a line."""

    @staticmethod
    async def answer(gateway: ResumingGateway) -> None:
        """Answer what was spoken, cut while that is said."""
        await gateway.send("recognition_result", transcript="go", confidence=0.5, isFinal=True)
        await gateway.send("response_started", responseId="r1", format="audio/wav", language="en")
        gateway.cut()
        update = {"role": "model", "utteranceId": "r1", "revision": 1, "text": "Going.", "isFinal": True}
        await gateway.send("transcript_update", **update)
        await gateway.send("response_done", responseId="r1", status="completed")

    @staticmethod
    async def until(gateway: ResumingGateway, kind: type[object]) -> None:
        async with asyncio.timeout(10):
            while not any(isinstance(message, kind) for message in gateway.came):
                await asyncio.sleep(0.005)

    @pytest.mark.parametrize("words", [(), ("--push-to-talk",)])
    async def test_by_file(self, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
        async with resuming_gateway() as gateway:
            args = arguments(FILE, "--url", gateway.url, "--fast", *words)
            talking = asyncio.create_task(talk(args))
            await self.until(gateway, AudioChunk)
            gateway.cut()
            await self.until(gateway, AudioStreamEnd)
            await self.answer(gateway)
            assert await talking == 0
        sequences = [message.sequence for message in gateway.came if isinstance(message, AudioChunk)]
        assert sequences == list(range(len(sequences)))
        assert sum(isinstance(message, extension.ActivityEnd) for message in gateway.came) == len(words)
        out, err = capsys.readouterr()
        assert out == "You: go\nAntiphon: Going.\n"
        assert err.splitlines()[0] == "· connection lost, resuming"
        assert err.splitlines()[-1].startswith("· resumed, ")

    async def test_patience_is_for_answers_not_for_connections(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        async with resuming_gateway() as gateway:
            talking = asyncio.create_task(talk(arguments(FILE, "--url", gateway.url, "--fast")))
            await self.until(gateway, AudioStreamEnd)
            gateway.attempts.append(refusing("SERVER_AT_CAPACITY", 1013, retryAfterMs=600))
            gateway.cut()
            await asyncio.sleep(0.5)
            assert not talking.done(), "though it waits for an answer for 0.4 s only"
            await self.answer(gateway)
            assert await talking == 0
        err = capsys.readouterr().err.splitlines()
        assert err.count("· connection lost, resuming") == len(err) - 1
        assert re.fullmatch(r"· resumed, [1-9] messages replayed", err[-1])

    async def test_by_voice(self, capsys: pytest.CaptureFixture[str]) -> None:
        async with resuming_gateway() as gateway:
            talking = asyncio.create_task(talk(arguments("--url", gateway.url), FakeSound()))
            await self.until(gateway, AudioChunk)
            gateway.lossy = True
            gateway.cut()
            rotation = {"reason": "go_away", "contextRestored": True, "gapMs": 140, "lostAudioMs": 0}
            await gateway.send("session_rotated", **rotation, replayedAudioMs=0, upstream="primary")
            for reason, upstream in (("fallback", "fallback"), ("recovered", "primary")):
                change = rotation | {"reason": reason, "upstream": upstream}
                await gateway.send("session_rotated", **change, replayedAudioMs=0)
            count = len(gateway.chunks)
            async with asyncio.timeout(10):
                while len(gateway.chunks) < count + 3:
                    await asyncio.sleep(0.005)
            await gateway.close(1000)
            with pytest.raises(Closed):
                await talking
        sequences = [message.sequence for message in gateway.chunks]
        assert sequences == list(range(len(sequences)))
        lost, resumed, renewed, away, back = capsys.readouterr().err.splitlines()
        assert lost == "· connection lost, resuming"
        assert re.fullmatch(r"· resumed, \d+ messages? replayed, others are lost", resumed)
        assert renewed == "· the model's connection was renewed (gap 140 ms, lost 0 ms)"
        assert away == "· the model cannot be reached; the gateway's own engine answers in its place"
        assert back == "· the model answers again"

    @pytest.mark.parametrize("by_voice", [False, True])
    async def test_it_cannot_be_resumed(self, by_voice: bool) -> None:
        async with resuming_gateway() as gateway:
            gateway.attempts.extend([lose, refusing("SESSION_RESUME_REFUSED", None)])
            args = arguments(*([] if by_voice else [FILE]), "--url", gateway.url)
            talking = asyncio.create_task(talk(args, FakeSound()))
            await self.until(gateway, AudioChunk)
            gateway.cut()
            with pytest.raises(SessionLost, match=r"the gateway has the session no more\. Connect anew\.$"):
                await talking

    async def test_it_is_not_to_be_resumed(self) -> None:
        async with resuming_gateway() as gateway:
            talking = asyncio.create_task(talk(arguments(FILE, "--url", gateway.url, "--no-resume")))
            await self.until(gateway, AudioChunk)
            gateway.cut()
            with pytest.raises(Closed, match=r"^The connection to the gateway was lost\.$"):
                await talking
        assert gateway.connections == 1


class TestVoice:
    """By a microphone and a loudspeaker of ours; most of it is tested with a real gateway."""

    async def said(self, script: Script, *words: str) -> FakeSound:
        sound = FakeSound()
        async with scripted_gateway(script, **EXTENDED) as url:
            await talk(arguments(*words, "--url", url), sound)
        return sound

    async def test_the_gateway_goes_away(self, capsys: pytest.CaptureFixture[str]) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.until(AudioChunk)
            await peer.fail("SERVER_DRAINING", "Going.", 1001)

        with pytest.raises(Closed, match=r"^The gateway closed the connection: Going.$"):
            await self.said(script)
        assert capsys.readouterr().err == "antiphon: Going. (SERVER_DRAINING)\n"

    async def test_an_answer_that_cannot_be_played(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.until(extension.ClientHello)
            await peer.send("response_started", responseId="r1", format="audio/pcm", language="en-US")
            await peer.answer("Yes.", rate_hz=16_000)

        with pytest.raises(
            SoundError, match="The answer comes as audio/pcm;rate=16000, which cannot be played"
        ):
            await self.said(script)

    async def test_a_tool_call_is_declined(self) -> None:
        declined: list[extension.ToolResult] = []

        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.send("tool_call", callId="c1", name="next", args={}, deadlineMs=1000)
            declined.append(await peer.until(extension.ToolResult))
            await peer.socket.close(1000)

        with pytest.raises(Closed, match=r"\(1000\)"):
            await self.said(script)
        assert declined[0].error == "This client carries out no commands."

    async def test_what_is_played_is_told(self) -> None:
        marks: list[tuple[str, float]] = []

        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.until(extension.ClientHello)
            await peer.respond("Yes.", duration_ms=300)
            marks.extend(peer.marks)
            await peer.socket.close(1000)

        with pytest.raises(Closed):
            await self.said(script)
        assert marks[-1] == ("r1", 300)


class TestRun:
    """The exit status, and a sentence in place of a traceback."""

    async def test_done(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Turn, "TAIL_S", 0.1)
        async with scripted_gateway(answering) as url:
            assert await asyncio.to_thread(run, arguments(FILE, "--url", url, "--fast")) == 0

    async def test_token_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        async def script(peer: Peer) -> None:
            await peer.receive()
            await peer.fail("AUTH_TOKEN_INVALID", "No.", 4401)

        async with scripted_gateway(script) as url:
            assert await asyncio.to_thread(run, arguments(FILE, "--url", url)) == 1
        hint = "get a new one with `antiphon token --user NAME`."
        assert capsys.readouterr() == ("", f"antiphon: The gateway at {url} refused the token; {hint}\n")

    def test_no_token(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(arguments(FILE, token=None)) == 1
        assert capsys.readouterr().err.startswith("antiphon: There is no token: give --token, ")

    def test_no_file(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(arguments("missing.wav")) == 1
        assert capsys.readouterr().err == "antiphon: missing.wav cannot be read: No such file or directory.\n"

    async def test_no_gateway(self, capsys: pytest.CaptureFixture[str]) -> None:
        async with scripted_gateway(answering) as url:
            pass
        assert await asyncio.to_thread(run, arguments(FILE, "--url", url)) == 1
        assert capsys.readouterr().err == f"antiphon: Nothing listens at {url}; is the gateway running?\n"

    def test_settings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("ANTIPHON_URL", raising=False)
        monkeypatch.delenv("ANTIPHON_TOKEN", raising=False)
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        args = parser.parse_args(["a"])
        assert (args.url, args.token, args.language) == ("ws://127.0.0.1:8080/ws", None, "en-US")
        monkeypatch.setenv("ANTIPHON_URL", "ws://there/ws")
        monkeypatch.setenv("ANTIPHON_TOKEN", "mine")
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        args = parser.parse_args(["a"])
        assert (args.url, args.token) == ("ws://there/ws", "mine")


PROGRAM = """
import argparse, sys
from antiphon.talk import Turn, add_arguments, run
Turn.TAIL_S = 0.3
parser = argparse.ArgumentParser()
add_arguments(parser)
sys.exit(run(parser.parse_args()))
"""


class TestTerminal:
    @staticmethod
    def command(url: str, *words: str) -> list[str]:
        return [sys.executable, "-c", PROGRAM, str(FILE), "--url", url, "--token", "a token", *words]

    @staticmethod
    async def shown(terminal: int, process: asyncio.subprocess.Process, status: int = 0) -> str:
        """Return what a terminal got by the end of the program."""
        output = bytearray()
        closed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def take() -> None:
            try:
                data = os.read(terminal, 65_536)
            except OSError:  # as Linux says that nobody has the other end any more
                data = b""
            output.extend(data)
            if not data:
                loop.remove_reader(terminal)
                closed.set()

        loop.add_reader(terminal, take)
        assert await process.wait() == status
        async with asyncio.timeout(10):
            await closed.wait()
        return output.decode()

    async def test_partial_results_are_replaced_in_place(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            for word in ("go", "go for"):
                await peer.result(word, final=False)
                await asyncio.sleep(0.4)
            await peer.hear()
            await peer.result("go forward")
            await peer.answer("Going.", 500)

        master, slave = pty.openpty()
        async with scripted_gateway(script) as url:
            process = await asyncio.create_subprocess_exec(
                *self.command(url, "--fast"),
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env={**os.environ, "TERM": "xterm"},
            )
            os.close(slave)
            output = await self.shown(master, process)
        os.close(master)
        assert (
            output.index("You: go for") < output.index("You: go forward") < output.rindex("Antiphon: Going.")
        )
        assert FILE.name in output, "a progress bar"
        assert "\x1b[1A" in output, "the cursor goes up to write over what was provisional"
        assert "\x1b[?25h" in output, "and is shown again"

    async def test_a_pipe_gets_final_results_only(self) -> None:
        master, slave = pty.openpty()
        async with scripted_gateway(answering) as url:
            process = await asyncio.create_subprocess_exec(
                *self.command(url, "--fast"), stdout=subprocess.PIPE, stderr=slave
            )
            os.close(slave)
            assert process.stdout is not None
            screen, out = await asyncio.gather(self.shown(master, process), process.stdout.read())
        os.close(master)
        assert out == b"You: go forward\nAntiphon: Going forward.\n"
        assert FILE.name in screen

    async def test_interrupted(self) -> None:
        begun = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.receive()
            begun.set()

        async with scripted_gateway(script) as url:
            process = await asyncio.create_subprocess_exec(
                *self.command(url), stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            await begun.wait()
            process.send_signal(signal.SIGINT)
            assert await process.communicate() == (b"", b"")
            assert process.returncode == 130

    @pytest.mark.parametrize("words", [(), ("--push-to-talk",)])
    async def test_talking_by_voice_is_interrupted(self, words: tuple[str, ...]) -> None:
        begun = asyncio.Event()
        master, slave = pty.openpty()

        async def script(peer: Peer) -> None:
            await peer.accept()
            if words:
                await peer.until(extension.ActivityStart)
            await peer.until(AudioChunk)
            begun.set()

        command = [word for word in self.command("", *words) if word != str(FILE)]
        async with scripted_gateway(script, **EXTENDED) as url:
            process = await asyncio.create_subprocess_exec(
                *(url if word == "" else word for word in command),
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "sound_library")},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=slave,
            )
            os.close(slave)
            assert process.stdin is not None
            process.stdin.write(b"\n")
            await begun.wait()
            process.send_signal(signal.SIGINT)
            assert process.stdout is not None
            assert await process.stdout.read() == b""
            output = await self.shown(master, process, 130)
        os.close(master)
        assert output.count("Ctrl-C ends.") == 1
        assert "Traceback" not in output

    async def test_a_reader_that_leaves(self) -> None:
        """`antiphon talk --json | head -1`: the command line turns this error into silence."""
        reader, writer = os.pipe()
        async with scripted_gateway(answering) as url:
            os.close(reader)
            process = await asyncio.create_subprocess_exec(
                *self.command(url, "--fast", "--json"), stdout=writer, stderr=subprocess.PIPE
            )
            os.close(writer)
            _, err = await process.communicate()
        assert err.strip().splitlines()[-1].startswith(b"BrokenPipeError")
        assert b"ExceptionGroup" not in err
