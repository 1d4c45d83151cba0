"""A client of `antiphon.v1` after docs/reference/protocol.md: it speaks, loses its connection, and resumes.

It speaks its track in real time, in turns, keeps what is not acknowledged, and connects again whenever
anything is wrong with its connection. What it sees goes into its diary.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.typing import Subprotocol

from chaos.control import until
from chaos.diary import Diary, Epoch, Fault, Resumed
from chaos.listener import Listener
from chaos.track import BLOCK, Track

CONNECT_S: Final = 4.0
SILENCE_S: Final = 4.0
"""A connection on which nothing comes for so long, although pings are sent, is lost."""
PING_S: Final = 1.0
BACKOFF_S: Final = 0.05
MAX_BACKOFF_S: Final = 1.0
ACK_S: Final = 3.0
"""How long the end of a stream may take to be acknowledged while the connection is there."""
MAX_KEPT: Final = 150
"""Chunks that are kept; beyond it the speaker is silent until some are acknowledged."""

_HEADER: Final = struct.Struct(">BBHIQ")
_BEFORE: Final = frozenset({"resumed", "pong"})
"""What is not counted."""

Message = dict[str, Any]


class Outgoing(NamedTuple):
    """A message of the client's that is counted; `end` is where its audio ends in the track."""

    data: str | bytes
    end: int = 0
    sequence: int = -1
    command: str = ""
    stream: int = 0


class Refused(Exception):  # noqa: N818 (it reads as what happened)
    """The connection did not come to a session."""


class Client:
    """One speaker."""

    def __init__(
        self, number: int, url: str, token: Callable[[str], str], *, seed: int = 0, chunk_s: float = 0.1
    ) -> None:
        self.diary = Diary(number)
        self.track = Track(number)
        self.url = url
        self.number = number
        self.speaks = True
        self.session_id = ""
        self.socket: ClientConnection | None = None
        self.attached = asyncio.Event()
        self.stays = True
        """Whether it connects again."""
        self._token = token
        self._dice = random.Random(seed * 10_000 + number)  # noqa: S311 (chance, no secret)
        self._chunk_s = chunk_s
        self._binary = number % 3 == 0
        self._restarts = number % 2 == 0
        """Whether its chunks are counted anew in each stream."""
        self._listener = Listener()
        self._resume_token = ""
        self._received = 0
        self._heard_ms: float | None = None
        self._at = 0
        self._sequence = 0
        self._streams = 0
        self._stream_open = False
        self._commands = 0
        self._kept: deque[Outgoing] = deque()
        self._first = 1
        self._cursor = 0
        self._news = asyncio.Event()
        self._played: dict[str, float] = {}
        self._done = False
        self._abandons = False
        self._reading: asyncio.Task[None] | None = None

    # ---- the whole of it

    async def run(self) -> None:
        """Speak until `finish()` has been called, and all is said or given up."""
        async with asyncio.TaskGroup() as tasks:
            speaking = tasks.create_task(self._speak())
            backoff_s = BACKOFF_S
            while not self._done:
                if await self._connection():
                    backoff_s = BACKOFF_S
                await asyncio.sleep(backoff_s * self._dice.uniform(0.5, 1.0))
                backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)
                await until(lambda: self.stays or self._done, 3600)
            speaking.cancel()
        self.diary.responses = self._listener.statuses

    async def finish(self, within_s: float = 20.0) -> None:
        """Cease to speak; return when all is acknowledged, or the time is over."""
        self.speaks = False
        await until(lambda: self.at_rest, within_s)
        await until(lambda: not self._unacknowledged, ACK_S)
        self._done = True
        if self.socket:
            await self.socket.close()

    def abandon(self, url: str) -> None:
        """Leave a connection open that nothing comes over, and connect elsewhere."""
        self.url = url
        self._abandons = True
        if self._reading:
            self._reading.cancel()

    @property
    def at_rest(self) -> bool:
        """Whether all that was to be said is."""
        return self.attached.is_set() and not self._stream_open and self._all_sent

    async def _acknowledged_all(self, epoch: Epoch) -> bool:
        """Wait for what was sent to be acknowledged; it may take a while before the connection is back."""

        def there() -> bool:
            return (self.attached.is_set() and self._all_sent) or epoch is not self.epoch

        await until(there, 60)
        return await until(lambda: not self._unacknowledged or epoch is not self.epoch, ACK_S)

    @property
    def _all_sent(self) -> bool:
        return self._cursor - self._first + 1 >= len(self._kept)

    def cut(self) -> None:
        """Lose the connection."""
        if self.socket:
            self.socket.transport.abort()

    @property
    def _unacknowledged(self) -> bool:
        return any(entry.sequence >= 0 for entry in self._kept)

    @property
    def epoch(self) -> Epoch:
        return self.diary.epochs[-1]

    def _fault(self, what: str) -> None:
        self.diary.faults.append(Fault(time.time(), self.number, what))

    # ---- connections

    async def _connection(self) -> bool:
        """Connect, and stay as long as it lasts; return whether there was a session on it."""
        began = time.monotonic()
        socket: ClientConnection | None = None
        try:
            async with asyncio.timeout(CONNECT_S):
                socket = await connect(
                    self.url,
                    subprotocols=[Subprotocol("antiphon.v1")],
                    compression=None,
                    proxy=None,
                    open_timeout=None,
                    ping_interval=None,
                    close_timeout=0.5,
                )
                await self._enter(socket, began)
        except (
            OSError,
            TimeoutError,
            InvalidHandshake,
            InvalidMessage,
            EOFError,
            ConnectionClosed,
            Refused,
        ) as e:
            if socket is None and isinstance(e, InvalidHandshake):
                self.diary.refused_handshakes.append(f"{time.time():.1f} {type(e).__name__}: {e}")
            if socket:
                socket.transport.abort()
            return False
        self.socket = socket
        self.attached.set()
        try:
            async with asyncio.TaskGroup() as tasks:
                helpers = [tasks.create_task(self._write(socket)), tasks.create_task(self._ping(socket))]
                self._reading = tasks.create_task(self._read(socket))
                await asyncio.wait([self._reading])
                for helper in helpers:
                    helper.cancel()
        except* (OSError, TimeoutError, ConnectionClosed):
            pass
        finally:
            self.attached.clear()
            self.socket = None
            if not self._abandons:
                socket.transport.abort()
            self._abandons = False
        return True

    async def _enter(self, socket: ClientConnection, began: float) -> None:
        """Begin a session, or go on with the one there was."""
        if self.session_id:
            heard = {} if self._heard_ms is None else {"heardMs": self._heard_ms}
            await _send(
                socket,
                "resume",
                **heard,
                token=self._token(self._user),
                sessionId=self.session_id,
                resumeToken=self._resume_token,
                received=self._received,
            )
        else:
            await _send(socket, "auth", token=self._token(self._user))
        while True:
            message = _decode(await socket.recv())
            match message["type"]:
                case "auth_success":
                    self._begin(message)
                    return
                case "resumed":
                    self._go_on(message, time.monotonic() - began)
                    return
                case "error" if message["code"] == "SESSION_RESUME_REFUSED":
                    self._count(self.diary.errors, message["code"])
                    self.epoch.ended = message["code"]
                    self.session_id = ""
                    await _send(socket, "auth", token=self._token(self._user))
                case "error":
                    self._count(self.diary.errors, message["code"])
                    raise Refused

    @property
    def _user(self) -> str:
        return f"user{self.number}"

    def _begin(self, message: Message) -> None:
        self.session_id = message["sessionId"]
        self.diary.epochs.append(Epoch(self.session_id, self._at, time.time(), sent=self._at, acked=self._at))
        self._listener, statuses = Listener(), self._listener.statuses
        self._listener.statuses = statuses
        self._received = 0
        self._heard_ms = None
        self._kept.clear()
        self._first, self._cursor = 1, 0
        self._stream_open, self._streams = False, 0
        self._take(message)
        self._send("client_hello", features=self._features, binaryAudio=self._binary)

    @property
    def _features(self) -> list[str]:
        return ["tools", "playback_mark"] if self.number % 2 else ["tools"]

    def _go_on(self, message: Message, took_s: float) -> None:
        self._resume_token = message["resumeToken"]
        received, lossy = message["received"], message["lossy"]
        epoch = self.epoch
        self.diary.resumed.append(
            Resumed(time.time(), took_s, message["replayed"], lossy, epoch.acked, epoch.sent)
        )
        if lossy:
            self._listener.lossy()
        last = self._first + len(self._kept) - 1
        if received < self._first - 1:
            self._fault(f"received {received} of at least {self._first - 1} that were acknowledged")
        if received > last:
            self._fault(f"received {received} of {last}")
        self._cursor = min(max(received, self._first - 1), last)
        came = [entry for entry in list(self._kept)[: received - self._first + 1] if entry.sequence >= 0]
        if came and self._stream_open and came[-1].sequence + 1 > message["nextSequence"] > 0:
            self._fault(f"nextSequence {message['nextSequence']} after {came[-1].sequence}")

    async def _write(self, socket: ClientConnection) -> None:
        while True:
            while self._cursor - self._first + 1 < len(self._kept):
                entry = self._kept[self._cursor - self._first + 1]
                self._cursor += 1
                await socket.send(entry.data)
                self.epoch.sent = max(self.epoch.sent, entry.end)
            self._news.clear()
            await self._news.wait()

    async def _ping(self, socket: ClientConnection) -> None:
        number = 0
        while True:
            await asyncio.sleep(PING_S)
            number += 1
            await _send(socket, "ping", id=number)

    async def _read(self, socket: ClientConnection) -> None:
        try:
            while True:
                async with asyncio.timeout(SILENCE_S):
                    data = await socket.recv()
                message = _decode(data)
                if message["type"] == "ping":
                    await _send(socket, "pong", id=message["id"], echoTime=message["timestamp"])
                self._take(message)
        except TimeoutError:
            self._count(self.diary.closes, "silence")
            raise
        except ConnectionClosed as closed:
            self._count(self.diary.closes, str(closed.rcvd.code) if closed.rcvd else "lost")
            raise

    def _count(self, counts: dict[str, int], name: str) -> None:
        counts[name] = counts.get(name, 0) + 1

    # ---- what comes

    def _take(self, message: Message) -> None:
        if message["type"] in _BEFORE:
            return
        self._received += 1
        self.diary.messages += 1
        for wrong in self._listener.take(message):
            self._fault(wrong)
        match message["type"]:
            case "session_info":
                self._resume_token = message.get("resumeToken", "")
            case "audio_ack":
                self._acknowledged(message["stream"], message["sequence"])
            case "audio_heard":
                self._heard_ms = message["heardMs"]
            case "session_rotated":
                self.diary.rotations.append({**message, "at": time.time(), "sessionId": self.session_id})
            case "error":
                self._count(self.diary.errors, message["code"])
            case "tool_call":
                self._send("tool_result", callId=message["callId"], result={"done": True})
            case "audio_flush" if self.number % 2:
                self._send("playback_mark", responseId=message["responseId"], playedMs=100)

    def _acknowledged(self, stream: int, sequence: int) -> None:
        chunk, following = (stream, sequence), (self._streams, self._sequence)
        kept = ((entry.stream, entry.sequence) for entry in self._kept)
        place = next((place for place, entry in enumerate(kept) if entry == chunk), None)
        if place is None:
            if chunk >= following:
                self._fault(f"audio_ack of {chunk}, and {following} is the next to be sent")
            return
        if self._first + place > self._cursor:
            self._fault(f"audio_ack of {sequence}, which was not sent")
        for _ in range(place + 1):
            entry = self._kept.popleft()
            self._first += 1
            self.epoch.acked = max(self.epoch.acked, entry.end)
            if entry.command:
                self.epoch.commands.append(entry.command)

    # ---- what is said

    def _send(self, kind: str, **fields: Any) -> None:
        self._put(Outgoing(_text(kind, **fields)))

    def _put(self, entry: Outgoing) -> None:
        self._kept.append(entry)
        self._news.set()

    async def _speak(self) -> None:
        await self.attached.wait()
        while True:
            if not self.speaks:
                await asyncio.sleep(0.05)
                continue
            epoch = self.epoch
            await self._turn(epoch)
            await asyncio.sleep(self._dice.uniform(0.2, 1.5))
            if self._dice.random() < 0.3 and not self._done and epoch is self.epoch:
                self._commands += 1
                said = f"typed {self.number}.{self._commands}"
                self._put(Outgoing(_text("command", command=said), command=said))
                await asyncio.sleep(self._dice.uniform(0.2, 2.0))

    async def _turn(self, epoch: Epoch) -> None:
        """Speak one stream, if the session lasts so long."""
        loop = asyncio.get_running_loop()
        config = {"sampleRate": 16_000, "format": "LINEAR16", "language": "en-US"}
        if self._restarts:
            if self._unacknowledged and not await self._acknowledged_all(epoch):
                self.diary.unacknowledged_ends += 1
            self._sequence = 0
        if epoch is not self.epoch:
            return
        self._send("audio_stream_start", config=config)
        self._streams += 1
        self._stream_open = True
        due = loop.time()
        for _ in range(self._dice.randint(20, 90)):
            due = max(due + self._chunk_s, loop.time() - 1.0)
            await asyncio.sleep(due - loop.time())
            await until(lambda: len(self._kept) < MAX_KEPT or epoch is not self.epoch, 600)
            if epoch is not self.epoch:
                return
            if not self.speaks:
                break
            self._chunk()
        self._send("audio_stream_end", duration=0)
        self._stream_open = False

    def _chunk(self) -> None:
        pcm = self.track.pcm(self._at, BLOCK)
        self._at += BLOCK
        now_ms = int(time.time() * 1000)
        if self._binary:
            data: str | bytes = _HEADER.pack(1, 1, 0, self._sequence, now_ms) + pcm
        else:
            data = _text("audio_chunk", sequence=self._sequence, data=base64.b64encode(pcm).decode())
        self._put(Outgoing(data, self._at, self._sequence, stream=self._streams))
        self._sequence += 1


def _text(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind, "timestamp": int(time.time() * 1000), **fields})


async def _send(socket: ClientConnection, kind: str, **fields: Any) -> None:
    await socket.send(_text(kind, **fields))


def _decode(data: str | bytes) -> Message:
    if isinstance(data, bytes):
        _, _, _, sequence, timestamp = _HEADER.unpack_from(data)
        return {"type": "binary", "sequence": sequence, "timestamp": timestamp, "data": data[_HEADER.size :]}
    message: Message = json.loads(data)
    return message
