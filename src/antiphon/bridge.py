"""Run one session: the shell around it, for one connection of its client after the other.

Frames are handed in as they arrive and effects are performed at once, without a queue or a task in
between. Only what must wait is a task: verifying a token, and the conversation with the model. Where sessions
are saved for other nodes, what the client is told waits for that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import closing, nullcontext, suppress
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from msgspec import UNSET

from antiphon import extension, frames, groups, messages
from antiphon.admission import Admission
from antiphon.arrivals import Arrivals
from antiphon.audio import encoding
from antiphon.clock import TIMER_SLACK_S, Clock
from antiphon.errors import ErrorCode, GatewayError
from antiphon.extension import Resume
from antiphon.giving import Giver
from antiphon.journal import Journal
from antiphon.live import Connect, Heard, LiveEvent, LiveStream, Setup
from antiphon.session.effects import (
    Abort,
    Again,
    Close,
    Effect,
    Encode,
    Find,
    HangUp,
    Open,
    Run,
    Send,
    SendBinary,
    Verify,
)
from antiphon.session.machine import Mark, Session
from antiphon.session.piece import Piece
from antiphon.session.presence import digest
from antiphon.session.states import State
from antiphon.sessions import Sessions, new_token
from antiphon.tools.call import Call, ToolFailed

MAX_UNREAD_BYTES: Final = 1024 * 1024
"""What may wait in the socket for a client that does not read: 15 s of paced answer audio."""

_NOT_ASKED: Final = "Binary frames were not asked for: send JSON text, or binaryAudio in client_hello."

PARTING_S: Final = 0.5
"""How long the model may take to hear how the user's turn ended, once the client is gone."""

_HOT: Final = frozenset({Heard})
"""Events that come many times a second, and bring no deadline nearer than `_HOT_S`."""
_HOT_S: Final = 2.0
"""After what comes many times a second the deadline is not asked for where the timer is as near as this.

Audio and transcripts make something due seconds later (an utterance without an end, a model that takes or
says nothing); what they make due sooner is done within this time.
"""

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


class Served(Protocol):
    """What a connection serves: a bridge, or what stands for the bridge of another worker."""

    def receive(self, frame: Frame, *, binary: bool = False) -> None: ...

    def fail(self, error: GatewayError) -> None: ...

    def wrote(self) -> None: ...

    def writable(self, *, writable: bool) -> None: ...

    def disconnected(self, *, clean: bool = False) -> None: ...

    def drain(self, time_left_s: float) -> None: ...


class Connection(Protocol):
    """A client's socket, as the bridge sees it. What comes over it goes to the bridge that it serves."""

    @property
    def unread_bytes(self) -> int: ...

    def send(self, data: bytes) -> None: ...

    def send_binary(self, data: bytes) -> None: ...

    def close(self, code: int, reason: str) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def serve(self, bridge: Served | None) -> None: ...


class Relaying(Served, Protocol):
    """What passes a client on to the worker that has its session."""

    def begin(self, connection: Connection, request: Frame, held: Iterable[tuple[Frame, bool]]) -> None: ...


class Siblings(Protocol):
    """The other workers of this machine. Raises `GatewayError` with a `SESSION_RESUME_*` code."""

    async def reach(self, session_id: str, connection: Connection | None) -> Relaying | None: ...


class Census(Protocol):
    """Counts connections of users wherever they are. Raises `GatewayError` with QUOTA_CONNECTIONS."""

    async def admit(self, user_id: str, session_id: str) -> None: ...

    def leave(self, user_id: str, session_id: str) -> None: ...


class Visitor(NamedTuple):
    """Who comes to resume a session: `spent` is the digest of the resume token that it came with.

    It was told that the model has heard `heard_ms` of the audio; 0 where it was told nothing.
    """

    user_id: str
    expires_at: float
    received: int
    spent: str
    heard_ms: float


class _Over(Exception):  # noqa: N818 (ends the task group; not an error)
    """The session is closed: cancel what still waits for it."""


class Bridge:
    """A session, its client's socket while that is there, and its conversation with the model."""

    def __init__(
        self,
        session: Session,
        connection: Connection | None,
        *,
        authenticate: Authenticate,
        admission: Admission,
        connect: Connect,
        toolbox: Toolbox,
        clock: Clock,
        sessions: Sessions[Bridge],
        journal: Journal | None = None,
        census: Census | None = None,
        siblings: Siblings | None = None,
        fence: int = 1,
    ) -> None:
        self.session = session
        self.fence = fence
        self._connection = connection
        self._journal: Journal | None = None
        self._shared = journal if session.extended else None
        self._census = census
        self._siblings = siblings
        self._unsaved: deque[Send | SendBinary | Again | Close] = deque()
        self._epoch = 0
        self._forgets = True
        self._sessions = sessions
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
        self._conversations = 0
        self._workers: dict[str, asyncio.Task[None] | None] = {}
        self._pieces: asyncio.Queue[Piece] = asyncio.Queue()
        self._encodes = False
        self._giver: Giver | None = None
        self._over = False
        self._answer_room = asyncio.Event()
        self._waits_for_room = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")

    async def run(self) -> None:
        """Do what waits, until the session is closed; leave nothing behind."""
        self._arm(self._clock())
        try:
            await groups.ended_by(_Over, nullcontext(), self._do_jobs)
        finally:
            self._perform(self.session.end(GatewayError(ErrorCode.SERVER_INTERNAL), self._clock()))
            self._sessions.remove(self.session.id, self)
            self._keep_no_more()
            self._discard_jobs()
            if self._timer:
                self._timer.cancel()
            self._leave()

    async def _do_jobs(self, _: None, tasks: asyncio.TaskGroup) -> None:
        while job := await self._jobs.get():
            tasks.create_task(job)
        await self._part()
        await self._forget()
        raise _Over  # it is what ends the group

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
            hot = type(message) is messages.AudioChunk
            self._perform(self.session.receive(message, now), now, hot=hot)

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
        if self._connection and self._connection.unread_bytes > MAX_UNREAD_BYTES:
            self._cut()

    def writable(self, *, writable: bool) -> None:
        """Note whether the connection takes more for now, or has enough on its way."""
        self._perform(self.session.hold(not writable, self._clock()))

    def disconnected(self, *, clean: bool = False) -> None:
        """Note that the socket is gone; `clean`: the client has closed it."""
        if self._connection is None:
            return
        self._connection = None
        self._paused = False
        self._begin_epoch()
        self._perform(self.session.disconnected(self._clock(), clean=clean))
        self._leave()
        if self.session.state is not State.CLOSED:
            self._sessions.waits(self)

    def drain(self, time_left_s: float) -> None:
        """Tell the client that its connection will be closed."""
        self._perform(self.session.drain(time_left_s, self._clock()))

    def abandon(self) -> None:
        """Leave the session as it is: the node stops, and another one may go on with it."""
        self._forgets = False
        self.session.moved()
        self._perform([])

    def begin(self) -> None:
        """Note that the session has begun here, or goes on here."""
        self._sessions.add(self.session.id, self)
        if self._shared:
            self.session.saved_elsewhere = True
            self._journal = self._shared
            self._journal.add(self)

    async def expect(self, user_id: str) -> None:
        """Make room for a connection of the client's, which is about to be adopted.

        Raises:
            GatewayError: the user has too many connections, or the node too many sessions.
        """
        await self._admit(user_id)

    def expect_no_more(self) -> None:
        """Give up the room for a connection that did not come."""
        if self._connection is None:
            self._leave()

    def adopt(self, connection: Connection, visitor: Visitor) -> None:
        """Go on over another connection of the client's; one that is still open is closed."""
        now = self._clock()
        self._dismiss(now)
        self._begin_epoch()
        self._connection = connection
        self._paused = True  # as whoever waits to be let in
        connection.serve(self)
        self._perform(
            self.session.attach(
                visitor.received, visitor.expires_at, new_token(), visitor.spent, now, visitor.heard_ms
            )
        )

    def _dismiss(self, now: float) -> None:
        """Close the connection that another one takes the place of."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        for effect in self.session.replaced(now):
            match effect:
                case Send(message=message):
                    connection.send(messages.encode(message))
                case Close(code=code, reason=reason):
                    connection.close(code, reason)
                case _:
                    pass
        connection.serve(None)

    # ---- from the journal

    def mark(self) -> Callable[[], None]:
        """Return what is to be called when the session is saved as it is now."""
        return partial(self._saved, self._epoch, len(self._unsaved), self.session.mark())

    def _saved(self, epoch: int, count: int, mark: Mark) -> None:
        if epoch == self._epoch:
            for _ in range(min(count, len(self._unsaved))):
                self._write(self._unsaved.popleft())
        if self.session.unsaved:
            self.session.unsaved = False
            if self._giver:
                self._giver.give(self._clock())
        if acks := self.session.safe(mark, self._clock()):
            self._perform(acks)

    def unsaved(self) -> None:
        """Tell what waits although it could not be saved."""
        self.session.unsaved = True
        while self._unsaved:
            self._write(self._unsaved.popleft())

    def evicted(self) -> None:
        """End the session here: it goes on elsewhere."""
        self._forgets = False
        self._keep_no_more()
        self._perform(self.session.evicted(self._clock()))

    def _begin_epoch(self) -> None:
        """Forget what waits to be told: who comes next is told all of it again."""
        self._epoch += 1
        self._unsaved.clear()

    def _keep_no_more(self) -> None:
        self._begin_epoch()
        if self._journal:
            self._journal.remove(self)
            self._journal = None

    async def _forget(self) -> None:
        """Let the store forget a session that is over."""
        if self._shared and self._forgets and self.session.user_id:
            await self._shared.forget(self.session.id, self.fence)

    # ---- effects

    def _perform(self, effects: list[Effect], now: float | None = None, *, hot: bool = False) -> None:
        """Do what the session wants; `hot`: after one of the many events that move few deadlines."""
        if now is None:
            now = self._clock()
        for effect in effects:
            match effect:
                case Send(message=message, data=data) if not self._journal:
                    if self._connection:
                        self._connection.send(messages.encode(message) if data is None else data)
                    continue
                case Send() | SendBinary():
                    self._tell(effect)
                    continue
                case Again() | Close():
                    self._tell(effect)
                case Verify(token=token):
                    self._jobs.put_nowait(self._verify(token))
                case Find(request=request):
                    self._jobs.put_nowait(self._find(request))
                case Open(setup=setup):
                    if self._conversation:
                        self._conversation.cancel()
                    self._conversations += 1
                    self._jobs.put_nowait(self._converse(setup, self._conversations))
                case HangUp():
                    self._conversations += 1
                    if self._conversation:
                        self._conversation.cancel()
                case Encode(piece=piece):
                    self._encode(piece)
                case Run(call=call):
                    self._workers[call.call_id] = None
                    self._jobs.put_nowait(self._work(call))
                case Abort(call_id=call_id):
                    if worker := self._workers.pop(call_id, None):
                        worker.cancel()
            hot = False
        if self._journal and (self.session.state is State.CLOSED or not self._journal.changed(self)):
            self.unsaved()
        if effects and self._connection and self._connection.unread_bytes > MAX_UNREAD_BYTES:
            self._cut()
        if self._giver:
            self._giver.give(now)
        if self._waits_for_room or self.session.client_full is not self._paused:
            self._regulate()
        if hot and self._timer_at <= now + _HOT_S and not self.session.paced:
            return
        self._arm(now, hot=hot)
        if self.session.state is State.CLOSED and not self._over:
            self._over = True
            self._jobs.put_nowait(None)

    def _tell(self, effect: Send | SendBinary | Again | Close) -> None:
        """Tell the client: now, or when the session is saved."""
        if self._journal:
            self._unsaved.append(effect)
        else:
            self._write(effect)

    def _write(self, effect: Send | SendBinary | Again | Close) -> None:
        """Write to the client, if it is there."""
        connection = self._connection
        if connection is None:
            return
        match effect:
            case Send(message=message, data=data):
                connection.send(messages.encode(message) if data is None else data)
            case SendBinary(data=data):
                connection.send_binary(data)
            case Again(frame=frame):
                (connection.send_binary if frame.binary else connection.send)(frame.data)
            case Close(code=code, reason=reason):
                connection.close(code, reason)
                if self.session.state is not State.CLOSED:
                    connection.serve(None)
                    self._connection = None
                    self._leave()
                    self._sessions.waits(self)

    def _cut(self) -> None:
        """Give up a client that does not read."""
        if self.session.state is not State.CLOSED:
            self.fail(GatewayError(ErrorCode.SESSION_CLIENT_SLOW))

    def _regulate(self) -> None:
        """Read either side only while what it sends has somewhere to go."""
        session = self.session
        if self._waits_for_room and not session.answer_full:
            self._answer_room.set()
        full = session.client_full
        if full is self._paused or self._connection is None:
            return
        self._paused = full
        if full:
            self._connection.pause()
        else:
            self._connection.resume()

    def _arm(self, now: float, *, hot: bool = False) -> None:
        """Keep a timer no later than the session's deadline; one that fires early does no harm."""
        latest = now + _HOT_S if hot and not self.session.paced else float("inf")
        deadline = self.session.deadline()
        if deadline is None:
            if self._timer:
                self._timer.cancel()
                self._timer, self._timer_at = None, float("inf")
            return
        deadline = min(deadline, latest)
        if self._timer is None or deadline < self._timer_at:
            if self._timer:
                self._timer.cancel()
            delay = max(0.0, deadline - now)
            self._timer = asyncio.get_running_loop().call_later(delay + TIMER_SLACK_S, self._expire)
            self._timer_at = deadline

    def _expire(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        self._perform(self.session.expire(self._clock()))

    # ---- what waits

    async def _verify(self, token: str) -> None:
        try:
            principal = await self._authenticate(token, self._clock())
            await self._admit(principal.user_id)
        except GatewayError as error:
            self._perform(self.session.refused(error, self._clock()))
            return
        if self.session.state is State.AUTHENTICATING:
            self.begin()
        self._perform(
            self.session.authenticated(principal.user_id, principal.expires_at, self._clock(), new_token())
        )
        self._take_held()

    def _take_held(self) -> None:
        """Take the frames that came while it was not known who sent them."""
        while self._held and self.session.state is not State.AUTHENTICATING:
            held, self._held = self._held, deque()
            for frame, binary in held:
                self.receive(frame, binary=binary)

    async def _find(self, request: Resume) -> None:
        """Hand the connection over to the session that the client wants to resume."""
        try:
            if self._siblings and (relay := await self._siblings.reach(request.session_id, self._connection)):
                self._pass_on(relay, request)
                return
            principal = await self._authenticate(request.token, self._clock())
            spent = digest(request.resume_token)
            bridge = await self._sessions.find(request.session_id, principal.user_id, spent)
            await bridge.expect(principal.user_id)
            if not bridge.session.admits(principal.user_id, spent):
                # Somebody else came with the same token meanwhile, or the session ended.
                bridge.expect_no_more()
                raise GatewayError(ErrorCode.SESSION_RESUME_REFUSED)  # noqa: TRY301 (as if it were not found)
        except GatewayError as error:
            self._perform(self.session.unfound(error, self._clock()))
            self._take_held()
            return
        connection, self._connection = self._connection, None
        if connection is None:
            bridge.expect_no_more()  # it is gone again; what it came with is still good
            return
        heard_ms = 0.0 if request.heard_ms is UNSET else request.heard_ms
        visitor = Visitor(principal.user_id, principal.expires_at, int(request.received), spent, heard_ms)
        bridge.adopt(connection, visitor)
        self.session.moved()
        for frame, binary in self._held:
            bridge.receive(frame, binary=binary)
        self._held.clear()
        self._perform([])

    def _pass_on(self, relay: Relaying, request: Resume) -> None:
        """Hand the connection over to the worker that has the session."""
        connection, self._connection = self._connection, None
        if connection:
            relay.begin(connection, messages.encode(request), self._held)
        else:
            relay.disconnected()  # it is gone again; what it came with is still good
        self.session.moved()
        self._held.clear()
        self._perform([])

    async def _admit(self, user_id: str) -> None:
        """Count the user's connection, on this node and on all."""
        if self._admitted is not None:
            return
        self._admission.admit(user_id)
        self._admitted = user_id
        try:
            if self._census:
                await self._census.admit(user_id, self.session.id)
        except GatewayError:
            self._leave()
            raise

    def _leave(self) -> None:
        if self._admitted is not None:
            self._admission.leave(self._admitted)
            if self._census:
                self._census.leave(self._admitted, self.session.id)
            self._admitted = None

    async def _converse(self, setup: Setup, number: int) -> None:
        if number != self._conversations:
            return  # it was to be left, or made way for another, before it began
        last, self._conversation = self._conversation, asyncio.current_task()
        if last:
            last.cancel()
            await asyncio.wait([last])
        try:
            # The reader and the writer of a broken stream raise alike.
            error = await groups.ended_by(GatewayError, self._connect(setup), self._talk)
            if error and self._conversation is asyncio.current_task():
                self._giver = None
                self._perform(self.session.lost(error, self._clock()))
        finally:
            self._giver = None

    async def _talk(self, stream: LiveStream, tasks: asyncio.TaskGroup) -> None:
        """Talk with the model until the conversation breaks.

        Raises:
            GatewayError: it has; the tasks may raise the same.
        """
        with (
            closing(Arrivals(stream, self.session, self._clock, self._arrived)) as arrivals,
            closing(self._make_giver(stream, arrivals)) as giver,
        ):
            self._giver = giver
            tasks.create_task(giver.run())
            tasks.create_task(arrivals.lost())
            self._perform(self.session.opened(self._clock(), stream.upstream))
            await stream.listen(self._hear, self._is_full, self._until_room)
        raise GatewayError(ErrorCode.UPSTREAM_LOST)  # as if the stream had said so

    def _arrived(self, number: int, trip_s: float) -> None:
        now = self._clock()
        effects = self.session.arrived(number, now, trip_s)
        if effects or self.session.behind:
            self._perform(effects, now, hot=True)

    def _make_giver(self, stream: LiveStream, arrivals: Arrivals) -> Giver:
        return Giver(
            stream,
            self.session,
            arrivals,
            self._clock,
            certain=self._is_certain if self._journal else None,
            ascertain=self._ascertain,
            gave=self._gave,
        )

    def _is_certain(self) -> bool:
        return self._journal is None or self._journal.is_fresh(self)

    async def _ascertain(self) -> None:
        if self._journal:
            await self._journal.fresh(self)

    def _gave(self) -> None:
        self._regulate()
        self._arm(self._clock())  # the model has so long to react to it

    def _hear(self, event: LiveEvent) -> None:
        now = self._clock()
        self._perform(self.session.upstream(event, now), now, hot=type(event) in _HOT)

    def _is_full(self) -> bool:
        return self.session.answer_full

    async def _until_room(self) -> None:
        self._waits_for_room = True
        try:
            while self.session.answer_full:
                self._answer_room.clear()
                await self._answer_room.wait()
        finally:
            self._waits_for_room = False

    async def _part(self) -> None:
        """Let the model hear the last words of a session that is closed."""
        if not self.session.parting or self._giver is None:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._giver.gave_all.wait(), PARTING_S)

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
