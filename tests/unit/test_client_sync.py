"""The Python client without asyncio, against a real WebSocket server in another thread."""

from __future__ import annotations

import asyncio
import inspect
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar, get_type_hints

import pytest

from antiphon import client as asynchronous
from antiphon import extension, messages
from antiphon.client import (
    BadMessage,
    BaseOnly,
    CannotConnect,
    Client,
    Closed,
    NotAuthorized,
    SoundError,
    sync,
)
from antiphon.messages import AudioChunk, RecognitionResult
from fake_sound import FakeSound
from scripted_gateway import EXTENDED, Peer, Script, scripted_gateway
from unit.resuming_gateway import resuming_gateway

T = TypeVar("T")
ONLY_HERE = {"close", "timeout"}


def public(kind: type) -> set[str]:
    """Return the names of what a class has, those included that an instance of it gets."""
    return {name for name in dir(kind) if not name.startswith("_")}


def parameters(function: Any) -> list[inspect.Parameter]:
    return [one for one in inspect.signature(function).parameters.values() if one.name != "self"]


class TestTheTwoAreTheSame:
    def test_what_there_is(self) -> None:
        given_by_init = {"session_id", "user_id", "extended"}
        assert public(sync.Client) - ONLY_HERE == public(Client) | given_by_init
        assert {"__iter__", "__next__"} <= set(vars(sync.Client))

    @pytest.mark.parametrize("name", sorted(public(Client)))
    def test_how_it_is_called(self, name: str) -> None:
        theirs, ours = inspect.getattr_static(Client, name), inspect.getattr_static(sync.Client, name)
        assert (ours.__doc__ or "") == (theirs.__doc__ or "")
        if isinstance(theirs, property):
            assert isinstance(ours, property)
            assert get_type_hints(ours.fget) == get_type_hints(theirs.fget)
            assert (ours.fset is None) == (theirs.fset is None)
            return
        assert parameters(ours) == parameters(theirs)
        assert not inspect.iscoroutinefunction(inspect.unwrap(ours, stop=lambda f: True))

    def test_how_a_session_is_opened(self) -> None:
        assert parameters(sync.connect) == parameters(asynchronous.connect)


async def in_thread(
    script: Script, work: Callable[[sync.Client], T], *, extended: bool = True, **options: Any
) -> T:
    """Have a session, and do with it in another thread what is to be done; no thread may be left of it."""
    before = set(threading.enumerate())

    def run(url: str) -> T:
        with sync.connect(url, "a token", **options) as client, client.timeout(20):
            return work(client)

    async with scripted_gateway(script, **(EXTENDED if extended else {})) as url:
        async with asyncio.timeout(30):
            result = await asyncio.to_thread(run, url)
    left = {one for one in set(threading.enumerate()) - before if one.name.startswith("antiphon")}
    assert not left
    return result


async def accepting(peer: Peer) -> None:
    await peer.accept()


async def talkative(peer: Peer) -> None:
    """Say a number ten times, then leave."""
    await peer.accept()
    for number in range(10):
        await peer.send("speech_started", streamMs=number)
    await peer.socket.close(1000, "bye")


class TestSession:
    async def test_a_turn(self) -> None:
        heard: list[bytes] = []

        async def script(peer: Peer) -> None:
            await peer.accept()
            heard.append(await peer.hear())
            await peer.result("hello")
            await peer.socket.close(1000, "bye")

        def work(client: sync.Client) -> list[Any]:
            assert (client.session_id, client.user_id, client.extended) == ("a session", "alice", True)
            assert client.connected
            assert client.info is not None
            assert (client.lossy, client.resumptions, client.binary_audio) == (False, 0, True)
            assert (client.close_code, client.close_reason) == (None, None)
            client.start(rate_hz=8000)
            client.send_audio(b"\1\2" * 800)
            client.end()
            found = list(client)
            assert (client.close_code, client.close_reason) == (1000, "bye")
            assert list(client) == [], "it is over"
            with pytest.raises(Closed, match="1000"):
                client.command("too late")
            return found

        (result,) = await in_thread(script, work, binary_audio=True)
        assert isinstance(result, RecognitionResult)
        assert result.transcript == "hello"
        assert heard == [b"\1\2" * 800]

    async def test_every_message(self) -> None:
        received: list[str] = []

        async def script(peer: Peer) -> None:
            await peer.accept()
            while len(received) < 8:
                await peer.receive()
                received.append(peer.received[-1]["type"])
            await peer.socket.close(1000)

        def work(client: sync.Client) -> None:
            client.command("next", {"item": 3})
            client.renew("another")
            client.activity_start()
            client.activity_end()
            client.interrupt("r1")
            client.playback_mark("r1", 5)
            client.tool_result("c1", [1])
            client.tool_error("c2", "No.")
            assert list(client) == []

        await in_thread(script, work)
        assert received == [
            *("command", "auth", "activity_start", "activity_end", "interrupt", "playback_mark"),
            *("tool_result", "tool_result"),
        ]

    async def test_a_ping_while_another_thread_iterates(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            ping = await peer.until(extension.Ping)
            await peer.send("pong", id=ping.id)
            await peer.socket.close(1000)

        def work(client: sync.Client) -> None:
            kinds: list[type] = []
            thread = threading.Thread(target=lambda: kinds.extend(type(message) for message in client))
            thread.start()
            assert 0 < client.ping() < 20
            thread.join()
            assert kinds == [extension.ServerPong]

        await in_thread(script, work)

    async def test_it_is_resumed(self) -> None:
        lost = threading.Event()

        def run(url: str) -> None:
            with sync.connect(url, "a token", on_lost=lost.set) as client, client.timeout(20):
                assert client.on_lost == lost.set
                client.abort()
                client.command("a")
                assert isinstance(next(client), extension.Resumed)
                assert client.resumptions == 1
                assert lost.is_set()
                client.on_lost = None

        async with resuming_gateway() as gateway:
            await asyncio.to_thread(run, gateway.url)
        assert gateway.commands == ["a"]


class TestErrors:
    def test_nobody_is_there(self) -> None:
        before = threading.active_count()
        with pytest.raises(CannotConnect, match="Nothing listens"), sync.connect("ws://127.0.0.1:1/ws", "t"):
            pass
        assert threading.active_count() == before

    async def test_the_token_is_refused(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.receive()
            await peer.fail("AUTH_TOKEN_INVALID", "No.", 4401)

        with pytest.raises(NotAuthorized, match=r"^No\.$") as caught:
            await in_thread(script, lambda client: None)
        assert caught.value.code == "AUTH_TOKEN_INVALID"

    async def test_base_messages_only(self) -> None:
        def work(client: sync.Client) -> None:
            with pytest.raises(BaseOnly):
                client.interrupt()
            with pytest.raises(BaseOnly), client.talk(FakeSound(), push_to_talk=True):
                pass

        await in_thread(accepting, work, extended=False)

    async def test_what_is_no_message(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.socket.send("words")

        def work(client: sync.Client) -> None:
            with pytest.raises(BadMessage):
                next(client)

        await in_thread(script, work)

    async def test_what_is_raised_within_is_raised(self) -> None:
        def work(client: sync.Client) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await in_thread(accepting, work)

    async def test_the_event_loops_own_thread_does_not_wait_for_itself(self) -> None:
        told: list[str] = []

        def run(url: str) -> None:
            with sync.connect(url, "a token") as client, client.timeout(20):

                def ask() -> None:
                    try:
                        client.ping()
                    except RuntimeError as error:
                        told.append(str(error))

                client.on_lost = ask
                client.abort()
                assert isinstance(next(client), extension.Resumed)

        async with resuming_gateway() as gateway:
            await asyncio.to_thread(run, gateway.url)
        assert told[0].startswith("The event loop's thread cannot wait for itself")


class TestTimeout:
    async def test_of_the_iteration_and_nothing_is_lost(self) -> None:
        go_on = threading.Event()

        async def script(peer: Peer) -> None:
            await peer.accept()
            await asyncio.to_thread(go_on.wait)
            await peer.result("late")

        def work(client: sync.Client) -> None:
            with pytest.raises(TimeoutError), client.timeout(0.05):
                next(client)
            go_on.set()
            message = next(client)
            assert isinstance(message, RecognitionResult)
            assert message.transcript == "late"

        await in_thread(script, work)

    async def test_of_many_messages(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            while True:
                await peer.result("and")

        def work(client: sync.Client) -> None:
            began = time.monotonic()
            with pytest.raises(TimeoutError), client.timeout(0.2):
                for _ in client:
                    pass
            assert time.monotonic() - began >= 0.2

        await in_thread(script, work)

    async def test_the_shorter_one_counts_and_then_the_longer_again(self) -> None:
        def work(client: sync.Client) -> None:
            with client.timeout(20):
                with pytest.raises(TimeoutError), client.timeout(0.01), client.timeout(10):
                    next(client)
                with pytest.raises(TimeoutError), client.timeout(0):
                    client.command("too late")
                client.command("in time")

        await in_thread(accepting, work)

    async def test_it_is_of_this_thread(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.until(messages.Command)
            await peer.socket.close(1000)

        def work(client: sync.Client) -> None:
            found: list[Any] = []
            thread = threading.Thread(target=lambda: found.append(list(client)))
            with pytest.raises(TimeoutError), client.timeout(0):
                thread.start()
                client.command("too late")
            client.command("now")
            thread.join()
            assert found == [[]]

        await in_thread(script, work)


class TestClose:
    @pytest.mark.parametrize("leaves", [False, True])
    async def test_another_threads_iteration_ends(self, leaves: bool) -> None:
        def run(url: str) -> None:
            found: list[Any] = []
            with sync.connect(url, "a token") as client:
                thread = threading.Thread(target=lambda: found.append(list(client)))
                thread.start()
                time.sleep(0.05)
                if not leaves:
                    client.close()
                    client.close()
                    thread.join(10)
                    with pytest.raises(Closed, match=r"^The session was left\.$"):
                        client.command("too late")
                    assert list(client) == []
            thread.join(10)
            assert found == [[]]
            with pytest.raises(Closed, match=r"^The session was left\.$"):
                client.ping()

        async with scripted_gateway(accepting, **EXTENDED) as url, asyncio.timeout(20):
            await asyncio.to_thread(run, url)

    async def test_another_threads_call_is_let_go(self) -> None:
        def work(client: sync.Client) -> None:
            errors: list[str] = []

            def ask() -> None:
                try:
                    client.ping()
                except Closed as error:
                    errors.append(str(error))

            thread = threading.Thread(target=ask)
            thread.start()
            time.sleep(0.05)
            client.close()
            thread.join(10)
            assert errors == ["The session was left."]

        await in_thread(accepting, work)

    async def test_by_a_tool(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.send("tool_call", callId="c1", name="hang_up", args={}, deadlineMs=9000)
            await peer.socket.wait_closed()

        here: list[sync.Client] = []
        ready = threading.Event()

        def hang_up() -> None:
            ready.wait()
            here[0].close()

        def work(client: sync.Client) -> list[Any]:
            here.append(client)
            ready.set()
            return list(client)

        found = await in_thread(script, work, tools={"hang_up": hang_up})
        assert [type(message) for message in found] == [extension.ToolCall]


class TestFunctions:
    async def test_tokens_and_tools_run_in_threads_of_their_own(self) -> None:
        threads: dict[str, threading.Thread] = {}
        results: list[extension.ToolResult] = []
        both = threading.Barrier(2)

        async def script(peer: Peer) -> None:
            assert (await peer.accept()).token == "from a function"
            for name in ("one", "other", "third"):
                await peer.send("tool_call", callId=name, name=name, args={"item": 2}, deadlineMs=9000)
            while len(results) < 3:
                results.append(await peer.until(extension.ToolResult))
            await peer.socket.close(1000)

        def token() -> str:
            threads["token"] = threading.current_thread()
            return "from a function"

        def one(item: int) -> int:
            threads["one"] = threading.current_thread()
            both.wait(10)
            return item + 1

        def other(item: int) -> float:
            both.wait(10)
            connected.wait(10)
            return client_of_test[0].ping() * 0 + item

        async def third(item: int) -> str:
            threads["third"] = threading.current_thread()
            await asyncio.sleep(0)
            return "a coroutine function"

        connected = threading.Event()
        client_of_test: list[sync.Client] = []

        def run(url: str) -> None:
            tools = {"one": one, "other": other, "third": third}
            with sync.connect(url, token, tools=tools) as client, client.timeout(20):
                client_of_test.append(client)
                connected.set()
                list(client)
                assert threading.current_thread() not in threads.values()

        async def answering(peer: Peer) -> None:
            receive = peer.receive

            async def pinged() -> Any:
                while isinstance(message := await receive(), extension.Ping):
                    await peer.send("pong", id=message.id)
                return message

            peer.receive = pinged  # type: ignore[method-assign]
            await script(peer)

        async with scripted_gateway(answering, **EXTENDED) as url, asyncio.timeout(20):
            await asyncio.to_thread(run, url)
        assert {result.call_id: result.result for result in results} == {
            "one": 3,
            "other": 2,
            "third": "a coroutine function",
        }
        assert threads["token"] is not threads["third"], "the event loop's"
        assert threads["one"] is not threads["third"]

    async def test_what_a_token_function_raises(self) -> None:
        def token() -> str:
            raise LookupError("nobody is logged in")

        before = threading.active_count()
        with pytest.raises(LookupError, match="logged in"), sync.connect("ws://127.0.0.1:1/ws", token):
            pass
        assert threading.active_count() == before

    async def test_a_tool_that_goes_on_is_waited_for(self) -> None:
        done = threading.Event()
        begun = threading.Event()

        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.send("tool_call", callId="c", name="slow", args={}, deadlineMs=9000)
            await peer.socket.wait_closed()

        def slow() -> None:
            begun.set()
            time.sleep(0.2)
            done.set()

        await in_thread(script, lambda client: begun.wait(10), tools={"slow": slow})
        assert done.is_set()


class TestSound:
    async def test_a_conversation_by_microphone(self) -> None:
        heard = bytearray()

        async def script(peer: Peer) -> None:
            await peer.accept()
            while b"\2" not in heard:
                heard.extend((await peer.until(AudioChunk)).data)
            await peer.respond("Yes.")
            await peer.socket.close(1000)

        sound = FakeSound()

        def work(client: sync.Client) -> None:
            with client.talk(sound, push_to_talk=True) as voice:
                voice.start_talking()
                sound.say(b"\2\2" * 800)
                assert [type(message) for message in client][-1] is extension.ResponseDone

        await in_thread(script, work)
        assert len(sound.recorded) == 100 * 48

    async def test_what_is_wrong_with_it_is_raised(self) -> None:
        class Gone(FakeSound):
            async def read(self) -> bytes:
                raise SoundError("It is gone.")

        def work(client: sync.Client) -> None:
            with pytest.raises(SoundError), client.talk(Gone()):
                next(client)
            with pytest.raises(ZeroDivisionError), client.talk(FakeSound()):
                raise ZeroDivisionError
            with client.talk(FakeSound()):
                pass

        await in_thread(accepting, work)


PROGRAM = """
import sys, threading
from antiphon.client.sync import connect

try:
    with connect(sys.argv[1], "a token") as client:
        print("connected", flush=True)
        for message in client:
            print(type(message).__name__, flush=True)
except KeyboardInterrupt:
    left = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    print("interrupted", left, client.close_code, flush=True)
    sys.exit(130)
"""


async def test_ctrl_c_leaves_cleanly() -> None:
    closed: list[int | None] = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.result("hello")
        await peer.socket.wait_closed()
        closed.append(peer.socket.close_code)

    async with scripted_gateway(script, **EXTENDED) as url, asyncio.timeout(30):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, url), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"connected\n"
        assert await process.stdout.readline() == b"RecognitionResult\n"
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert (out, err) == (b"interrupted [] 1000\n", b"")
    assert process.returncode == 130
    assert closed == [1000], "it said that it goes"


def test_it_is_for_with() -> None:
    assert isinstance(sync.connect("ws://127.0.0.1:1/ws", "a token"), AbstractContextManager)
