"""A model behind real gRPC, in a process of its own, that writes down what it hears and misbehaves when told.

    python -m chaos.upstream PORT FOLDER SEED

It transcribes, answers after a pause of the speaker, a typed turn or the end of a stream, is interrupted by
speech, calls tools, and gives out a handle after each turn. Handles are good after its own death, too; while
the connection that one was given on is open, it is refused.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from antiphon.gemini.client import METHOD
from antiphon.gemini.codec import ClientMessage, ServerMessage
from chaos import answer, control, record
from chaos.track import RATE_HZ, is_loud

PAUSE_S: Final = 0.5
"""A speaker who is quiet for so long is answered."""
INTERRUPT_S: Final = 0.3
PIECE: Final = answer.RATE_HZ // 5
ANSWER_SPEED: Final = 2.5
TOOL_SHARE: Final = 0.15
TOOL_WAIT_S: Final = 3.0


class Model:
    """All streams, those of earlier incarnations by their files."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.dice = random.Random(seed)  # noqa: S311 (chance, no secret)
        self.setup_s = 0.02
        self.answer_s: float | None = None
        self.streams: set[Stream] = set()
        self.count = 0
        self.handles: dict[str, str] = {}
        """The lineage that each handle goes on with."""
        self._log = os.open(folder / "handles", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        for line in (folder / "handles").read_text().splitlines():
            self._take(line)

    def give(self, lineage: str) -> str:
        handle = f"h{self.dice.getrandbits(64):016x}"
        self._write(f"{handle} {lineage}")
        return handle

    def forget(self) -> None:
        """Lose all handles."""
        self._write("forget")

    def _write(self, line: str) -> None:
        os.write(self._log, f"{line}\n".encode())
        self._take(line)

    def _take(self, line: str) -> None:
        match line.split():
            case [handle, lineage]:
                self.handles[handle] = lineage
            case ["forget"]:
                self.handles.clear()

    async def converse(self, requests: AsyncIterator[Any], context: Any) -> None:
        self.count += 1
        stream = Stream(self, requests, context)
        self.streams.add(stream)
        try:
            await stream.run()
        finally:
            self.streams.discard(stream)
            stream.close()

    def obey(self, order: dict[str, Any]) -> None:
        """Do what the suite asks for."""
        match order["do"]:
            case "streams":
                control.say(streams=len(self.streams))
            case "set_up":
                self.setup_s = order["s"]
            case "answer":
                self.answer_s = order["s"]
            case "forget":
                self.forget()
            case "go_away" | "reset" | "mute" as what:
                chosen = sorted(self.streams, key=lambda stream: stream.number)
                if not order.get("all") and chosen:
                    chosen = [self.dice.choice(chosen)]
                for stream in chosen:
                    stream.disturb(what, order)


class Stream:
    """One RPC."""

    def __init__(self, model: Model, requests: AsyncIterator[Any], context: Any) -> None:
        self.number = model.count
        self.lineage = ""
        self._model = model
        self._requests = requests
        self._context = context
        self._record = record.Recorder(model.folder / f"{time.time_ns()}-{self.number}.stream")
        self._mute = False
        self._ends: asyncio.Future[grpc.StatusCode] = asyncio.get_running_loop().create_future()
        self._talk: asyncio.Task[None] | None = None
        self._answers = 0
        self._speech_s = self._pause_s = self._told_s = 0.0
        self._words = 0
        self._results: asyncio.Queue[str] = asyncio.Queue()
        self._outgoing: asyncio.Queue[Any] = asyncio.Queue()
        self._writing: asyncio.Future[None] | None = None

    async def run(self) -> None:
        began = time.time()
        setup = (await anext(self._requests)).setup
        handle = setup.session_resumption.handle
        node = "".join(part.text for part in setup.system_instruction.parts)
        self._record.add(record.OPENED, handle=handle, stream=self.number, pid=os.getpid(), node=node)
        if handle:
            await self._go_on(handle)
        else:
            self.lineage = f"l{time.time_ns()}"
        await asyncio.sleep(self._model.setup_s)
        await self._write(setup_complete={})
        self._record.add(record.READY, setup_s=time.time() - began, lineage=self.lineage)
        listening = asyncio.ensure_future(self._listen())
        writing = self._writing = asyncio.ensure_future(self._write_all())
        await asyncio.wait([listening, self._ends], return_when=asyncio.FIRST_COMPLETED)
        # A write that is cancelled leaves an RPC that never ends.
        self._outgoing.put_nowait(None)
        await asyncio.wait([writing])
        if self._ends.done():
            listening.cancel()
            self._stop_talking()
            self._record.add(record.CLOSED, status=self._ends.result().name)
            await self._context.abort(self._ends.result(), "as told")
        listening.result()

    def close(self) -> None:
        self._stop_talking()
        if self._writing:
            self._writing.cancel()
        self._record.add(record.CLOSED)
        self._record.close()

    def disturb(self, what: str, order: dict[str, Any]) -> None:
        if what == "mute":
            self._mute = True
            self._record.add(record.MUTE)
            self._stop_talking()
        elif what == "reset":
            self._end(order.get("status", "UNAVAILABLE"))
        else:
            left_s = order.get("left_s", 3.0)
            self._record.add(record.GO_AWAY, left_s=left_s)
            loop = asyncio.get_running_loop()
            self._leaving = loop.create_task(self._leave(left_s))

    async def _leave(self, left_s: float) -> None:
        await self._write(go_away={"time_left": {"seconds": int(left_s), "nanos": int(left_s % 1 * 1e9)}})
        await asyncio.sleep(left_s)
        self._end("ABORTED")

    def _end(self, status: str) -> None:
        if not self._ends.done():
            self._ends.set_result(grpc.StatusCode[status])

    async def _go_on(self, handle: str) -> None:
        lineage = self._model.handles.get(handle)
        if lineage is None:
            await self._context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such handle")
        if any(stream.lineage == lineage for stream in self._model.streams):
            await self._context.abort(grpc.StatusCode.FAILED_PRECONDITION, "its connection is open")
        self.lineage = str(lineage)

    # ---- hearing

    async def _listen(self) -> None:
        async for message in self._requests:
            realtime = message.realtime_input
            if realtime.HasField("audio"):
                self._record.add(record.AUDIO, realtime.audio.data)
                await self._hear(realtime.audio.data)
            elif realtime.audio_stream_end:
                self._record.add(record.AUDIO_END)
                if self._speech_s:
                    await self._reply()
            elif realtime.text:
                self._record.add(record.TEXT, realtime.text.encode())
                await self._reply()
            for result in message.tool_response.function_responses:
                self._record.add(record.RESULT, result.id.encode())
                self._results.put_nowait(result.id)

    async def _hear(self, pcm: bytes) -> None:
        length_s = len(pcm) / 2 / RATE_HZ
        if is_loud(pcm):
            self._speech_s += length_s
            self._pause_s = 0.0
            if self._speech_s >= INTERRUPT_S:
                await self._interrupt()
            if self._speech_s - self._told_s >= 0.6 and not self._mute:
                self._told_s = self._speech_s
                self._words += 1
                await self._write(server_content={"input_transcription": {"text": f" w{self._words}"}})
            return
        self._pause_s += length_s
        if self._speech_s and self._pause_s >= PAUSE_S:
            await self._reply()

    # ---- talking

    async def _interrupt(self) -> None:
        """Break off what is being said."""
        if self._talk and not self._mute:
            self._stop_talking()
            await self._write(server_content={"interrupted": True})
            await self._write(server_content={"turn_complete": True})

    async def _reply(self) -> None:
        self._speech_s = self._pause_s = self._told_s = 0.0
        if self._mute:
            return
        await self._interrupt()
        self._talk = asyncio.get_running_loop().create_task(self._answer())

    def _stop_talking(self) -> None:
        talk, self._talk = self._talk, None
        if talk:
            talk.cancel()

    async def _answer(self) -> None:
        dice = self._model.dice
        if dice.random() < TOOL_SHARE:
            await self._call(f"c{dice.getrandbits(48):012x}")
        self._answers += 1
        length = int(answer.RATE_HZ * (self._model.answer_s or dice.uniform(0.3, 2.5)))
        pcm = answer.make(dice.getrandbits(32), length)
        await self._write(server_content={"output_transcription": {"text": f"a{self._answers}"}})
        for place in range(0, len(pcm), PIECE * 2):
            blob = {"mime_type": "audio/pcm;rate=24000", "data": pcm[place : place + PIECE * 2]}
            await self._write(server_content={"model_turn": {"parts": [{"inline_data": blob}]}})
            await self._write(server_content={"output_transcription": {"text": f" {place // PIECE}"}})
            if self._model.answer_s is None:
                await asyncio.sleep(PIECE / answer.RATE_HZ / ANSWER_SPEED)
        await self._write(server_content={"generation_complete": True})
        self._talk = None
        await self._write(server_content={"turn_complete": True})
        handle = self._model.give(self.lineage)
        self._record.add(record.HANDLE, handle=handle)
        await self._write(session_resumption_update={"new_handle": handle, "resumable": True})

    async def _call(self, call_id: str) -> None:
        await self._write(tool_call={"function_calls": [{"id": call_id, "name": "next", "args": {}}]})
        try:
            async with asyncio.timeout(TOOL_WAIT_S):
                while await self._results.get() != call_id:
                    pass
        except TimeoutError:
            pass

    async def _write(self, **fields: Any) -> None:
        self._outgoing.put_nowait(ServerMessage(**fields))

    async def _write_all(self) -> None:
        """Write what is to be said: whoever says it may be cancelled, and an RPC does not survive that."""
        try:
            while message := await self._outgoing.get():
                await self._context.write(message)
        except (grpc.aio.UsageError, grpc.aio.InternalError, asyncio.InvalidStateError):
            self._end("UNAVAILABLE")  # it is gone


async def main() -> None:
    port, folder, seed = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    model = Model(folder, seed)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler = grpc.stream_stream_rpc_method_handler(
        model.converse,
        request_deserializer=ClientMessage.FromString,
        response_serializer=ServerMessage.SerializeToString,
    )
    service, _, method = METHOD.strip("/").partition("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    control.say(port=bound)
    async for order in control.orders():
        model.obey(order)
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main())
