"""Run one client: the shell around a session.

Frames are handed in as they arrive and effects are performed at once, without a queue or a task in
between. Only what must wait is a task: verifying a token, and the conversation with the model.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Coroutine
from functools import partial
from typing import Any, Final, Protocol

from antiphon import extension, frames, messages
from antiphon.admission import Admission
from antiphon.audio import encoding
from antiphon.clock import Clock
from antiphon.errors import ErrorCode, GatewayError, first_of
from antiphon.live import Connect, LiveStream, Setup
from antiphon.session.answer import Piece
from antiphon.session.effects import Abort, Close, Effect, Encode, Open, Run, Send, SendBinary, Verify
from antiphon.session.machine import Session, State
from antiphon.tools.call import Call, ToolFailed

MAX_UNREAD_BYTES: Final = 1024 * 1024
"""What may wait in the socket for a client that does not read: 15 s of paced answer audio."""

_NOT_ASKED: Final = "Binary frames were not asked for: send JSON text, or binaryAudio in client_hello."

PARTING_S: Final = 0.5
"""How long the model may take to hear how the user's turn ended, once the client is gone."""

_TIMER_SLACK_S: Final = 0.002
"""uvloop counts whole milliseconds. A timer that fires early would fire again and again until it is due."""

Frame = bytes | bytearray | memoryview


class Principal(Protocol):
    """Whom a verified token speaks for."""

    @property
    def user_id(self) -> str: ...

    @property
    def expires_at(self) -> float: ...


class Authenticate(Protocol):
    """Verify a token at a time. Raises `GatewayError` with an `AUTH_*` code."""

    def __call__(self, token: str, now: float, /) -> Awaitable[Principal]: ...


class Toolbox(Protocol):
    """What carries out the calls that are not the client's. Raises `ToolFailed`."""

    async def run(self, call: Call, /) -> dict[str, Any]: ...


class Connection(Protocol):
    """The client's socket, as the bridge sees it."""

    @property
    def unread_bytes(self) -> int: ...

    def send(self, data: bytes) -> None: ...

    def send_binary(self, data: bytes) -> None: ...

    def close(self, code: int, reason: str) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class _Over(Exception):  # noqa: N818 (ends the task group; not an error)
    """The session is closed: cancel what still waits for it."""


class Bridge:
    """One client's session, its socket and its conversation with the model."""

    def __init__(
        self,
        session: Session,
        connection: Connection,
        *,
        authenticate: Authenticate,
        admission: Admission,
        connect: Connect,
        toolbox: Toolbox,
        clock: Clock,
    ) -> None:
        self.session = session
        self._connection = connection
        self._authenticate = authenticate
        self._admission = admission
        self._connect = connect
        self._toolbox = toolbox
        self._clock = clock
        self._decode = extension.decode if session.extended else messages.decode
        self._held: deque[tuple[Frame, bool]] = deque()
        self._paused = False
        self._admitted: str | None = None
        self._jobs: asyncio.Queue[Coroutine[None, None, None] | None] = asyncio.Queue()
        self._conversation: asyncio.Task[None] | None = None
        self._workers: dict[str, asyncio.Task[None] | None] = {}
        self._pieces: asyncio.Queue[Piece] = asyncio.Queue()
        self._encodes = False
        self._input_ready = asyncio.Event()
        self._said_all = asyncio.Event()
        self._answer_room = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")

    async def run(self) -> None:
        """Do what waits, until the session is closed; leave nothing behind."""
        self._arm()
        try:
            async with asyncio.TaskGroup() as tasks:
                while job := await self._jobs.get():
                    tasks.create_task(job)
                await self._part()
                raise _Over  # noqa: TRY301 (it is what ends the group)
        except* _Over:
            pass
        finally:
            self.fail(GatewayError(ErrorCode.SERVER_INTERNAL))
            self._discard_jobs()
            if self._timer:
                self._timer.cancel()
            if self._admitted is not None:
                self._admission.leave(self._admitted)

    # ---- from the listener

    def receive(self, frame: Frame, *, binary: bool = False) -> None:
        """Take a frame."""
        if self._held or self.session.state is State.AUTHENTICATING:
            self._held.append((frame, binary))
            return
        now = self._clock()
        try:
            message = self._binary_chunk(frame) if binary else self._decode(frame)
        except GatewayError as error:
            self._perform(self.session.reject(error, now))
        else:
            self._perform(self.session.receive(message, now))

    def _binary_chunk(self, data: Frame) -> messages.AudioChunk:
        if not self.session.binary:
            raise GatewayError(
                ErrorCode.PROTOCOL_BINARY_UNEXPECTED, _NOT_ASKED if self.session.extended else None
            )
        frame = frames.unpack(data, frames.AUDIO_CHUNK)
        return messages.AudioChunk(timestamp=frame.timestamp_ms, data=frame.audio, sequence=frame.sequence)

    def reject(self, error: GatewayError) -> None:
        """Take a frame that cannot be a message."""
        self._perform(self.session.reject(error, self._clock()))

    def fail(self, error: GatewayError) -> None:
        """Take a failure of the connection or of the server; nothing if the session is closed."""
        self._perform(self.session.failed(error, self._clock()))

    def wrote(self) -> None:
        """Note that the connection wrote by itself, as it does when pinged."""
        self._cut_if_unread()

    def writable(self, *, writable: bool) -> None:
        """Note whether the connection takes more for now, or has enough on its way."""
        self._perform(self.session.hold(not writable, self._clock()))

    def disconnected(self) -> None:
        """Note that the socket is gone."""
        self._perform(self.session.disconnected(self._clock()))

    # ---- effects

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(message=message):
                    self._connection.send(messages.encode(message))
                case SendBinary(data=data):
                    self._connection.send_binary(data)
                case Verify(token=token):
                    self._jobs.put_nowait(self._verify(token))
                case Open(setup=setup):
                    if self._conversation:
                        self._conversation.cancel()
                    self._jobs.put_nowait(self._converse(setup))
                case Encode(piece=piece):
                    self._encode(piece)
                case Run(call=call):
                    self._workers[call.call_id] = None
                    self._jobs.put_nowait(self._work(call))
                case Abort(call_id=call_id):
                    if worker := self._workers.pop(call_id, None):
                        worker.cancel()
                case Close(code=code, reason=reason):
                    self._connection.close(code, reason)
                    self._jobs.put_nowait(None)
        self._cut_if_unread()
        self._input_ready.set()
        self._regulate()
        self._arm()

    def _cut_if_unread(self) -> None:
        if self._connection.unread_bytes > MAX_UNREAD_BYTES and self.session.state is not State.CLOSED:
            self.fail(GatewayError(ErrorCode.SESSION_CLIENT_SLOW))

    def _regulate(self) -> None:
        """Read either side only while what it sends has somewhere to go."""
        if not self.session.answer_full:
            self._answer_room.set()
        full = self.session.uplink_full or self.session.state is State.AUTHENTICATING
        if full and not self._paused:
            self._paused = True
            self._connection.pause()
        elif self._paused and not full:
            self._paused = False
            self._connection.resume()

    def _arm(self) -> None:
        """Keep a timer no later than the session's deadline; one that fires early does no harm."""
        deadline = self.session.deadline()
        if deadline is None:
            if self._timer:
                self._timer.cancel()
                self._timer = None
        elif self._timer is None or deadline < self._timer_at:
            if self._timer:
                self._timer.cancel()
            delay = max(0.0, deadline - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay + _TIMER_SLACK_S, self._expire)
            self._timer_at = deadline

    def _expire(self) -> None:
        self._timer = None
        self._perform(self.session.expire(self._clock()))

    # ---- what waits

    async def _verify(self, token: str) -> None:
        try:
            principal = await self._authenticate(token, self._clock())
            if self._admitted is None:
                self._admission.admit(principal.user_id)
                self._admitted = principal.user_id
        except GatewayError as error:
            self._perform(self.session.refused(error, self._clock()))
            return
        self._perform(self.session.authenticated(principal.user_id, principal.expires_at, self._clock()))
        while self._held and self.session.state is not State.AUTHENTICATING:
            held, self._held = self._held, deque()
            for frame, binary in held:
                self.receive(frame, binary=binary)

    async def _converse(self, setup: Setup) -> None:
        last, self._conversation = self._conversation, asyncio.current_task()
        if last:
            last.cancel()
            await asyncio.wait([last])
        try:
            async with self._connect(setup) as stream, asyncio.TaskGroup() as tasks:
                self._perform(self.session.opened(self._clock()))
                tasks.create_task(self._feed(stream))
                async for event in stream:
                    self._perform(self.session.upstream(event, self._clock()))
                    while self.session.answer_full:
                        self._answer_room.clear()
                        await self._answer_room.wait()
                raise GatewayError(ErrorCode.UPSTREAM_LOST)  # noqa: TRY301 (as if the stream had said so)
        except* GatewayError as group:
            error = first_of(group)  # the reader and the writer of a broken stream raise alike
            assert isinstance(error, GatewayError)
            self.fail(error)

    async def _feed(self, stream: LiveStream) -> None:
        while True:
            while item := self.session.next_input(self._clock()):
                self._said_all.clear()
                await stream.send(item)
                self._regulate()
            self._said_all.set()
            self._input_ready.clear()
            await self._input_ready.wait()

    async def _part(self) -> None:
        """Let the model hear the last words of a session that is closed."""
        if not self.session.parting:
            return
        if self.session.last_words:
            self._said_all.clear()
        try:
            async with asyncio.timeout(PARTING_S):
                await self._said_all.wait()
        except TimeoutError:
            pass

    async def _work(self, call: Call) -> None:
        """Carry out a call, unless it was cancelled before it began."""
        if call.call_id not in self._workers:
            return
        self._workers[call.call_id] = asyncio.current_task()
        try:
            result = await self._toolbox.run(call)
        except ToolFailed as failure:
            result = {"error": str(failure)}
        finally:
            self._workers.pop(call.call_id, None)
        self._perform(self.session.ran(call.call_id, result, self._clock()))

    def _encode(self, piece: Piece) -> None:
        self._pieces.put_nowait(piece)
        if not self._encodes:
            self._encodes = True
            self._jobs.put_nowait(self._encode_pieces())

    async def _encode_pieces(self) -> None:
        """Encode the pieces of one response after the other, those apart that were dropped meanwhile.

        An encoder is let go with its response: one of FLAC takes 7 MB.
        """
        number = 0
        encoder: encoding.Encoder | None = None
        while True:
            piece = await self._pieces.get()
            if piece.data is not None:
                encoder = None  # its response was cut short
                continue
            if encoder is None or piece.number != number:
                encoder, number = encoding.encoder(piece.encoding or encoding.FORMATS[0]), piece.number
            work = encoder.finish if piece.last else partial(encoder.encode, piece.pcm, piece.rate_hz)
            data = await asyncio.to_thread(work) if encoder.costly else work()
            if piece.last:
                encoder = None
            self._perform(self.session.encoded(piece, data, self._clock()))

    def _discard_jobs(self) -> None:
        while not self._jobs.empty():
            if job := self._jobs.get_nowait():
                job.close()
