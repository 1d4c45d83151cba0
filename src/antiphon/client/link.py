"""A session's way to the gateway: one connection after the other.

    up --the connection is lost--> away --resumed--> up
    up or away --the session is over--> over

What is to be sent waits while it is away.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from msgspec import UNSET, Struct, UnsetType
from websockets.asyncio.client import ClientConnection
from websockets.frames import CloseCode

from antiphon import extension, messages
from antiphon.client.dial import drop
from antiphon.client.errors import AuthorizationLost, ClientError, Closed, SessionLost
from antiphon.client.outgoing import Frame, Outgoing, Place
from antiphon.client.reader import Reader, is_fatal
from antiphon.client.reconnect import DEFAULT, Fate, Reconnect, fate
from antiphon.client.resuming import TokenExpired, TryAgain, resume
from antiphon.client.sender import Sender
from antiphon.client.tokens import NoToken, Renewal, Tokens
from antiphon.client.tools import Tool, ToolRunner
from antiphon.errors import DISPOSITIONS, ErrorCode, first_of
from antiphon.extension import SUBPROTOCOL, ServerMessage, SessionInfo

GRACE_S: Final = 4.0
"""How much longer than the gateway's heartbeat a connection may be silent before it is dead."""

_STEADY_S: Final = 5.0
"""A connection that is lost sooner counts as a failed attempt: no gateway is hammered at."""
_ACKNOWLEDGED_S: Final = 10.0
"""How long an acknowledgement is waited for without which nothing can be sent."""
_REFUSED_AUDIO: Final = ("AUDIO_STREAM_INACTIVE", "AUDIO_UNSUPPORTED")


class Link:
    """Keeps a session over lost connections. `run()` is to run all the while, in a task of its own."""

    def __init__(
        self,
        socket: ClientConnection,
        url: str,
        timeout_s: float,
        tokens: Tokens,
        reconnect: Reconnect | None,
        tools: Mapping[str, Tool],
        on_lost: Callable[[], None] | None,
    ) -> None:
        self.extended = socket.subprotocol == SUBPROTOCOL
        self.resumptions = 0
        self.lossy = False
        self.streaming = False
        """Whether a stream of audio is open, at the gateway too."""
        self.on_lost = on_lost
        self._socket = socket
        self.url = url
        self._timeout_s = timeout_s
        self._tokens = tokens
        self._reconnect = reconnect or DEFAULT
        self._comes_back = reconnect is not None and self.extended
        outgoing = Outgoing(self._reconnect.max_bytes, self._reconnect.max_audio_s * 1000)
        self.sender = Sender(outgoing, self.closed, self._settle)
        # Its session_info says whether the session can be resumed; to keep what was sent is too late then.
        self.sender.keeps = self._comes_back
        self.reader = Reader(self.extended, ToolRunner(tools, self.send_if_open), self._reply, self._note)
        self._renewal = Renewal(tokens, self._show)
        self._session_id = self._resume_token = ""
        self._resumed_with: str | None = None
        """The token that the connection was resumed with."""
        self._heard_ms: float | UnsetType = UNSET
        self._resume_s = 0.0
        self._lost: SessionLost | None = None
        self._left = False

    @property
    def close_code(self) -> int | None:
        """The close code of the connection with which the session ended; None while it goes on."""
        return self._socket.close_code if self.sender.over or not self.sender.resumable else None

    @property
    def close_reason(self) -> str | None:
        """As `close_code`."""
        return self._socket.close_reason if self.sender.over or not self.sender.resumable else None

    def closed(self) -> Closed:
        """Return, to be raised, why the session is over."""
        close_code, code = self._socket.close_code, self._code
        if self._left:
            return Closed("The session was left.", close_code, None)
        if self._lost:
            return type(self._lost)(str(self._lost), close_code, self._lost.code)
        if (error := self.reader.last_error) and is_fatal(error):
            return Closed(f"The gateway closed the connection: {error.message}", close_code, code)
        if code is not None:
            sentence = f"The gateway closed the connection: {DISPOSITIONS[ErrorCode(code)].message}"
            return Closed(sentence, close_code, code)
        if close_code == CloseCode.ABNORMAL_CLOSURE:
            return Closed("The connection to the gateway was lost.", close_code, None)
        return Closed(f"The gateway closed the connection ({close_code}).", close_code, None)

    # ---- what is sent

    async def authorize(self, token: str) -> None:
        """Show a token. On a connection that is lost meanwhile it is shown by resuming.

        Raises:
            Closed: the session is over.
        """
        self._tokens.use(token)
        if not await self._show(token) and self.sender.gone:
            raise self.closed()

    async def send_if_open(self, message: Struct) -> None:
        """Send a message; if the session is over, leave that to be noticed by whoever iterates."""
        try:
            await self.sender.send(Frame(messages.encode(message)))
        except Closed:
            return

    async def ping(self) -> float:
        """Return how many seconds it takes there and back. It asks again where the connection is lost.

        Raises:
            Closed: the session is over.
        """
        while True:
            await self.sender.until(lambda: self.sender.up or self.sender.gone)
            if self.sender.gone:
                raise self.closed()
            with self.reader.pong() as (number, pong):
                begin = time.perf_counter()
                if await self.sender.pass_on(extension.Ping(id=number, timestamp=now_ms())):
                    at = await pong
                    if at is not None:
                        return at - begin

    def leave(self) -> None:
        """Note that the application leaves the session, unless that is over."""
        self._left = not self.sender.over

    async def aclose(self) -> None:
        """Close the connection, if there is one."""
        await self._socket.close()

    def abort(self) -> None:
        """Lose the connection."""
        self._socket.transport.abort()

    # ---- the life of a session

    async def run(self) -> None:
        """Read, write and come back until the session is over."""
        try:
            async with asyncio.TaskGroup() as tasks:
                renewing = tasks.create_task(self._renewal.run())
                await self._live()
                renewing.cancel()
        except BaseExceptionGroup as group:
            raise first_of(group) from group
        finally:
            self._end()
            self.reader.end()

    async def _live(self) -> None:
        now = asyncio.get_running_loop().time
        attempt = 0
        answer: str | bytes | None = None
        while True:
            begun = now()
            await self._serve(answer)
            if not self._outlives():
                break
            if self.on_lost:
                self.on_lost()
            try:
                answer, attempt = await self._resume(0 if now() - begun >= _STEADY_S else attempt)
            except SessionLost as error:
                self._lost = error
                break
        self._end()
        await self.reader.release()

    async def _serve(self, first: str | bytes | None) -> None:
        """Read and write until the connection is over; `first` is what was read of it already."""
        self.sender.up = True
        self.sender.changed()
        try:
            async with asyncio.TaskGroup() as tasks:
                writing = tasks.create_task(self.sender.write(self._socket))
                showing = tasks.create_task(self._show_newer())
                if first is not None:
                    await self.reader.take(first)
                await self.reader.read(self._socket)
                writing.cancel()
                showing.cancel()
        finally:
            self.sender.lose()

    def _outlives(self) -> bool:
        """Return whether the session outlives its connection, which is over."""
        if not self.sender.resumable:
            return False
        after = fate(self._socket.close_code, self._code)
        if after is Fate.RENEW:
            self._tokens.expire()
            return self._tokens.renewable
        return after is Fate.RESUME

    async def _resume(self, attempt: int) -> tuple[str | bytes, int]:
        """Resume the session; return what the gateway answered, and the number of a next attempt.

        Raises:
            SessionLost: it cannot be.
        """
        give_up_s = self._resume_s if self._reconnect.give_up_s is None else self._reconnect.give_up_s
        why, after_s = "", 0.0
        try:
            async with asyncio.timeout(give_up_s):
                while True:
                    delay_s = self._reconnect.delay_s(attempt, random.random())  # noqa: S311 (no secret)
                    await asyncio.sleep(max(delay_s, after_s))
                    attempt += 1
                    asked = self._tokens.asks
                    try:
                        return await self._attempt(), attempt
                    except NoToken as failed:
                        why, after_s = str(failed), 0.0
                    except TryAgain as failed:
                        why, after_s = str(failed), failed.after_s
                    except TokenExpired as failed:
                        # Of a token that was asked for just now there is no better one.
                        if asked or not self._tokens.renewable:
                            raise _unauthorized(str(failed), ErrorCode.AUTH_TOKEN_EXPIRED) from None
                        self._tokens.expire()
        except TimeoutError:
            sentence = f"The connection was lost, and could not be restored in {give_up_s:g} seconds. {why}"
            raise SessionLost(sentence.rstrip(), None, None) from None

    async def _attempt(self) -> str | bytes:
        """Try once to resume, and make the new connection that of the session.

        Raises:
            NoToken, TryAgain, TokenExpired: it may be tried again.
            SessionLost: it cannot be resumed.
        """
        try:
            token = await self._tokens.try_get()
        except ClientError as error:
            raise _unauthorized(str(error), error.code) from error
        message = extension.Resume(
            token=token,
            session_id=self._session_id,
            resume_token=self._resume_token,
            received=self.reader.received,
            heard_ms=self._heard_ms,
        )
        self._socket, frame, resumed = await resume(self.url, self._timeout_s, message)
        self._resume_token, self._resumed_with = resumed.resume_token, token
        missing = self.sender.outgoing.resume(resumed.received)
        self.lossy |= resumed.lossy or missing > 0
        self.resumptions += 1
        self.reader.survive()
        return frame

    async def _settle(self) -> None:
        """Wait for an acknowledgement; where none is to be expected, learn by resuming how much has come.

        None is of what is no audio, and of audio that the gateway has refused.
        """
        socket, outgoing = self._socket, self.sender.outgoing
        first = outgoing.first

        def is_settled() -> bool:
            return outgoing.first != first or not self.sender.up

        for asked in (False, True):
            with suppress(TimeoutError):
                async with asyncio.timeout(_ACKNOWLEDGED_S):
                    await self.sender.until(lambda: is_settled() or not outgoing.awaits_acknowledgement)
            if is_settled():
                return
            if not asked:
                await self.sender.flush()
                await self.ping()  # The gateway may have ceased to read.
        if socket is self._socket:
            self.sender.lose()
            await drop(socket)

    async def _show_newer(self) -> None:
        """Show the token in force where the connection was resumed with an older one meanwhile."""
        token = self._tokens.in_force
        if token and self._resumed_with not in (None, token):
            await self._show(token)

    async def _show(self, token: str) -> bool:
        return await self.sender.pass_on(messages.Auth(timestamp=now_ms(), token=token))

    def _end(self) -> None:
        self.sender.over = True
        self.sender.changed()

    # ---- what comes

    async def _reply(self, message: Struct) -> None:
        if isinstance(message, extension.Pong):
            await self.sender.pass_on(message)
        else:
            await self.sender.answer(message)

    def _note(self, message: ServerMessage) -> None:
        match message:
            case messages.AuthSuccess(session_id=session_id):
                self._session_id = session_id
            case SessionInfo():
                self._note_info(message)
            case extension.AudioAck(stream=stream, sequence=sequence):
                self.sender.outgoing.acknowledge(Place(stream, sequence))
                self.sender.changed()
            case extension.AudioHeard(heard_ms=heard_ms):
                self._heard_ms = heard_ms
            case extension.GoAway(reason="token"):
                self._renewal.due_in(0)
            case messages.Error(code=code) if code in _REFUSED_AUDIO:
                self.sender.outgoing.await_no_more()
                self.sender.changed()
                self.streaming &= code != ErrorCode.AUDIO_UNSUPPORTED  # which ends the stream
            case _:
                pass

    def _note_info(self, info: SessionInfo) -> None:
        self._resume_token = "" if info.resume_token is UNSET else info.resume_token
        self._resume_s = info.limits.resume_ms / 1000
        resumable = self._comes_back and self._resume_token != ""
        self.sender.resumable = self.sender.keeps = self.reader.holds = resumable
        self.reader.patience_s = info.heartbeat_ms / 1000 + GRACE_S if resumable else None
        if not resumable:
            self.sender.outgoing.forget_written()
        if info.token_expires_at is not UNSET:
            self._renewal.expires(info.token_expires_at)

    @property
    def _code(self) -> str | None:
        """The error that the connection was closed with, as far as it was told."""
        if (error := self.reader.last_error) and is_fatal(error):
            return error.code
        # It may not have been read; its code is the reason of the close, too.
        reason = self._socket.close_reason
        return reason if reason in DISPOSITIONS else None


def now_ms() -> int:
    """Return the wire's time."""
    return int(time.time() * 1000)


def _unauthorized(sentence: str, code: str | None) -> AuthorizationLost:
    return AuthorizationLost(
        f"The connection was lost, and the session cannot be resumed: {sentence}", None, code
    )
