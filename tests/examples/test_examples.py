"""Every example, run as a process against a running gateway: what it prints is what its feature promises."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import subprocess
import sys
import time
import tomllib
import wave
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import pytest
import pytest_asyncio

from antiphon.audio.recording import Recording
from antiphon.tools import commands
from antiphon.tools.call import sign
from audio_samples import tone
from commands.running import serving
from fake_gemini import ANSWER, fake_gemini
from gateway.running import SECRET, running_gateway
from gateway.upstream_client import without_grpc
from loopback_brain import chat_server, says
from recordings import SPEECH

from .model import GREETING, Model
from .running import EXAMPLES, NOWHERE, Run, Runner, commands_file, http_tool

SPOKEN_S: Final = 0.7
SPOKEN: Final = tone(16_000, int(16_000 * SPOKEN_S))
CLIENTS: Final = (
    *("base_client.py", "binary.py", "client_tool.py", "conversation.py", "formats.py", "interruption.py"),
    *("opus_input.py", "push_to_talk.py", "usage.py"),
)
"""Those that connect to a gateway."""
OF_A_FILE: Final = ("base_client.py", "binary.py", "conversation.py", "opus_input.py", "push_to_talk.py")


class Outcome(NamedTuple):
    """What came of all examples."""

    runs: dict[str, Run]
    model: Model
    answer: Path
    served: list[str]
    responses: list[httpx.Response]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Run every example at once: what takes time is that they start."""
    folder = tmp_path_factory.mktemp("examples")
    spoken, answer = folder / "spoken.wav", folder / "answer.ogg"
    with wave.open(str(spoken), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
        file.writeframes(SPOKEN)
    heard_by = Model()
    async with AsyncExitStack() as stack:
        path = stack.enter_context(pytest.MonkeyPatch.context())
        path.syspath_prepend(EXAMPLES)
        url, served = await stack.enter_async_context(http_tool(SECRET))
        configured = commands.load_all(commands_file(folder, url))
        gateway = await stack.enter_async_context(running_gateway(heard_by, configured=configured))
        either = await stack.enter_async_context(fake_gemini(heard_by, serving="both"))
        one = await stack.enter_async_context(fake_gemini(without_grpc(heard_by), serving="both"))
        run, denied = Runner(gateway.url, gateway.token()), Runner(gateway.url, "no token")
        missing, nobody = folder / "none.wav", Runner(NOWHERE, gateway.token())
        started = {
            "conversation": run("conversation.py", spoken),
            "interruption": run("interruption.py", "count"),
            "too short": run("interruption.py", "hello"),
            "push_to_talk": run("push_to_talk.py", spoken),
            "client_tool": run("client_tool.py"),
            "client_tool fails": run("client_tool.py", "switch the light in the cellar"),
            "client_tool is not called": run("client_tool.py", "hello"),
            "formats": run("formats.py", answer, "hello"),
            "opus_input": run("opus_input.py", spoken),
            "binary": run("binary.py", spoken),
            "usage": run("usage.py"),
            "base_client": run("base_client.py", spoken),
            "both transports": run("transports.py", either.target),
            "one transport": run("transports.py", one.target),
            "no transport": run("transports.py", "127.0.0.1:1"),
            "far": run("transports.py", "8.8.8.8:1"),
            **{
                question: run("formats.py", folder / f"{number}.ogg", question)
                for number, question in enumerate(
                    (
                        *("order tea", "order gin"),
                        *("what is the weather in Rome", "what is the weather in Ulm"),
                    )
                )
            },
            **{
                f"nobody {name}": nobody(
                    name, *([spoken] * (name in OF_A_FILE) + [answer] * (name == "formats.py"))
                )
                for name in CLIENTS
            },
            "denied": denied("usage.py"),
            "base denied": denied("base_client.py", spoken),
            **{f"missing {name}": run(name, missing) for name in ("conversation.py", "base_client.py")},
        }
        runs = dict(zip(started, await asyncio.gather(*started.values()), strict=True))
        responses = await _call_http_tool(url)
    sys.modules.pop("python_tool", None)
    return Outcome(runs, heard_by, answer, served, responses)


async def _call_http_tool(url: str) -> list[httpx.Response]:
    """Call the endpoint as the gateway does, again, and as it never would."""
    body = json.dumps(
        {"sessionId": "s1", "callId": "c1", "name": "order", "args": {"item": "tea"}, "userId": "mallory"}
    ).encode()
    good = {"Antiphon-Signature": sign(SECRET, body, time.time())}
    old = {"Antiphon-Signature": sign(SECRET, body, time.time() - 600)}
    other = {"Antiphon-Signature": sign("another secret", body, time.time())}
    async with httpx.AsyncClient(trust_env=False) as client:
        return [
            await client.post(url, content=body, headers=headers) for headers in (good, good, old, other, {})
        ]


def lines(run: Run) -> list[str]:
    assert (run.status, run.err) == (0, "")
    return run.out.splitlines()


def test_conversation(outcome: Outcome) -> None:
    said = lines(outcome.runs["conversation"])
    assert re.fullmatch(r"Connected as alice; the gateway is \d+\.\d ms away\.", said[0])
    assert said[1:] == [
        "you begin to speak (0.70 s into the stream)",
        "you... hello",
        "you... hello there",
        "you have spoken (0.70 s)",
        "you:  hello there",
        "the answer r1 begins, as audio/pcm;rate=24000",
        f"model... {GREETING}",
        f"model: {GREETING}",
        "the answer r1 is over: completed; 0.32 s of sound came",
    ]


def test_interruption(outcome: Outcome) -> None:
    interrupted, came, heard = lines(outcome.runs["interruption"])
    found = re.fullmatch(r"Interrupted after (\d+) ms; (\d+) ms were dropped\.", interrupted)
    assert found
    played_ms, dropped_ms = map(int, found.groups())
    assert played_ms >= 1000
    assert 0 < dropped_ms <= 5200  # what may be ahead, and a piece
    heard_words, came_words = heard.removeprefix("Heard: ").split(), came.removeprefix("Came: ").split()
    assert len(heard_words) < len(came_words)
    assert heard_words == came_words[: len(heard_words)]
    assert len(heard_words) <= played_ms / 1000 + 1
    assert "was over before" in lines(outcome.runs["too short"])[0]


def test_push_to_talk(outcome: Outcome) -> None:
    assert lines(outcome.runs["push_to_talk"]) == [
        "The button is pressed.",
        "The button is released, 0.70 s into the stream.",
        "user: hello there",
        f"model: {GREETING}",
    ]
    assert [each.pcm for each in outcome.model.heard if each.push_to_talk] == [SPOKEN]


def test_client_tool(outcome: Outcome) -> None:
    called, done, said = lines(outcome.runs["client_tool"])
    assert called == "The model calls light with {'room': 'kitchen'}, for 20 s at most."
    assert done == "(The light in the kitchen is on.)"
    assert json.loads(said.removeprefix("model: ")) == {"output": "The light in the kitchen is on."}
    _, said = lines(outcome.runs["client_tool fails"])
    assert json.loads(said.removeprefix("model: ")) == {"error": "There is no light in the cellar."}
    status, _, err = outcome.runs["client_tool is not called"]
    assert (status, err) == (1, "Nothing was called. Does the gateway know examples/commands.toml?\n")


def told(run: Run) -> Any:
    """Return what the tool told the model, as it said it."""
    return json.loads(lines(run)[0].removeprefix("model: "))


def test_http_tool(outcome: Outcome) -> None:
    assert told(outcome.runs["order tea"]) == {"price": 2, "output": "One tea, that is 2 euros."}
    assert told(outcome.runs["order gin"]) == {"error": "There is no gin, only tea and coffee."}
    assert [response.status_code for response in outcome.responses] == [200, 409, 401, 401, 401]
    assert outcome.served == ["alice has ordered tea", "mallory has ordered tea"]


def test_python_tool(outcome: Outcome) -> None:
    rome, ulm = (outcome.runs[f"what is the weather in {city}"] for city in ("Rome", "Ulm"))
    assert told(rome) == {"output": "Rome has sun and 24 degrees."}
    assert told(ulm) == {"error": "There is no report for Ulm."}


def test_formats(outcome: Outcome) -> None:
    said, length = lines(outcome.runs["formats"])
    assert said == f"model: {GREETING}"
    found = re.fullmatch(r".*answer\.ogg: (\S+) s in (\d+) bytes; as PCM it would be (\d+)\.", length)
    assert found
    assert float(found[1]) == pytest.approx(0.32, abs=0.05)
    assert int(found[2]) == outcome.answer.stat().st_size < int(found[3])
    assert outcome.answer.read_bytes()[:4] == b"OggS"
    assert b"OpusHead" in outcome.answer.read_bytes()[:64]
    assert Recording.read(outcome.answer).duration_s == pytest.approx(0.32, abs=0.05)


def test_opus_input(outcome: Outcome) -> None:
    sent, *said = lines(outcome.runs["opus_input"])
    found = re.fullmatch(r"Sent 0\.70 s in (\d+) bytes; as PCM it is 22400\.", sent)
    assert found
    assert int(found[1]) < 22400 / 2
    assert said == ["user: hello there", f"model: {GREETING}"]
    lengths = [len(each.pcm) / 32_000 for each in outcome.model.heard if each.pcm != SPOKEN]
    assert lengths == [pytest.approx(SPOKEN_S, abs=0.05)]


def test_binary(outcome: Outcome) -> None:
    *said, came, text = lines(outcome.runs["binary"])
    assert said == ["user: hello there", f"model: {GREETING}"]
    assert came == f"The answer came in 4 binary frames: {len(ANSWER)} bytes of audio in {len(ANSWER) + 64}."
    assert text == f"It says: {GREETING}"
    # So did conversation.py and base_client.py; that of Opus is another.
    automatic = [each.pcm for each in outcome.model.heard if not each.push_to_talk]
    assert automatic.count(SPOKEN) == 3


def test_usage(outcome: Outcome) -> None:
    turn = "0 ms in, 320 ms out, 15 tokens (10 prompt, 5 response)"
    assert lines(outcome.runs["usage"]) == [
        *("What time is it?", f"  turn:    {turn}", f"  session: {turn}"),
        *("Who are you?", f"  turn:    {turn}"),
        "  session: 0 ms in, 640 ms out, 30 tokens (20 prompt, 10 response)",
    ]


def test_transports(outcome: Outcome) -> None:
    works = r"{}: works; the model was ready after \d+ ms\."
    grpc, websocket = lines(outcome.runs["both transports"])
    assert re.fullmatch(works.format("grpc"), grpc)
    assert re.fullmatch(works.format("websocket"), websocket)
    grpc, websocket = lines(outcome.runs["one transport"])
    assert grpc == "grpc: does not work: UNIMPLEMENTED: not this way"
    assert re.fullmatch(works.format("websocket"), websocket)
    status, out, err = outcome.runs["no transport"]
    assert (status, out.count("does not work"), err) == (1, 2, "")
    status, _, err = outcome.runs["far"]
    assert status == 1
    assert "in plaintext" in err


def test_base_client(outcome: Outcome) -> None:
    session, *said = lines(outcome.runs["base_client"])
    assert re.fullmatch(r"Session \S+ of alice", session)
    assert said == [
        *("you... hello", "you... hello there", "you:  hello there"),
        f"model: {GREETING} ({len(ANSWER)} bytes of sound)",
        f"model: {GREETING} ({len(ANSWER)} bytes of sound)",
    ]


def test_the_base_client_needs_no_more_than_a_websocket_and_json() -> None:
    tree = ast.parse((EXAMPLES / "base_client.py").read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    packages = {name.partition(".")[0] for name in names}
    assert packages - sys.stdlib_module_names == {"websockets"}


class TestWhatGoesWrong:
    @pytest.mark.parametrize("name", CLIENTS)
    def test_nobody_is_there(self, outcome: Outcome, name: str) -> None:
        status, out, err = outcome.runs[f"nobody {name}"]
        assert (status, out) == (1, "")
        assert err == f"Nothing listens at {NOWHERE}; is the gateway running?\n"

    @pytest.mark.parametrize("name", ["denied", "base denied"])
    def test_the_token_is_refused(self, outcome: Outcome, name: str) -> None:
        status, _, err = outcome.runs[name]
        assert status == 1
        assert len(err.splitlines()) == 1
        assert "token" in err

    @pytest.mark.parametrize("name", ["conversation.py", "base_client.py"])
    def test_the_file_is_missing(self, outcome: Outcome, name: str) -> None:
        status, _, err = outcome.runs[f"missing {name}"]
        assert status == 1
        assert len(err.splitlines()) == 1
        assert "none.wav" in err


class TestTheFolder:
    def test_the_table_has_every_example(self) -> None:
        listed = re.findall(r"^\| \[(\S+)\]\(\1\) \|", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
        there = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".sh")}
        assert len(listed) == len(set(listed))
        assert set(listed) == there

    @pytest.mark.parametrize(("example", "name"), [("http_tool.py", "order"), ("python_tool.py", "weather")])
    def test_what_a_docstring_configures_is_in_the_file_of_commands(self, example: str, name: str) -> None:
        described = ast.get_docstring(ast.parse((EXAMPLES / example).read_text())) or ""
        begin = described.index("    [[command]]")
        block = described[begin:].partition("\n\n")[0].replace("\n    ", "\n").removeprefix("    ")
        shipped = tomllib.loads((EXAMPLES / "commands.toml").read_text())["command"]
        assert tomllib.loads(block)["command"] == [one for one in shipped if one["name"] == name]

    def test_the_private_agent_is_a_script_of_flags_that_exist(self) -> None:
        script = EXAMPLES / "private_agent.sh"
        subprocess.run(["sh", "-n", script], check=True)
        command = script.read_text().partition("exec antiphon serve")[2]
        flags = set(re.findall(r"(?<= )--[a-z-]+", command))
        assert flags >= {"--upstream", "--engine-brain", "--engine-brain-model"}
        shown = subprocess.run(
            [sys.executable, "-m", "antiphon", "serve", "--help"], capture_output=True, text=True, check=True
        ).stdout
        assert flags <= set(re.findall(r"--[a-z-]+", shown))


@pytest.mark.speech
@pytest.mark.slow
async def test_with_the_engine_and_a_brain_as_the_readme_says(tmp_path: Path) -> None:
    speech = SPEECH / "ps_goforward.wav"
    async with http_tool(SECRET) as (url, _), chat_server(says("Ten meters it is.")) as brain:
        arguments = ("--commands", str(commands_file(tmp_path, url)))
        variables = {
            "ANTIPHON_TOOL_SECRET": SECRET,
            "ANTIPHON_TOOL_NETWORKS": "127.0.0.0/8",
            "PYTHONPATH": str(EXAMPLES),
            "BRAIN": brain.url,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        agent = ("sh", EXAMPLES / "private_agent.sh")
        async with serving(tmp_path, *arguments, command=agent, **variables) as gateway:
            await gateway.until_line("#token=")
            run = Runner(gateway.ws_url, gateway.token)
            conversation, light, tea, rome = await asyncio.gather(
                run("conversation.py", speech),
                run("client_tool.py"),
                run("formats.py", tmp_path / "tea.ogg", "order tea"),
                run("formats.py", tmp_path / "rome.ogg", "what is the weather in Rome"),
            )
    said = lines(conversation)
    assert any(line.lower().startswith("you:  go forward ten meters") for line in said)
    begun = next(line for line in said if line.startswith("you begin to speak"))
    assert said.index(begun) < said.index(next(line for line in said if line.startswith("you have spoken")))
    assert "model: Ten meters it is." in said
    assert re.search(r"is over: completed; [1-9]", said[-1])
    assert "(The light in the kitchen is on.)" in lines(light)
    assert lines(light)[-1] == "model: The light in the kitchen is on."
    assert lines(tea)[0] == "model: One tea, that is 2 euros."
    assert lines(rome)[0] == "model: Rome has sun and 24 degrees."
