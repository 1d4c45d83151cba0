"""`antiphon serve --workers 2`: processes that share a port, and go on with each other's clients."""

from __future__ import annotations

import asyncio
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from antiphon import extension
from antiphon.auth import mint
from antiphon.cli import main
from fake_gemini import FakeGemini, Script, attentive, fake_gemini
from gateway.test_resume import LONG, PCM, Returning, sound, tells

from .running import Serving, antiphon, clean_environ, serving

SECRET = "a secret of this test suite, long enough for HS256"
FORWARD = Path(__file__).parents[1] / "speech" / "ps_goforward.wav"


class Node(Serving):
    """A gateway of several workers, and the model that it is before."""

    def __init__(self, running: Serving, model: FakeGemini) -> None:
        super().__init__(running.process, running.environ)
        self.port, self.lines, self.model = running.port, running.lines, model

    @property
    def supervisor(self) -> psutil.Process:
        return psutil.Process(self.process.pid)

    def worker(self, number: int) -> psutil.Process:
        (found,) = [
            child
            for child in self.supervisor.children()
            if command_of(child)[-2:] == ["antiphon.worker", str(number)]
        ]
        return found

    def family(self) -> list[psutil.Process]:
        return self.supervisor.children(recursive=True)


def command_of(process: psutil.Process) -> list[str]:
    """Return a process's command line; none of one that has just ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def token(user: str = "alice") -> str:
    return mint(SECRET, user, 600, time.time())


@asynccontextmanager
async def node(
    home: Path, script: Script = attentive, *options: str, **variables: str
) -> AsyncIterator[Node]:
    """Run two workers before a scripted model, until both are ready."""
    variables = {"ANTIPHON_JWT_SECRET": SECRET, "TMPDIR": str(folder_of(home)), **variables}
    async with fake_gemini(script) as model:
        arguments = ("--workers", "2", "--upstream", f"grpc://{model.target}", *options)
        async with serving(home, *arguments, **variables) as running:
            gateway = Node(running, model)
            await gateway.until_line("Ready")
            family = gateway.family()
            yield gateway
            if gateway.process.returncode is None:
                await gateway.stop(signal.SIGINT)
            await all_gone(family)
            assert not list(folder_of(home).glob("antiphon-*"))


def folder_of(home: Path) -> Path:
    """Return a folder for temporary files, whose name is short, as those of sockets have to be."""
    link = home / "short"
    if not link.exists():
        link.symlink_to(tempfile.mkdtemp(prefix="a"))
    return link.resolve()


async def all_gone(processes: list[psutil.Process]) -> None:
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, 10)
    assert not alive


@asynccontextmanager
async def at(
    gateway: Node, number: int | None = None, before: Returning | None = None
) -> AsyncIterator[Returning]:
    """Connect to a worker of this number, or to any: again and again, since the system chooses."""
    async with asyncio.timeout(30):
        while (client := await a_connection(gateway, number)) is None:
            pass
    async with client:
        yield Returning(client, before)


async def a_connection(gateway: Node, number: int | None) -> ClientConnection | None:
    """Return a connection to this worker; None where it came to another one, or to one that has just died."""
    protocols = [Subprotocol(extension.SUBPROTOCOL)]
    try:
        client = await connect(gateway.ws_url, subprotocols=protocols, close_timeout=0.1)
    except (OSError, InvalidHandshake):
        return None
    if number is None or holds(gateway.worker(number), client):
        return client
    await client.close()
    return None


def holds(process: psutil.Process, client: ClientConnection) -> bool:
    """Whether this process has the other end of a connection."""
    ours = client.transport.get_extra_info("sockname")
    return any(tuple(found.raddr) == ours for found in process.net_connections("tcp"))


async def closed(client: Returning) -> int | None:
    with pytest.raises(ConnectionClosed):
        while True:
            await client.receive()
    return client.socket.close_code


async def test_both_serve(tmp_path: Path) -> None:
    async with node(tmp_path) as gateway:
        assert len([line for line in gateway.lines if "Listening" in line or "Ready" in line]) == 2
        for number in (0, 1):
            async with at(gateway, number) as client:
                await client.auth(token())
                assert client.session_id.startswith(f"w{number}.")
                await client.start()
                await client.chunk(PCM)
                await client.end()
                await client.until("response_done")
        shown = [" ".join([*child.cmdline(), *child.environ()]) for child in gateway.family()]
        assert not any(SECRET in each for each in shown)


async def test_one_development_secret_for_all(tmp_path: Path) -> None:
    async with node(tmp_path, attentive, ANTIPHON_JWT_SECRET="") as gateway:
        await gateway.until_line("#token=")
        status, made, _ = await gateway.antiphon("token", "--user", "bob", "--port", str(gateway.port))
        assert status == 0
        for number in (0, 1):
            for each in (gateway.token, made.strip()):
                async with at(gateway, number) as client:
                    await client.auth(each)


@pytest.mark.parametrize("home", [0, 1])
async def test_a_client_comes_back_to_another_worker(tmp_path: Path, home: int) -> None:
    async with node(tmp_path, tells) as gateway:
        async with at(gateway, home) as first:
            await first.auth(token())
            await first.send("command", command="tell")
            for _ in range(3):
                await first.until("audio_response")
            first.cut()
        last = first
        for number in (1 - home, home, 1 - home):
            async with at(gateway, number, last) as last:
                resumed = await last.resume(token())
                assert (resumed["type"], resumed["lossy"]) == ("resumed", False), resumed
                await last.until("audio_response")
                last.cut() if number == home else None
        async with at(gateway, 1 - home, last) as last:
            await last.resume(token())
            await last.until("response_done")
            assert sound(last.got) == LONG
            assert last.got[-1]["status"] == "completed"
        assert len(gateway.model.conversations) == 1, "the model noticed nothing"


@pytest.mark.slow
async def test_a_client_that_is_passed_on_and_reads_too_slowly_is_cut_and_resumes(tmp_path: Path) -> None:
    """What waits for it is bounded all the way, and nothing of it is lost."""
    async with node(tmp_path, tells) as gateway:
        async with at(gateway, 0) as first:
            await first.auth(token())
            await first.hello(playbackBufferMs=30_000)
            first.cut()
        async with at(gateway, 1, first) as second:
            await second.resume(token())
            second.socket.transport.pause_reading()
            for _ in range(40):
                await second.send("command", command="tell")
            async with asyncio.timeout(40):
                while holds(gateway.worker(1), second.socket):
                    await second.hello()  # it lives, and is not cut for being silent
                    await asyncio.sleep(0.05)
            second.cut()
        async with at(gateway, 1, second) as third:
            assert (await third.resume(token()))["type"] == "resumed"
            await third.until("response_done", status="completed", within_s=20)


async def test_audio_goes_on_at_the_other_worker(tmp_path: Path) -> None:
    async with node(tmp_path) as gateway, at(gateway, 0) as first:
        await first.auth(token())
        await first.start()
        await first.chunk(PCM)
        await first.until("audio_ack")
        async with at(gateway, 1, first) as second:
            await second.send("client_hello")
            resumed = await second.resume(token())
            assert (await first.until("error"))[-1]["code"] == "SESSION_TAKEN_OVER"
            assert await closed(first) == 4409
            second.sequence = resumed["nextSequence"]
            for _ in range(50):
                await second.chunk(PCM)
            await second.end()
            await second.until("response_done", within_s=30)
        assert bytes(gateway.model.conversations[0].heard) == PCM * 51


async def test_who_may_not_resume_there_may_begin_there(tmp_path: Path) -> None:
    async with node(tmp_path) as gateway:
        async with at(gateway, 0) as first:
            await first.auth(token())
            spent = first.resume_token
            first.cut()
        async with at(gateway, 1, first) as second:
            refused = await second.resume(token("bob"))
            assert refused["code"] == "SESSION_RESUME_REFUSED"
            assert (await second.resume(token("bob"), sessionId="w1.none"))[
                "code"
            ] == "SESSION_RESUME_UNAVAILABLE"
            assert await closed(second) == 1013
        async with at(gateway, 1, first) as third:
            assert (await third.resume(token(), resumeToken="made up"))["type"] == "error"
            await third.auth(token())
            await third.send("command", command="hello")
            await third.until("response_done")
        async with at(gateway, 1, first) as fourth:
            fourth.session_id, fourth.resume_token = first.session_id, spent
            assert (await fourth.resume("no token"))["code"] == "AUTH_TOKEN_INVALID"


async def test_a_killed_worker_is_started_again(tmp_path: Path) -> None:
    """Its sessions are lost, with clients that another worker passes on; all others notice nothing."""
    async with node(tmp_path, tells) as gateway:
        async with at(gateway, 0) as lost:
            await lost.auth(token())
            lost.cut()
        async with at(gateway, 1) as well, at(gateway, 1, lost) as passed_on:
            await well.auth(token("bob"))
            await passed_on.resume(token())
            await well.send("command", command="tell")
            await well.until("audio_response")
            killed = gateway.worker(0)
            killed.kill()
            assert await closed(passed_on) == 1012
            async with at(gateway, 1, passed_on) as again:
                assert (await again.resume(token()))["code"] == "SESSION_RESUME_REFUSED"
            await well.until("response_done", status="completed")
        await all_gone([killed])
        await until_worker(gateway, 0)
        async with at(gateway, 0) as client:
            await client.auth(token())
            assert client.session_id.startswith("w0.")


async def until_worker(gateway: Node, number: int) -> None:
    """Wait until a worker that was started again listens."""
    async with asyncio.timeout(30):
        while True:
            try:
                listening = [
                    each.laddr.port
                    for each in gateway.worker(number).net_connections("tcp")
                    if each.status == psutil.CONN_LISTEN
                ]
            except (ValueError, psutil.Error):
                listening = []
            if gateway.port in listening:
                return
            await asyncio.sleep(0.05)


async def test_the_worker_of_a_client_dies_and_its_session_does_not(tmp_path: Path) -> None:
    async with node(tmp_path, tells) as gateway:
        async with at(gateway, 0) as first:
            await first.auth(token())
            await first.send("command", command="tell")
            await first.until("audio_response")
            first.cut()
        async with at(gateway, 1, first) as second:
            await second.resume(token())
            await second.until("audio_response")
            gateway.worker(1).kill()
            await closed(second)
        async with at(gateway, None, second) as third:
            assert (await third.resume(token()))["lossy"] is False
            await third.until("response_done")
            assert sound(third.got) == LONG
        assert len(gateway.model.conversations) == 1
        await until_worker(gateway, 1)


async def test_nobody_outlives_the_supervisor(tmp_path: Path) -> None:
    async with node(tmp_path) as gateway:
        family = gateway.family()
        async with at(gateway) as client:
            await client.auth(token())
            await gateway.stop(signal.SIGKILL)
            await all_gone(family)


async def test_a_drain_tells_everybody_once(tmp_path: Path) -> None:
    async with node(tmp_path, attentive, "--drain-s", "3") as gateway:
        family = gateway.family()
        async with at(gateway, 0) as first:
            await first.auth(token())
            first.cut()
        async with at(gateway, 0) as here, at(gateway, 1) as there, at(gateway, 1, first) as passed_on:
            await here.auth(token("bob"))
            await there.auth(token("carol"))
            await passed_on.resume(token())
            gateway.process.send_signal(signal.SIGTERM)
            for client in (here, there, passed_on):
                told = await client.until("error")
                assert [m["type"] for m in told].count("go_away") == 1
                assert told[-1]["code"] == "SERVER_DRAINING"
                assert await closed(client) == 1001
        async with asyncio.timeout(10):
            assert await gateway.process.wait() == 0
        await all_gone(family)


async def test_one_worker_that_is_told_to_stop_sends_clients_of_others_to_others(tmp_path: Path) -> None:
    """It is started again; a session of another worker goes on."""
    async with node(tmp_path, attentive, "--drain-s", "2") as gateway:
        async with at(gateway, 0) as first:
            await first.auth(token())
            first.cut()
        async with at(gateway, 1, first) as second:
            await second.resume(token())
            stopped = gateway.worker(1)
            stopped.terminate()
            told = await second.until("error")
            assert told[-1]["code"] == "SERVER_DRAINING"
            assert "go_away" in {m["type"] for m in told}
            assert await closed(second) == 1001
        async with at(gateway, 0, second) as third:
            assert (await third.resume(token()))["lossy"] is False
            await third.send("command", command="hello")
            await third.until("response_done")
        await all_gone([stopped])
        await until_worker(gateway, 1)


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]])
async def test_at_once(tmp_path: Path, signals: list[signal.Signals]) -> None:
    async with node(tmp_path, attentive, "--drain-s", "60") as gateway, at(gateway) as client:
        family = gateway.family()
        await client.auth(token())
        gateway.process.send_signal(signals[0])
        await gateway.until_line("Stopping")
        for number in signals[1:]:
            gateway.process.send_signal(number)
        await closed(client)
        await all_gone(family)
        assert await gateway.process.wait() == (0 if len(signals) == 1 else -signal.SIGTERM)


async def test_a_user_has_so_many_connections_and_no_more(tmp_path: Path) -> None:
    async with node(tmp_path, attentive, "--max-connections-per-user", "2") as gateway:
        async with at(gateway, 0) as first, at(gateway, 1) as second, at(gateway, 1) as third:
            await first.auth(token())
            await second.auth(token())
            await third.send("auth", token=token())
            assert (await third.receive())["code"] == "QUOTA_CONNECTIONS"
            async with at(gateway, 1) as other:
                await other.auth(token("bob"))
            async with at(gateway, 1, first) as again:
                assert (await again.resume(token()))["type"] == "resumed", "it is the same session"
            gateway.worker(0).kill()  # and what it had counts no more
            async with at(gateway, 1) as fourth:
                await until_admitted(gateway, fourth)
        await until_worker(gateway, 0)


async def until_admitted(gateway: Node, client: Returning) -> None:
    """Let a client in as soon as there is room: the supervisor has yet to see that a worker is gone."""
    await client.send("auth", token=token())
    message = await client.receive()
    async with asyncio.timeout(10):
        while message["type"] == "error":
            async with at(gateway) as another:
                await another.send("auth", token=token())
                message = await another.receive()


async def test_sessions_are_divided(tmp_path: Path) -> None:
    async with (
        node(tmp_path, attentive, "--max-sessions", "3") as gateway,
        at(gateway, 0) as one,
        at(gateway, 0) as two,
        at(gateway, 0) as three,
        at(gateway, 1) as four,
    ):
        for client in (one, two, four):
            await client.auth(token())
        await three.send("auth", token=token())
        assert (await three.receive())["code"] == "SERVER_AT_CAPACITY"


async def test_not_ready_before_every_worker_is(tmp_path: Path) -> None:
    async with serving(tmp_path, "--workers", "2", "--upstream", "grpc://127.0.0.1:1") as gateway:
        for _ in range(8):
            assert await gateway.get("/readyz") == (503, "the upstream is not ready\n")
        assert await gateway.stop() == 0
        assert gateway.process.stdout
        assert "Ready" not in (await gateway.process.stdout.read()).decode()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--workers", "0"], "The setting workers (flag) cannot be '0'"),
        (["--workers", "3", "--max-sessions", "2"], "max_sessions (2) is divided among the workers (3)"),
        (["--workers", "2", "--upstream", "openai"], "is none of local, gemini"),
        (["--workers", "2", "--tls-cert", "a.pem", "--tls-key", "b.pem"], "certificate or its key"),
        (["--workers", "2", "--host", "0.0.0.0"], "only a loopback address may be served"),
        (["--workers", "2", "--host", "192.0.2.1"], "only a loopback address may be served"),
    ],
)
async def test_bad_settings_are_sentences(tmp_path: Path, arguments: list[str], says: str) -> None:
    if "--upstream" not in arguments:
        arguments = [*arguments, "--upstream", "grpc://127.0.0.1:1"]
    status, out, err = await antiphon("serve", "--port", "0", *arguments, environ=clean_environ(tmp_path))
    assert (status, out) == (1, "")
    assert says in err
    assert "Traceback" not in err


async def test_an_engine_that_cannot_start_ends_all_with_a_sentence(tmp_path: Path) -> None:
    environ = clean_environ(tmp_path, ANTIPHON_MODELS_DIR=str(tmp_path / "none"))
    status, _, err = await antiphon("serve", "--port", "0", "--workers", "2", environ=environ)
    assert status == 1
    assert "antiphon models pull" in err
    assert "Traceback" not in err


def test_a_system_that_cannot_share_a_port(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    assert main(["serve", "--port", "0", "--workers", "2", "--upstream", "grpc://127.0.0.1:1"]) == 1
    assert "cannot share a port among processes (SO_REUSEPORT): set workers to 1." in capsys.readouterr().err


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_port_that_is_taken(tmp_path: Path, workers: str) -> None:
    async with node(tmp_path) as gateway:
        status, _, err = await antiphon(
            *("serve", "--port", str(gateway.port), "--upstream", "grpc://127.0.0.1:1", "--workers", workers),
            environ=clean_environ(tmp_path),
        )
        assert status == 1
        assert f"Cannot listen on 127.0.0.1 port {gateway.port}" in err


async def test_workers_that_die_again_and_again_end_the_gateway(tmp_path: Path) -> None:
    (tmp_path / "deadly.py").write_text("import os\nos._exit(3)\n")
    commands = tmp_path / "commands.toml"
    commands.write_text(
        '[[command]]\nname = "die"\ndescription = "Die."\ntool = { by = "python", function = "deadly:die" }\n'
    )
    environ = clean_environ(
        tmp_path, PYTHONPATH=f"{tmp_path}:{clean_environ(tmp_path).get('PYTHONPATH', '')}"
    )
    status, out, err = await antiphon(
        *("serve", "--port", "0", "--workers", "2", "--upstream", "grpc://127.0.0.1:1"),
        *("--commands", str(commands)),
        environ=environ,
    )
    assert (status, out) == (1, "")
    assert "ended 5 times in a row: exit code 3." in err
    assert "Traceback" not in err


@pytest.mark.speech
@pytest.mark.slow
async def test_one_engine_for_all(tmp_path: Path) -> None:
    async with serving(tmp_path, "--workers", "2") as gateway:
        await gateway.until_line("#token=")
        family = psutil.Process(gateway.process.pid).children(recursive=True)
        (engine,) = [each for each in family if "antiphon.engine" in each.cmdline()]
        for kill in (True, False):
            status, out, err = await gateway.antiphon(
                "talk", str(FORWARD), "--url", gateway.ws_url, "--json", "--fast"
            )
            assert status == 0, err
            assert "go forward" in out.lower()
            if kill:
                engine.kill()
                await gateway.until_ready(503)
                await gateway.until_ready()
        await gateway.stop(signal.SIGKILL)
        await all_gone(family)
