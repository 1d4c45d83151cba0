"""The engine with faults, as a client meets it by real gRPC, with an ear that reads and a voice that hums."""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from antiphon.engine import wire
from antiphon.engine.faults import connections
from antiphon.engine.faults.connections import Connection, Faults
from antiphon.engine.faults.injector import Injector
from antiphon.engine.faults.kinds import Status
from antiphon.engine.faults.plan import Plan
from antiphon.engine.faults.script import parse
from antiphon.engine.memory import Handles
from antiphon.engine.server import add_arguments, listen, run, serving
from antiphon.engine.stream import Parts
from loopback_engine import ALL, MODEL, Call, Engine, Hum, Reader, pcm, said, spoken

QUIET_S = 0.3
"""So long nothing comes where nothing is to come."""


class Patient(Call):
    """A client that can wait for nothing: gRPC ends a call of which a read is cancelled."""

    def __init__(self, call: Any) -> None:
        super().__init__(call)
        self._reading: asyncio.Task[Any] | None = None

    async def receive(self) -> Any:
        reading, self._reading = self._reading or asyncio.ensure_future(self.call.read()), None
        message = await reading
        if message is grpc.aio.EOF:
            raise EOFError
        return message

    async def silence(self, seconds: float = QUIET_S) -> None:
        """Nothing comes, and the call stays open."""
        self._reading = self._reading or asyncio.ensure_future(self.call.read())
        await asyncio.wait([self._reading], timeout=seconds)
        assert not self._reading.done(), self._reading.result()

    def leave(self) -> None:
        if self._reading:
            self._reading.cancel()
        self.call.cancel()


class Misbehaving(Engine):
    """A running engine with faults, and the lines that it told."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.told: list[str] = []

    @asynccontextmanager
    async def call(self) -> AsyncIterator[Patient]:
        call = Patient(self._method())
        try:
            async with asyncio.timeout(20):
                yield call
        finally:
            call.leave()


@asynccontextmanager
async def engine(*faults: str, voice: Hum | None = None) -> AsyncIterator[Misbehaving]:
    script = parse("\n".join(f"[[fault]]\n{one}" for one in faults), "f.toml")
    parts = Parts(Reader, voice or Hum(), Handles(), lambda: datetime(2026, 1, 1, tzinfo=UTC), 600.0)
    server, port = listen("127.0.0.1", 0)
    running = Misbehaving(port)
    try:
        async with serving(server, parts, 64, Faults(script, running.told.append).around):
            yield running
    finally:
        await running.channel.close()


def now() -> float:
    return asyncio.get_running_loop().time()


async def resume(running: Misbehaving, handle: str) -> tuple[str, str]:
    """Set up with a handle; return the status, READY where it is taken."""
    async with running.call() as call:
        await call.send({"setup": {**ALL, "sessionResumption": {"handle": handle}}})
        try:
            await call.receive()
        except (EOFError, grpc.aio.AioRpcError):
            return await call.status()
        return "READY", ""


async def a_handle(running: Misbehaving) -> str:
    """Hold a conversation for a moment; return its handle."""
    async with running.call() as call:
        await call.setup()
        return await call.handle()


# ---- the end


@pytest.mark.parametrize("status", [one for one in get_args(Status) if one != "OK"])
async def test_every_status(status: str) -> None:
    fault = f'kind = "end"\nat = "setup"\nstatus = "{status}"\ndetails = "so it is"'
    async with engine(fault) as running, running.call() as call:
        await call.send({"setup": ALL})
        assert await call.status() == (status, "so it is")
    assert running.told[0].startswith("connection 1, 0.0")
    assert running.told[0].endswith(f"s: fault 1 (end) strikes: the end with {status}: so it is")


async def test_the_status_ok_and_an_abrupt_end() -> None:
    async with engine(
        'kind = "end"\nstatus = "OK"\nconnections = [1]', 'kind = "end"\nconnections = [2]'
    ) as running:
        async with running.call() as call:
            await call.setup()
            assert await call.status() == ("OK", "")
        async with running.call() as call:
            await call.setup()
            assert await call.status() == ("UNAVAILABLE", "")
        async with running.call() as call:
            await call.setup()
            await call.handle()


async def test_a_status_says_when_to_try_again() -> None:
    fault = 'kind = "end"\nat = "start"\nstatus = "RESOURCE_EXHAUSTED"\ndetails = "quota"\nretry_s = 1.5'
    async with engine(fault) as running, running.call() as call:
        assert await call.status() == ("RESOURCE_EXHAUSTED", "quota")
        trailers = dict(await call.call.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    retry = error_details_pb2.RetryInfo()
    assert (status.code, status.message, status.details[0].Unpack(retry)) == (8, "quota", True)
    assert retry.retry_delay.ToMilliseconds() == 1_500


@pytest.mark.parametrize("moment", ["turn_end", "answer", "tool_call", "tool_result", "turn_complete"])
async def test_an_end_at_a_moment(moment: str) -> None:
    fault = f'kind = "end"\nat = "{moment}"' + ("\nanswer_ms = 250" if moment == "answer" else "")
    async with engine(fault, voice=Hum(seconds=0.5)) as running, running.call() as call:
        await call.setup(**MODEL, tools=ALL["tools"])
        got = []
        try:
            await call.type("next" if moment.startswith("tool") else "hello")
            while True:
                got.append(await call.receive())
                if got[-1].HasField("tool_call"):
                    await call.result(got[-1].tool_call.function_calls[0].id, {})
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            assert await call.status() == ("UNAVAILABLE", "")
    assert len(spoken(got)) == {"answer": 250 * 48, "turn_complete": 2 * 500 * 48}.get(moment, 0)
    assert any(one.HasField("tool_call") for one in got) is moment.startswith("tool")
    assert any(one.server_content.turn_complete for one in got) is (moment == "turn_complete")


async def test_an_end_after_so_much_audio() -> None:
    async with engine('kind = "end"\nat = "audio"\naudio_s = 2') as running, running.call() as call:
        await call.setup(**MODEL)
        await call.audio(bytes(32_000))
        await asyncio.sleep(QUIET_S)
        assert running.told == []
        await call.audio(bytes(32_000))
        assert (await call.status())[0] == "UNAVAILABLE"


async def test_go_away_and_the_end_after_it() -> None:
    fault = 'kind = "go_away"\nafter_s = 0.2\ntime_left_s = 0.4\ndetails = "bye"\nthen = "CANCELLED"'
    async with engine(fault) as running, running.call() as call:
        await call.setup(**MODEL)
        began = now()
        assert (await call.receive()).go_away.time_left.ToMilliseconds() == 400
        assert now() - began > 0.15
        assert await call.status() == ("CANCELLED", "bye")
        assert now() - began > 0.55


async def test_an_end_comes_even_to_a_client_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LAST_WRITE_S", 0.1)
    fault = 'kind = "end"\nafter_s = 0.5'
    async with engine(fault, voice=Hum(seconds=60.0)) as running, running.call() as call:
        await call.setup(**MODEL)
        await call.type("thanks")
        await asyncio.sleep(1.0)
        assert len(running.told) == 1
        assert (await call.status())[0] == "UNAVAILABLE"


# ---- silence


async def test_silence_after_a_turn() -> None:
    async with engine('kind = "mute"\nat = "turn_complete"\nnth = 2') as running, running.call() as call:
        await call.setup(**ALL)
        for _ in range(2):
            await call.type("thanks")
            assert said(await call.turn()) == "You're welcome."
        await call.type("thanks")
        await call.audio(pcm("hello\n"))
        await call.silence()
        # It ends neither when the client has sent all.
        await call.call.done_writing()
        await call.silence()


async def test_silence_after_go_away_while_the_call_stays_open() -> None:
    faults = ('kind = "go_away"\nthen = "never"\ntime_left_s = 0.1', 'kind = "mute"\nat = "go_away"')
    async with engine(*faults) as running, running.call() as call:
        await call.setup(**MODEL)
        assert (await call.receive()).HasField("go_away")
        await call.type("thanks")
        await call.silence()


async def test_who_is_not_read_feels_it() -> None:
    async with engine('kind = "mute"\nreads = false') as running, running.call() as call:
        await call.setup(**MODEL)
        sent_s = 0

        async def send() -> None:
            nonlocal sent_s
            while True:
                await call.audio(bytes(32_000))
                sent_s += 1

        sending = asyncio.create_task(send())
        before = -1
        while before != sent_s:
            before = sent_s
            await asyncio.sleep(0.2)
        sending.cancel()
        # What gRPC holds, and no more.
        assert sent_s < 400


async def test_a_pause_after_which_all_comes() -> None:
    async with engine('kind = "mute"\nat = "turn_end"\nfor_s = 1') as running, running.call() as call:
        await call.setup(**MODEL)
        await call.type("thanks")
        await call.silence()
        assert len(spoken(await call.turn())) == 4_800


async def test_a_set_up_that_is_never_acknowledged_and_one_that_is_late() -> None:
    async with engine(
        'kind = "mute"\nat = "setup"\nconnections = [1]',
        'kind = "late"\nmessages = "setup_complete"\nby_s = 1\nconnections = [2]',
    ) as running:
        async with running.call() as call:
            await call.send({"setup": ALL})
            await call.silence()
        async with running.call() as call:
            await call.send({"setup": ALL})
            await call.silence()
            assert (await call.receive()).HasField("setup_complete")
            assert (await call.receive()).HasField("session_resumption_update")


# ---- resumption


async def test_handles_are_refused_once() -> None:
    fault = 'kind = "refuse_handle"\nstatus = "PERMISSION_DENIED"\ndetails = "no"\ntimes = 1'
    async with engine(fault) as running:
        handle = await a_handle(running)
        assert await resume(running, handle) == ("PERMISSION_DENIED", "no")
        assert await resume(running, handle) == ("READY", "")


async def test_handles_expire() -> None:
    async with engine('kind = "expire_handles"\nlifetime_s = 1') as running:
        handle = await a_handle(running)
        assert await resume(running, handle) == ("READY", "")
        await asyncio.sleep(1.1)
        status, details = await resume(running, handle)
        assert (status, "may have expired" in details) == ("NOT_FOUND", True)


async def test_handles_are_held_for_a_while() -> None:
    async with engine('kind = "hold_handles"\nfor_s = 1') as running:
        async with running.call() as call:
            await call.setup()
            handle = await call.handle()
            began = now()
            assert (await resume(running, handle))[0] == "FAILED_PRECONDITION"
            # At once, not after the second that the engine gives the old connection.
            assert now() - began < 0.9
        await asyncio.sleep(0.1)
        assert (await resume(running, handle))[0] == "FAILED_PRECONDITION"
        await asyncio.sleep(1.1)
        assert (await resume(running, handle))[0] == "READY"


async def test_no_handles_until_a_turn() -> None:
    async with engine('kind = "no_handles"\nuntil_turn = 1') as running, running.call() as call:
        await call.setup()
        assert not (await call.receive()).session_resumption_update.resumable
        await call.type("thanks")
        await call.turn()
        handle = await call.handle()
        call.call.cancel()
        await asyncio.sleep(0.1)
        assert await resume(running, handle) == ("READY", "")


async def test_no_handles_for_a_while() -> None:
    async with engine('kind = "no_handles"\nfor_s = 1') as running, running.call() as call:
        await call.setup()
        assert not (await call.receive()).session_resumption_update.resumable
        await call.silence()
        assert await call.handle()


# ---- messages


async def test_a_final_that_comes_late_and_one_that_never_comes() -> None:
    for fault, seconds in (
        ('kind = "late"\nmessages = "final_transcription"\nby_s = 1', 1.0),
        ('kind = "lost"\nmessages = "final_transcription"', None),
    ):
        async with engine(fault) as running, running.call() as call:
            await call.setup(**MODEL, inputAudioTranscription={})
            began = now()
            await call.audio(pcm("thanks\n"))
            before = await call.turn()
            texts = [one.server_content.input_transcription.text for one in before]
            if seconds is None:
                assert "".join(texts) == ""
                await call.silence()
            else:
                last = await call.until(lambda one: one.server_content.HasField("input_transcription"))
                assert last[-1].server_content.input_transcription.text == "thanks"
                assert now() - began >= seconds


async def test_a_turn_that_is_never_complete() -> None:
    fault = 'kind = "lost"\nmessages = ["generation_complete", "turn_complete"]'
    async with engine(fault) as running, running.call() as call:
        await call.setup(**MODEL)
        await call.type("thanks")
        messages = [await call.receive()]
        await call.silence()
    assert len(spoken(messages)) == 4_800


# ---- tools


async def called(call: Call) -> str:
    await call.type("next")
    messages = await call.until(lambda message: message.HasField("tool_call"))
    return str(messages[-1].tool_call.function_calls[0].id)


async def test_a_result_that_is_ignored() -> None:
    async with engine('kind = "stuck_tool"\ntimes = 1') as running, running.call() as call:
        await call.setup()
        await call.result(await called(call), {})
        await call.silence()
        await call.type("thanks")
        assert said(await call.turn()) == ""  # the old one, interrupted
        assert said(await call.turn()) == "You're welcome."
        await call.result(await called(call), {})
        assert said(await call.turn()) == "Okay, next."


async def test_a_call_that_is_taken_back() -> None:
    async with engine('kind = "cancel_tool"\ncancel_s = 0.3') as running, running.call() as call:
        await call.setup(**MODEL, tools=ALL["tools"])
        call_id = await called(call)
        began = now()
        messages = await call.turn()
        assert messages[0].tool_call_cancellation.ids == [call_id]
        assert now() - began >= 0.25
        assert spoken(messages) == b""
        await call.result(call_id, {})  # too late, which does no harm
        await call.type("thanks")
        assert spoken(await call.turn())


async def test_a_call_that_comes_twice() -> None:
    async with engine('kind = "twice"') as running, running.call() as call:
        await call.setup(**MODEL, tools=ALL["tools"])
        call_id = await called(call)
        assert (await call.receive()).tool_call.function_calls[0].id == call_id
        for _ in range(2):
            await call.result(call_id, {})
        assert spoken(await call.turn())


# ---- speed


async def test_slow_reads_hold_up_the_client() -> None:
    async with engine('kind = "slow_reads"\nspeed = 10') as running, running.call() as call:
        await call.setup()
        began = now()
        for _ in range(5):
            await call.audio(pcm(" " * 15_999 + "\n"))
        await call.audio(pcm("thanks\n"))
        assert said(await call.turn()) == "You're welcome."
        assert now() - began >= 0.5


async def test_a_message_each_so_often() -> None:
    async with engine('kind = "slow_reads"\nmessage_ms = 100') as running, running.call() as call:
        await call.setup()
        began = now()
        for _ in range(4):
            await call.audio(bytes(320))
        await call.type("thanks")
        await call.turn()
        assert now() - began >= 0.4


async def test_answers_in_real_time_and_in_one_burst() -> None:
    async def answered(*keys: str) -> tuple[list[Any], float]:
        fault = "\n".join(('kind = "answer_audio"', *keys))
        async with engine(fault, voice=Hum(seconds=1.0)) as running, running.call() as call:
            await call.setup(**MODEL)
            await call.type("thanks")
            first = await call.receive()
            began = now()
            return [first, *await call.answer()], now() - began

    messages, took_s = await answered("speed = 2", "chunk_ms = 40")
    assert len(messages) == 25 + 1
    assert took_s > 0.4
    messages, took_s = await answered('speed = "burst"', "chunk_ms = 60000")
    assert [len(spoken([one])) for one in messages] == [48_000, 0]
    messages, _ = await answered("chunk_ms = 1")
    assert len(messages) == 1_000 + 1


async def test_an_interruption_of_an_answer_in_real_time() -> None:
    fault = 'kind = "answer_audio"\nspeed = 1'
    async with engine(fault, voice=Hum(seconds=10.0)) as running, running.call() as call:
        await call.setup(**MODEL)
        await call.type("thanks")
        await call.receive()
        await call.audio(pcm("th"))
        messages = await call.turn()
        assert messages[-2].server_content.interrupted
        assert len(spoken(messages)) < 48_000


async def test_more_streams_than_may_be_hang_until_one_ends() -> None:
    async with engine('kind = "max_streams"\nstreams = 1') as running, running.call() as first:
        await first.setup(**MODEL)
        async with running.call() as second:
            await second.send({"setup": MODEL})
            await second.silence()
            assert running.told[0].endswith("a connection beyond 1 at once hangs unread")
            first.call.cancel()
            assert (await second.receive()).HasField("setup_complete")
        async with running.call() as third:
            await third.setup(**MODEL)


async def test_more_streams_than_may_be_are_refused() -> None:
    fault = 'kind = "max_streams"\nstreams = 1\nexcess = "refuse"\ntimes = 1'
    async with engine(fault) as running, running.call() as first:
        await first.setup(**MODEL)
        async with running.call() as second:
            assert await second.status() == ("RESOURCE_EXHAUSTED", "Too many streams at once.")
        async with running.call() as third:
            await third.setup(**MODEL)


# ---- what stays as it is


async def test_the_engines_own_statuses_pass() -> None:
    async with engine('kind = "mute"\nconnections = [99]') as running:
        async with running.call() as call:
            await call.send({"setup": {}})
            assert await call.status() == ("INVALID_ARGUMENT", "setup.model is missing.")
        async with running.call() as call:
            await call.setup(**MODEL)
            await call.type("thanks")
            await call.call.done_writing()
            assert spoken(await call.turn())
            assert await call.status() == ("OK", "")


async def test_what_a_client_leaves_behind_goes_with_it() -> None:
    async with engine('kind = "mute"\nat = "turn_complete"', voice=Hum(seconds=0.2)) as running:
        before = len(asyncio.all_tasks())
        for _ in range(5):
            async with running.call() as call:
                await call.setup(**MODEL)
                await call.type("thanks")
                await call.turn()
        async with asyncio.timeout(10):
            while len(asyncio.all_tasks()) > before + 1:  # tasks of the server end without an event
                await asyncio.sleep(0.01)


class Gone:
    """A client's side that fails: gRPC's context once the client has vanished."""

    async def read(self) -> Any:
        await asyncio.Event().wait()

    async def write(self, _message: Any) -> None:
        raise grpc.aio.InternalError

    async def abort(self, code: Any, details: str, trailing_metadata: Any) -> None:
        raise AssertionError((code, details, trailing_metadata))

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        raise AssertionError(trailing_metadata)


async def test_a_client_that_vanishes_ends_it() -> None:
    script = parse('[[fault]]\nkind = "mute"\nconnections = [9]', "f.toml")

    async def converse(_requests: Any, context: Any) -> None:
        await context.write(wire.setup_complete())

    connection = Connection(Gone(), Injector(1, Plan(script), now()), print)
    async with asyncio.timeout(5):
        assert await connection.run(converse) is None


# ---- the command


def command(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(["--port", "0", *arguments])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "cannot be read: No such file or directory."),
        ("x = ", "is not valid TOML"),
        ('[[fault]]\nkind = "mut"', "fault 1: there is no kind 'mut'; did you mean mute?"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_sentence(
    text: str | None, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "f.toml"
    if text is not None:
        path.write_text(text)
    assert run(command("--faults", str(path))) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("antiphon engine: ")
    assert sentence in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.speech
@pytest.mark.slow
async def test_the_engine_says_what_it_will_do_and_what_it_does(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text('seed = 5\n[[fault]]\nkind = "end"\nat = "setup"\nstatus = "INTERNAL"\n')
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "antiphon.engine", "--port", "0", "--faults", path),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout
        assert process.stderr
        async with asyncio.timeout(60):
            lines = [(await process.stdout.readline()).decode() for _ in range(3)]
        assert lines[:2] == [
            f"faults of {path} (seed 5):\n",
            "  1  end: every connection, at the set-up: the end with INTERNAL\n",
        ]
        assert lines[2].startswith("engine ready on ")
        running = Engine(int(lines[2].rpartition(":")[2]))
        async with running.call() as call:
            await call.send({"setup": MODEL})
            assert (await call.status())[0] == "INTERNAL"
        await running.channel.close()
        told = (await process.stderr.readline()).decode()
        assert re.match(r"\d\d:\d\d:\d\d connection 1, 0\.\d+ s: fault 1 \(end\) strikes: ", told)
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()
    assert process.returncode == 0
