"""A connection to a gRPC server, and the calls on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple, cast

from antiphon.rpc import grpc
from antiphon.rpc.call import Call
from antiphon.rpc.events import (
    DataCame,
    Event,
    Flushed,
    GoingAway,
    HeadersCame,
    PingAnswered,
    SettingsCame,
    StreamReset,
)
from antiphon.rpc.grpc import Metadata
from antiphon.rpc.http2 import Http2Client
from antiphon.rpc.status import Http2Error, RpcError, Status

MAX_UNREAD_ANSWERS_BYTES: Final = 1024 * 1024
"""Answers that may be added to what waits in the socket; a peer that asks and does not read is cut.

What calls write is not counted: `drained()` bounds it, and a peer's windows may be larger than any bound.
"""
GATHER_BYTES: Final = 32 * 1024
"""Messages that are gathered in a turn of the event loop before they are written."""
UNSENT_BYTES: Final = 256 * 1024
"""Where so much waits in the socket, calls wait."""
CLOSE_S: Final = 1.0
"""How long a connection may take to write what waits when it is closed, before it is cut."""
KEEPALIVE_TIMEOUT_S: Final = 10.0
"""How long a keepalive ping may take to be answered."""


class Terms(NamedTuple):
    """What all calls to a server have in common."""

    authority: str
    is_secure: bool
    agent: str
    max_message_bytes: int


class Connection(asyncio.Protocol):
    """A socket with HTTP/2 on it. `changed` is called when it opens, makes room, goes away or is lost.

    With `keepalive_s` the peer is pinged where nothing came of it for so long while calls are under way.
    Servers of gRPC close connections that ping more often than every five minutes unless told otherwise.
    """

    def __init__(self, terms: Terms, changed: Callable[[], None], keepalive_s: float | None = None) -> None:
        self._terms = terms
        self.opened_at = float("inf")
        """When the peer said what it allows, on the event loop's clock."""
        self._transport: asyncio.Transport | None = None
        self._keepalive_s = keepalive_s
        self._heard_at = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self.is_writable = True
        self.lost: str | None = None
        """Why it is over; None while it is not."""
        self._changed = changed
        self._http2 = Http2Client()
        self._calls: dict[int, Call] = {}
        self._pings: dict[bytes, asyncio.Future[None]] = {}
        self._ping_number = 0
        self._closed = asyncio.Event()
        self._cutter: asyncio.TimerHandle | None = None
        self._reads = False
        self._gathered_bytes = 0
        self._is_due = False
        """Whether what is gathered is to be written at the end of this turn."""
        self._answer_bytes = 0
        """Answers that were written since the socket took everything."""
        self._sentence = ""

    # ---- for the channel

    @property
    def is_open(self) -> bool:
        """Whether the peer has said what it allows."""
        return self._http2.has_settings and self.lost is None

    @property
    def room(self) -> int:
        """How many more calls it takes."""
        return self._http2.room if self.is_open else 0

    @property
    def goes_away(self) -> bool:
        return self._http2.is_going_away

    @property
    def calls(self) -> int:
        return len(self._calls)

    @contextmanager
    def call(self, method: str, metadata: Metadata = (), timeout_s: float | None = None) -> Iterator[Call]:
        """Make a call; leaving ends it, whatever has become of it. `method` is as "/package.Service/Method".

        Raises:
            RpcError: UNAVAILABLE, there is no room for it.
        """
        if not self.room:
            raise RpcError(Status.UNAVAILABLE, self.lost or "The connection has no room for a call.")
        terms = self._terms
        headers = grpc.request_headers(
            terms.authority,
            method,
            metadata,
            secure=terms.is_secure,
            timeout_s=timeout_s,
            agent=terms.agent,
        )
        number = self._http2.open(headers)
        call = self._calls[number] = Call(self, number, terms.max_message_bytes)
        if timeout_s is not None:
            call.end_after(timeout_s)
        self._flush()
        try:
            yield call
        finally:
            call.cancel()

    async def ping(self) -> None:
        """Return once the peer has read what was written before.

        Raises:
            RpcError: UNAVAILABLE, the connection is lost.
        """
        self._ping_number += 1
        payload = self._ping_number.to_bytes(8, "big")
        answered = self._pings[payload] = asyncio.get_running_loop().create_future()
        self._http2.ping(payload)
        self._flush()
        try:
            await answered
        finally:
            self._pings.pop(payload, None)

    def close(self) -> None:
        """Close it; calls that are under way are lost. A peer that does not read is cut after a while."""
        if self.lost is None:
            self._http2.go_away()
            self._flush()
            self._lose("The connection was closed.")

    def abandon(self) -> None:
        """Note that the event loop has closed the socket while it was made, which uvloop tells nobody."""
        self._transport = None
        self.lost = "The connection was not made."
        self._closed.set()

    def cut(self) -> None:
        """Close the socket, whatever waits in it."""
        if self._transport:
            self._transport.abort()

    async def closed(self) -> None:
        """Return when the socket is gone."""
        await self._closed.wait()

    # ---- for its calls

    def send(self, number: int, data: bytes, *, ends: bool = False) -> bool:
        sent = self._http2.send(number, data, ends=ends)
        self._gathered_bytes += len(data)
        if self._gathered_bytes >= GATHER_BYTES:
            self._flush()
        elif not self._is_due:
            # What other calls send in this turn of the event loop goes along: a write is what costs most.
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._write_gathered)
        return sent

    def consumed(self, number: int, size: int) -> None:
        self._http2.consumed(number, size)
        self._flush()

    def reset(self, number: int) -> None:
        self._http2.reset(number)
        self._flush()

    def over(self, number: int) -> None:
        self._calls.pop(number, None)
        self._changed()

    # ---- for the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=UNSENT_BYTES)
        self._flush()
        if self._keepalive_s:
            self._look_after(self._keepalive_s)

    def data_received(self, data: bytes) -> None:
        if self.lost is not None:
            return
        self._reads = True
        if self._keepalive_s:
            self._heard_at = asyncio.get_running_loop().time()
        try:
            for event in self._http2.receive(data):
                if type(event) is DataCame:  # as nearly all are
                    if call := self._calls.get(event.stream):
                        call.data(event.data, event.size, ends=event.ends)
                else:
                    self._take(event)
        except Http2Error as error:
            self._reads = False
            self._flush()
            self._lose(f"The server breaks HTTP/2: {error}")
            return
        self._reads = False
        if self._http2.pending and not self._is_due:
            self._flush()

    def pause_writing(self) -> None:
        self.is_writable = False

    def resume_writing(self) -> None:
        self.is_writable = True
        for call in list(self._calls.values()):
            call.writable()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed.set()
        for timer in (self._watch, self._cutter):
            if timer:
                timer.cancel()
        self._lose(self._sentence or f"The connection was lost: {exc or 'it was closed'}.")

    # ---- within

    def _take(self, event: Event) -> None:
        match event:
            case HeadersCame(stream=number, headers=headers, ends=ends):
                if call := self._calls.get(number):
                    call.headers(headers, ends=ends)
            case StreamReset(stream=number, code=code, is_ours=is_ours, sentence=sentence):
                if call := self._calls.get(number):
                    call.lost(RpcError(Status.INTERNAL, sentence) if is_ours else grpc.reset(code))
            case Flushed(stream=number):
                if call := self._calls.get(number):
                    call.flushed()
            case PingAnswered(payload=payload):
                answered = self._pings.get(payload)
                if answered and not answered.done():
                    answered.set_result(None)
            case GoingAway(debug=debug):
                self._sentence = f"The server went away: {debug[:200].decode('utf-8', 'replace')}"
                self._changed()
            case SettingsCame():
                self.opened_at = min(self.opened_at, asyncio.get_running_loop().time())
                self._changed()

    def _write_gathered(self) -> None:
        self._is_due = False
        self._flush()

    def _flush(self) -> None:
        if self._reads or self._transport is None:
            return  # all that comes of what was read is written at once
        self._gathered_bytes = 0
        answer_bytes = self._http2.answer_bytes
        out = self._http2.take()
        if not out or self._transport.is_closing():
            return
        self._transport.write(out[0] if len(out) == 1 else b"".join(out))
        self._answer_bytes = 0 if self.is_writable else self._answer_bytes + answer_bytes
        if self._answer_bytes > MAX_UNREAD_ANSWERS_BYTES:
            self._lose("The server does not read.")

    def _lose(self, sentence: str) -> None:
        if self.lost is not None:
            return
        self.lost = sentence
        error = RpcError(Status.UNAVAILABLE, sentence)
        for call in list(self._calls.values()):
            call.lost(error)
        for answered in self._pings.values():
            if not answered.done():
                answered.set_exception(error)
        self._changed()
        if self._transport and not self._closed.is_set():
            self._transport.close()
            self._cutter = asyncio.get_running_loop().call_later(CLOSE_S, self.cut)

    def _look_after(self, keepalive_s: float, asked_at: float | None = None) -> None:
        """Ping a peer of which nothing came for a while; take it for lost when nothing comes then, either."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if asked_at is not None and self._heard_at < asked_at:
            self._lose("The server does not answer.")
            self.cut()
            return
        wait_s, asked_at = keepalive_s, None
        if self._calls and now - self._heard_at >= keepalive_s:
            self._http2.ping(bytes(8))
            self._flush()
            wait_s, asked_at = KEEPALIVE_TIMEOUT_S, now
        self._watch = loop.call_later(wait_s, self._look_after, keepalive_s, asked_at)
