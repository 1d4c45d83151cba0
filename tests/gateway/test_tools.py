"""Tools: a call is delivered once, answered once, cancelled where it is worked on, and hangs no turn."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from antiphon.tools import commands, verify
from antiphon.tools.commands import Commands
from fake_gemini import ANSWER, Conversation
from gateway.extended import extended
from gateway.running import SECRET, running_gateway
from gateway.talker import talking


def configured(tmp_path: Path, tool: str) -> Commands:
    """Return one command that is carried out so."""
    path = tmp_path / "commands.toml"
    path.write_text(f'[[command]]\nname = "order"\ndescription = "Order something."\ntool = {tool}\n')
    return commands.load_all(path)


class Caller:
    """A model that calls a tool for each typed turn, and says what it got."""

    def __init__(self, **script: Any) -> None:
        self.results: list[dict[str, Any]] = []
        self.calls = 0
        self.cancel = asyncio.Event()
        self.twice = bool(script.get("twice"))

    async def __call__(self, conversation: Conversation) -> None:
        await conversation.begin()
        cancelling = asyncio.create_task(self._cancel(conversation))
        try:
            while True:
                message = await conversation.receive()
                if message.realtime_input.text:
                    self.calls += 1
                    call = {"id": f"c{self.calls}", "name": "order", "args": {"item": "tea"}}
                    for _ in range(1 + self.twice):
                        await conversation.send(tool_call={"function_calls": [call]})
                for response in message.tool_response.function_responses:
                    self.results.append({response.id: dict(response.response)})
                    if len(self.results) <= self.calls:
                        await conversation.say("So be it.", ANSWER)
                        await conversation.end_turn()
        finally:
            cancelling.cancel()

    async def _cancel(self, conversation: Conversation) -> None:
        while True:
            await self.cancel.wait()
            self.cancel.clear()
            await conversation.send(tool_call_cancellation={"ids": [f"c{self.calls}"]})


class TestByTheClient:
    async def test_a_call_and_its_result(self, tmp_path: Path) -> None:
        model = Caller()
        tools = configured(tmp_path, '{ by = "client", deadline_s = 20 }')
        async with running_gateway(model, configured=tools) as gateway, extended(gateway) as talker:
            await talker.send("command", command="order tea")
            call = (await talker.until("tool_call"))[-1]
            assert (call["callId"], call["name"], call["args"]) == ("c1", "order", {"item": "tea"})
            assert call["deadlineMs"] == 20_000
            await talker.send("tool_result", callId="c1", result={"cups": 2})
            await talker.until("response_done", status="completed")
            await talker.send("tool_result", callId="c1", result={"cups": 3})
            await talker.until("error", code="TOOL_RESULT_REPEATED")
            await talker.send("tool_result", callId="c9", result={})
            await talker.refused("TOOL_CALL_UNKNOWN")
            for result, told in (
                ("two", {"output": "two"}),
                (None, {"output": None}),
                ([1], {"output": [1]}),
            ):
                await talker.send("command", command="order tea")
                call = (await talker.until("tool_call"))[-1]
                await talker.send("tool_result", callId=call["callId"], result=result)
                await talker.until("response_done", status="completed")
                assert json.loads(json.dumps(model.results[-1][call["callId"]], default=list)) == told
            await talker.send("command", command="order tea")
            await talker.until("tool_call")
            await talker.send("tool_result", callId="c5", error="Sold out.")
            await talker.until("response_done", status="completed")
        assert model.results[0] == {"c1": {"cups": 2}}
        assert model.results[-1] == {"c5": {"error": "Sold out."}}
        assert len(model.results) == 5

    async def test_a_late_result_is_refused_and_the_user_hears_an_answer(self, tmp_path: Path) -> None:
        model = Caller()
        tools = configured(tmp_path, '{ by = "client", deadline_s = 0.2 }')
        async with running_gateway(model, configured=tools) as gateway, extended(gateway) as talker:
            await talker.send("command", command="order tea")
            cancelled = (await talker.until("tool_cancelled"))[-1]
            assert (cancelled["callId"], cancelled["reason"]) == ("c1", "deadline")
            await talker.until("response_done", status="completed")
            await talker.send("tool_result", callId="c1", result="late")
            await talker.until("error", code="TOOL_RESULT_LATE")
            await talker.send("ping", id=1)
            await talker.receive("pong")
        assert model.results == [{"c1": {"error": "The tool did not answer in time."}}]

    async def test_a_cancellation_reaches_the_client(self, tmp_path: Path) -> None:
        model = Caller()
        tools = configured(tmp_path, '{ by = "client" }')
        async with running_gateway(model, configured=tools) as gateway, extended(gateway) as talker:
            await talker.send("command", command="order tea")
            await talker.until("tool_call")
            model.cancel.set()
            assert (await talker.until("tool_cancelled"))[-1]["reason"] == "cancelled"
            await talker.send("tool_result", callId="c1", result="late")
            await talker.refused("TOOL_RESULT_LATE")
        assert model.results == []

    async def test_a_call_that_comes_twice_is_delivered_once(self, tmp_path: Path) -> None:
        model = Caller(twice=True)
        tools = configured(tmp_path, '{ by = "client" }')
        async with running_gateway(model, configured=tools) as gateway, extended(gateway) as talker:
            await talker.send("command", command="order tea")
            messages = await talker.until("tool_call")
            await talker.send("tool_result", callId="c1", result="one")
            messages += await talker.until("response_done", status="completed")
            assert [m["type"] for m in messages].count("tool_call") == 1

    async def test_a_result_that_cannot_be_used_may_be_sent_again(self, tmp_path: Path) -> None:
        model = Caller()
        tools = configured(tmp_path, '{ by = "client" }')
        deep: Any = 1
        for _ in range(40):
            deep = [deep]
        async with running_gateway(model, configured=tools) as gateway, extended(gateway) as talker:
            await talker.send("command", command="order tea")
            await talker.until("tool_call")
            await talker.send("tool_result", callId="c1", result=deep)
            await talker.refused("PROTOCOL_BAD_MESSAGE")
            await talker.send("tool_result", callId="c1", result="well")
            await talker.until("response_done", status="completed")

    async def test_a_client_that_carries_out_commands_is_called_for_all_of_them(self, tmp_path: Path) -> None:
        model = Caller()
        path = tmp_path / "commands.toml"
        path.write_text('[[command]]\nname = "order"\ndescription = "Order something."\n')
        tools = commands.load_all(path)
        async with running_gateway(model, configured=tools) as gateway, extended(gateway) as talker:
            await talker.send("command", command="order tea")
            await talker.until("response_done", status="completed")
            await talker.hello(features=["tools"])
            await talker.send("command", command="order tea")
            call = (await talker.until("tool_call"))[-1]
            assert (call["callId"], call["deadlineMs"]) == ("c2", 30_000)
            await talker.send("tool_result", callId="c2", result="brewing")
            await talker.until("response_done", status="completed")
        assert model.results == [{"c1": {"output": "done"}}, {"c2": {"output": "brewing"}}]

    async def test_a_base_client_is_told_of_the_command_as_ever(self, tmp_path: Path) -> None:
        model = Caller()
        tools = configured(tmp_path, '{ by = "client" }')
        async with running_gateway(model, configured=tools) as gateway, talking(gateway) as talker:
            await talker.send("command", command="order tea")
            result = await talker.receive("recognition_result")
            assert (result["command"], result["isFinal"]) == ("order", True)
            await talker.receive("audio_response")
        assert model.results == [{"c1": {"output": "done"}}]


@asynccontextmanager
async def endpoint(status: int, body: str, *, hangs: bool = False) -> AsyncIterator[Any]:
    """Serve one answer over HTTP; yields the port and what was asked."""
    asked: list[tuple[dict[str, str], bytes]] = []
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = {
            name.lower(): value
            for name, _, value in (line.partition(": ") for line in head.split("\r\n")[1:])
        }
        asked.append((headers, await reader.readexactly(int(headers["content-length"]))))
        if hangs:
            await reader.read()
            gone.set()
        else:
            reply = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nLocation: /\r\n"
            writer.write(f"{reply}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1")
    async with server:
        yield server.sockets[0].getsockname()[1], asked, gone


class TestByHttp:
    async def test_a_signed_request_and_its_result(self, tmp_path: Path) -> None:
        model = Caller()
        async with endpoint(200, '{"cups": 2}') as (port, asked, _):
            tools = configured(tmp_path, f'{{ by = "http", url = "http://127.0.0.1:{port}/order" }}')
            async with running_gateway(model, configured=tools) as gateway, extended(gateway) as talker:
                await talker.send("command", command="order tea")
                messages = await talker.until("response_done", status="completed")
                assert "tool_call" not in {m["type"] for m in messages}
        assert model.results == [{"c1": {"cups": 2}}]
        [(headers, body)] = asked
        sent = json.loads(body)
        assert (sent["callId"], sent["name"], sent["args"], sent["userId"]) == (
            *("c1", "order", {"item": "tea"}, "alice"),
        )
        assert verify(SECRET, headers["antiphon-signature"], body, time.time())

    async def test_it_fails_and_the_user_hears_an_answer(self, tmp_path: Path) -> None:
        for status, body in ((500, "{}"), (302, ""), (200, "no json")):
            model = Caller()
            async with endpoint(status, body) as (port, _, _):
                tools = configured(tmp_path, f'{{ by = "http", url = "http://127.0.0.1:{port}/order" }}')
                async with running_gateway(model, configured=tools) as gateway, extended(gateway) as talker:
                    await talker.send("command", command="order tea")
                    await talker.until("response_done", status="completed")
            [result] = model.results
            assert "error" in result["c1"]

    async def test_a_cancellation_reaches_the_endpoint(self, tmp_path: Path) -> None:
        model = Caller()
        async with endpoint(200, "", hangs=True) as (port, asked, gone):
            tools = configured(tmp_path, f'{{ by = "http", url = "http://127.0.0.1:{port}/order" }}')
            async with running_gateway(model, configured=tools) as gateway, extended(gateway) as talker:
                await talker.send("command", command="order tea")
                async with asyncio.timeout(10):
                    while not asked:
                        await asyncio.sleep(0.01)
                model.cancel.set()
                await asyncio.wait_for(gone.wait(), 10)
                await talker.send("ping", id=1)
                await talker.until("pong")
        assert model.results == []

    async def test_its_deadline(self, tmp_path: Path) -> None:
        model = Caller()
        async with endpoint(200, "", hangs=True) as (port, _, gone):
            url = f"http://127.0.0.1:{port}/order"
            tools = configured(tmp_path, f'{{ by = "http", url = "{url}", deadline_s = 0.2 }}')
            async with running_gateway(model, configured=tools) as gateway, talking(gateway) as talker:
                await talker.send("command", command="order tea")
                await talker.until("audio_response")
                await asyncio.wait_for(gone.wait(), 10)
        assert model.results == [{"c1": {"error": "The tool did not answer in time."}}]


async def order(item: str, context: Any) -> dict[str, str]:
    """What the Python tool below carries out."""
    if item == "nothing":
        raise ValueError
    return {"ordered": item, "for": context.user_id}


class TestByPython:
    async def test_a_function_of_the_operators(self, tmp_path: Path) -> None:
        model = Caller()
        tools = configured(tmp_path, f'{{ by = "python", function = "{__name__}:order" }}')
        async with running_gateway(model, configured=tools) as gateway, extended(gateway) as talker:
            await talker.send("command", command="order tea")
            await talker.until("response_done", status="completed")
        assert model.results == [{"c1": {"ordered": "tea", "for": "alice"}}]
