"""A client of one worker, served by the session of another: both ends of the link between the two.

A client may come back to another worker than the one that has its session. The client's worker then puts a
`Relay` in the place of the bridge, and the session's worker has a `Relayed` in the place of the socket. All
that the protocol asks for (who it is, which token, what was missed) is done where the session is, as if the
client were there; the client's worker only passes frames on, and knows nothing of them.

Each end holds little. Towards the session: what the system takes, LINK_BYTES, and a turn's worth; then the
client is not read. Towards the client: while its socket is full, the link is not read, the session is told
(so that its answers wait where they can still be dropped), and what it sends all the same waits with it, up
to `bridge.MAX_UNREAD_BYTES`; then the client is cut.

What may happen: the client goes (GONE, then the link ends). Its worker dies (the link ends without GONE: as
if the client's connection had broken). The session's worker dies (the client's connection is closed with
1012, without an error: that would be a message that the session has not counted). Either worker drains (the
client is told once, and closed once, by the session).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable
from typing import Final, cast

from antiphon import messages, relay_frames
from antiphon.bridge import MAX_UNREAD_BYTES, Connection, Frame, Served
from antiphon.errors import DISPOSITIONS, ErrorCode, GatewayError
from antiphon.front import Front
from antiphon.relay_frames import Kind
from antiphon.server import TURN_BYTES

LINK_BYTES: Final = 32 * 1024
"""What may wait for the other worker, besides what the system takes, before the sender is held back."""
CLOSE_TIMEOUT_S: Final = 5.0
"""How long the other worker may take to read the last frames."""
CLIENT_CLOSE_TIMEOUT_S: Final = 10.0
"""How long a client that was told to close may take: longer than its own worker gives it."""
_SERVICE_RESTART: Final = 1012


class _Link(asyncio.Protocol):
    """One end of the link: cuts frames, by turns, and writes them."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._unparsed = b""
        self._held = self._has_more = False
        self._turn: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None

    # ---- what the ends have to say

    def take(self, kind: Kind, payload: bytes) -> None:
        """Take a frame. Raises ValueError where it makes no sense; the link is cut then."""
        raise NotImplementedError

    def lost(self) -> None:
        """Note that the link is no more."""
        raise NotImplementedError

    # ---- what they do

    def write(self, frame: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(frame)

    def hold(self, *, held: bool) -> None:
        """Read no more for now, or go on."""
        self._held = held
        self._regulate()

    def end(self) -> None:
        """Close the link as soon as what was written is read."""
        self.give_up_after(CLOSE_TIMEOUT_S)
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def give_up_after(self, delay_s: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._transport.abort)

    # ---- what the event loop sees

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=LINK_BYTES)

    def data_received(self, data: bytes) -> None:
        self._unparsed = self._unparsed + data if self._unparsed else data
        if self._turn is None:
            self._parse()

    def connection_lost(self, exc: Exception | None) -> None:
        for handle in (self._turn, self._timer):
            if handle:
                handle.cancel()
        self.lost()

    def _parse(self) -> None:
        """Take the frames that have come; after a part of them the others of the loop have their turn."""
        self._turn, self._has_more = None, False
        data, at = self._unparsed, 0
        try:
            while at < TURN_BYTES and (frame := relay_frames.cut(data, at)):
                at = frame.end
                self.take(frame.kind, data[frame.begin : at])
        except ValueError:
            self._transport.abort()
            return
        self._unparsed = data[at:]
        self._has_more = at >= TURN_BYTES
        self._regulate()

    def _regulate(self) -> None:
        """Read on when what was read is taken and more is wanted."""
        if self._transport.is_closing():
            return
        if not self._held and not self._has_more:
            self._transport.resume_reading()
            return
        self._transport.pause_reading()
        if not self._held and self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._parse)


class Relay(_Link):
    """The client's end: what a connection serves in place of a bridge."""

    def __init__(self) -> None:
        super().__init__()
        self.accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the other worker is there; fails with ConnectionError where it is lost before."""
        self._connection: Connection | None = None
        self._is_full = False

    def begin(self, connection: Connection, request: Frame, held: Iterable[tuple[Frame, bool]]) -> None:
        """Pass a connection on, whose first message is the request and which is paused until now."""
        self._connection = connection
        connection.serve(self)
        self.receive(request)
        for frame, binary in held:
            self.receive(frame, binary=binary)
        if not self._is_full:
            connection.resume()

    # ---- from the connection

    def receive(self, frame: Frame, *, binary: bool = False) -> None:
        self.write(relay_frames.pack(Kind.BINARY if binary else Kind.TEXT, frame))

    def fail(self, error: GatewayError) -> None:
        # The session tells it, since it counts what the client is told. Where the connection was closed for
        # a violation of the protocol, that comes too late, and is told when the client resumes.
        self.write(relay_frames.pack(Kind.FAIL, error.code.encode()))

    def wrote(self) -> None:
        if self._connection and self._connection.unread_bytes > MAX_UNREAD_BYTES:
            slow = ErrorCode.SESSION_CLIENT_SLOW
            self._connection.close(DISPOSITIONS[slow].close or _SERVICE_RESTART, slow)

    def writable(self, *, writable: bool) -> None:
        self.write(relay_frames.pack_flag(Kind.WRITABLE, flag=writable))
        self.hold(held=not writable)

    def disconnected(self, *, clean: bool = False) -> None:
        self._connection = None
        self.write(relay_frames.pack_flag(Kind.GONE, flag=clean))
        self.end()

    def drain(self, time_left_s: float) -> None:
        self.write(relay_frames.pack_time(Kind.DRAIN, time_left_s))

    # ---- from the other worker

    def take(self, kind: Kind, payload: bytes) -> None:
        connection = self._connection
        match kind:
            case Kind.READY:
                if not self.accepted.done():
                    self.accepted.set_result(None)
            case _ if connection is None:
                pass
            case Kind.TEXT:
                connection.send(payload)
            case Kind.BINARY:
                connection.send_binary(payload)
            case Kind.CLOSE:
                connection.close(*relay_frames.close(payload))
            case _:
                raise ValueError(f"{kind.name} is not for the client")

    def lost(self) -> None:
        if not self.accepted.done():
            self.accepted.set_exception(ConnectionResetError("the other worker is gone"))
        connection, self._connection = self._connection, None
        if connection:
            connection.serve(None)
            connection.close(_SERVICE_RESTART, "")

    def pause_writing(self) -> None:
        self._is_full = True
        if self._connection:
            self._connection.pause()

    def resume_writing(self) -> None:
        self._is_full = False
        if self._connection:
            self._connection.resume()


class Relayed(_Link):
    """The session's end: a connection whose socket another worker has, and a guest of the server's."""

    def __init__(self, server: Front) -> None:
        super().__init__()
        self.is_websocket = False
        self._server = server
        self._bridge: Served | None = None
        self._is_closed = False
        self._client_reads = self._link_takes = True
        self._told_to_go = False
        self._leave: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server.joined(self)
        self.write(relay_frames.pack(Kind.READY))
        try:
            if self._server.draining:
                raise GatewayError(ErrorCode.SERVER_STOPPING)  # noqa: TRY301 (as if it were full)
            self._bridge = self._server.bridge(self, extended=True)
            self.is_websocket = True
        except GatewayError as error:
            self.send(messages.encode(messages.error_message(error, int(time.time() * 1000))))
            self.close(DISPOSITIONS[error.code].close or _SERVICE_RESTART, error.code)

    # ---- what the bridge sees

    @property
    def unread_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    def send(self, data: bytes) -> None:
        if not self._is_closed:
            self.write(relay_frames.pack(Kind.TEXT, data))

    def send_binary(self, data: bytes) -> None:
        if not self._is_closed:
            self.write(relay_frames.pack(Kind.BINARY, data))

    def close(self, code: int, reason: str) -> None:
        if not self._is_closed:
            self._is_closed = True
            self.write(relay_frames.pack_close(code, reason))
            self.give_up_after(CLIENT_CLOSE_TIMEOUT_S)
            self.resume()

    def pause(self) -> None:
        self.hold(held=True)

    def resume(self) -> None:
        self.hold(held=False)

    def serve(self, bridge: Served | None) -> None:
        self._bridge = bridge

    # ---- what the server sees

    def announce_drain(self, time_left_s: float, notice_s: float, spread_s: float) -> None:
        delay_s = notice_s + random.random() * spread_s  # noqa: S311 (no secret)
        self._leave = asyncio.get_running_loop().call_later(delay_s, self.drain)
        self._announce(time_left_s)

    def drain(self) -> None:
        if self._bridge:
            self._bridge.fail(GatewayError(ErrorCode.SERVER_DRAINING))
        else:
            self.end()

    # ---- from the other worker

    def take(self, kind: Kind, payload: bytes) -> None:
        bridge = self._bridge
        match kind:
            case Kind.GONE:
                self._gone(clean=relay_frames.flag(payload))
                self.end()
            case Kind.TEXT | Kind.BINARY:
                if bridge and not self._is_closed:
                    bridge.receive(payload, binary=kind is Kind.BINARY)
            case Kind.FAIL:
                error = GatewayError(relay_frames.error_code(payload))
                if bridge:
                    bridge.fail(error)
            case Kind.WRITABLE:
                self._client_reads = relay_frames.flag(payload)
                self._tell_writable()
            case Kind.DRAIN:
                self._announce(relay_frames.time(payload))
            case _:
                raise ValueError(f"{kind.name} is not for the session")

    def lost(self) -> None:
        if self._leave:
            self._leave.cancel()
        self._gone(clean=False)
        self._server.left(self)

    def pause_writing(self) -> None:
        self._link_takes = False
        self._tell_writable()

    def resume_writing(self) -> None:
        self._link_takes = True
        self._tell_writable()

    def _tell_writable(self) -> None:
        if self._bridge:
            self._bridge.writable(writable=self._client_reads and self._link_takes)

    def _announce(self, time_left_s: float) -> None:
        """Tell the client that it has to go, once, though both workers may stop."""
        if self._bridge and not self._told_to_go:
            self._told_to_go = True
            self._bridge.drain(time_left_s)

    def _gone(self, *, clean: bool) -> None:
        bridge, self._bridge = self._bridge, None
        if bridge:
            bridge.disconnected(clean=clean)
