"""The listener: WebSocket connections at /ws, and a few plain GETs beside them.

Built on the sans-I/O protocol of `websockets`; nothing outside this module knows that. Compression
is not negotiated: base64 audio gains little by it, and a bomb cannot be sent where nothing inflates.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import ssl
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final, cast

from websockets.datastructures import Headers
from websockets.exceptions import ProtocolError
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from antiphon import client_frames, messages
from antiphon.bridge import Served
from antiphon.errors import DISPOSITIONS, ErrorCode, GatewayError
from antiphon.extension import SUBPROTOCOL
from antiphon.front import UNSENT_BYTES, Front
from antiphon.messages import MAX_MESSAGE_BYTES
from antiphon.plain import SOCKET_PATH, Answer, is_forwarded

HANDSHAKE_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 5.0
PING_AFTER_S: Final = 7.0
"""A client that has sent nothing for so long is pinged, by WebSocket's own ping, which all clients answer."""
GONE_AFTER_S: Final = 17.0
"""A client of which nothing has come for so long, not even a pong, is gone."""
TURN_BYTES: Final = 8 * 1024
"""How much of one client is parsed before the others have their turn: at worst 10 ms, of empty frames.

Unbounded, a single flood of them held up everybody for 20 s (uvloop reads up to 8 MB at once).
"""

_websocket_log = logging.getLogger(f"{__name__}.websocket")
_websocket_log.setLevel(logging.WARNING)

_MESSAGE_COST: Final = 512
"""So much of a turn a whole message takes, and an eighth of its size: a turn is eight chunks of 100 ms."""
_LEAST_COST: Final = 16
_MESSAGES: Final = (client_frames.TEXT, client_frames.BINARY)
_END_OF_REQUEST: Final = b"\r\n\r\n"

_FAILURES: Final[dict[int, ErrorCode]] = {
    CloseCode.MESSAGE_TOO_BIG: ErrorCode.PROTOCOL_TOO_BIG,
    CloseCode.PROTOCOL_ERROR: ErrorCode.PROTOCOL_BAD_FRAME,
    CloseCode.INVALID_DATA: ErrorCode.PROTOCOL_BAD_FRAME,  # the reason of a close frame
    CloseCode.INTERNAL_ERROR: ErrorCode.SERVER_INTERNAL,
}


class Server(Front):
    """A front that listens."""

    _listener: asyncio.Server | None = None

    async def start(
        self, host: str, port: int, tls: ssl.SSLContext | None = None, *, reuse_port: bool = False
    ) -> int:
        """Listen, and return the port (another than asked for where that was 0).

        With `reuse_port` other processes of this user may listen on the same one, and share its clients.

        Raises:
            OSError: the address cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        # uvloop's has a list of sockets, where asyncio's has the tuple that compiled code would insist on.
        listener: Any = await loop.create_server(
            lambda: _Client(self),
            host,
            port,
            ssl=tls,
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S if tls else None,
            backlog=1024,
            reuse_port=reuse_port or None,
        )
        self._listener = listener
        return int(listener.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Tell every client, close every connection, end every session, and wait until all is gone."""
        if self._listener:
            self._listener.close()
        await super().stop()


class _Client(asyncio.Protocol):
    """One socket: HTTP first, then perhaps a WebSocket."""

    _transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self._server = server
        self._ws = _WebSocket(self)
        self._bridge: Served | None = None
        self.is_websocket = False
        self._heard_at = 0.0
        self._pinged = False
        self._watch: asyncio.TimerHandle | None = None
        self._leave: asyncio.TimerHandle | None = None
        self._message: bytearray | None = None
        self._message_is_binary = False
        self._unparsed = b""
        """What was read, from a frame's beginning on, and has to wait for its turn."""
        self._begun = b""
        """A frame that is not whole."""
        self._head = b""
        """The end of what has come of the request, until it is whole."""
        self._is_foreign = False
        """Whether all that comes is the library's: what comes after a plain request, a close, or nonsense."""
        self._paused = False
        self._reads = True
        self._turn: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def _is_open(self) -> bool:
        """Whether it is a WebSocket, and neither side has closed it."""
        return self._ws.state is State.OPEN

    # ---- what the bridge sees

    @property
    def unread_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    def send(self, data: bytes, first: int = client_frames.TEXT) -> None:
        if self._ws.state is State.OPEN and not self._transport.is_closing():
            self._transport.write(client_frames.server_header(first, len(data)) + data)

    def send_binary(self, data: bytes) -> None:
        self.send(data, client_frames.BINARY)

    def close(self, code: int, reason: str) -> None:
        # A close frame in the wrong place was received, but is not answered before it is a violation.
        if self._ws.state is State.OPEN and self._ws.close_rcvd is None:
            self._ws.send_close(code, reason)
            self._flush()
            self.resume()

    def pause(self) -> None:
        self._paused = True
        self._regulate()

    def resume(self) -> None:
        self._paused = False
        self._heard_at = time.monotonic()
        self._regulate()

    def serve(self, bridge: Served | None) -> None:
        self._bridge = bridge

    # ---- what the server sees

    def announce_drain(self, time_left_s: float, notice_s: float, spread_s: float) -> None:
        """Tell the client how long it has, and let it go at some moment before."""
        delay_s = notice_s + random.random() * spread_s  # noqa: S311 (no secret)
        self._leave = asyncio.get_running_loop().call_later(delay_s, self.drain)
        if self._bridge:
            self._bridge.drain(time_left_s)

    def drain(self) -> None:
        if self._bridge:
            self._bridge.fail(GatewayError(ErrorCode.SERVER_DRAINING))
        else:
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    # ---- what the event loop sees

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=UNSENT_BYTES)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            raw = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        self._server.joined(self)
        self._give_up_after(HANDSHAKE_TIMEOUT_S)

    def data_received(self, data: bytes) -> None:
        self._heard_at = time.monotonic()
        self._pinged = False
        if self._begun:
            data, self._begun = self._begun + data, b""
        self._unparsed = data if not self._unparsed else self._unparsed + data
        if self._turn is None:
            self._parse()

    def pause_writing(self) -> None:
        if self._bridge:
            self._bridge.writable(writable=False)

    def resume_writing(self) -> None:
        if self._bridge:
            self._bridge.writable(writable=True)

    def eof_received(self) -> None:
        if self._turn:
            self._turn.cancel()
        self._ws.receive_eof()
        self.handle_events()
        self._gone()
        if self._timer is None:
            self._give_up_after(CLOSE_TIMEOUT_S)  # what is still to be written may find no reader

    def connection_lost(self, exc: Exception | None) -> None:
        for handle in (self._timer, self._turn, self._watch, self._leave):
            if handle:
                handle.cancel()
        self._gone()
        self._server.left(self)

    def _gone(self) -> None:
        bridge, self._bridge = self._bridge, None
        if bridge:
            bridge.disconnected(clean=self._ws.close_rcvd is not None)

    # ---- whether the client is there

    def _look_after(self) -> None:
        """Ping a client that is silent, and drop one of which nothing comes although it is read."""
        loop = asyncio.get_running_loop()
        silent_s = 0.0 if self._paused or self._unparsed else time.monotonic() - self._heard_at
        if silent_s >= GONE_AFTER_S:
            self._transport.abort()
            return
        if silent_s >= PING_AFTER_S and not self._pinged and self._ws.state is State.OPEN:
            self._pinged = True
            self._ws.send_ping(b"")
            self._flush()
        wait_s = (GONE_AFTER_S if self._pinged else PING_AFTER_S) - silent_s
        self._watch = loop.call_later(max(0.1, wait_s), self._look_after)

    # ---- reading, by turns

    def _parse(self) -> None:
        """Parse a part of what was read; what is left has to wait for its turn."""
        self._turn = None
        data, self._unparsed = self._unparsed, b""
        at, end, spent = 0, len(data), 0
        while at < end and spent < TURN_BYTES:
            if self._is_foreign or self._ws.state is not State.OPEN:
                before, at = at, self._pass_on(data, at)
                spent += at - before
                continue
            try:
                frame = client_frames.cut(data, at, MAX_MESSAGE_BYTES)
            except ValueError:
                self._is_foreign = True
                continue
            if frame is None or frame[1] > end:
                self._begun, at = data[at:], end
                break
            first, start = data[at], at
            begin, at = frame
            if first in _MESSAGES and self._bridge and self._ws.current_size is None:
                message = client_frames.payload(data, begin, at)
                self._bridge.receive(message, binary=first == client_frames.BINARY)
                spent += _MESSAGE_COST + (at - start) // 8
            else:
                spent += max(_LEAST_COST, at - start)
                self._hand_over(data[start:at])
        if at < end:
            # While it was parsed, nothing more was read.
            self._unparsed = data[at:]
        if self._unparsed or self._paused or not self._reads:
            self._regulate()

    def _pass_on(self, data: bytes, at: int) -> int:
        """Let the library have what is none of a client's frames; return the place behind it."""
        end = min(len(data), at + TURN_BYTES)
        if self._ws.state is State.CONNECTING and not self._is_foreign:
            # What comes along with the request is left, so that the library is always between two frames.
            before = len(self._head)
            self._head += data[at:end]
            found = self._head.find(_END_OF_REQUEST)
            end = end if found < 0 else at + found + len(_END_OF_REQUEST) - before
            self._head = self._head[-len(_END_OF_REQUEST) + 1 :]
            self._hand_over(data[at:end])
            self._is_foreign = found >= 0 and not self._is_open
        else:
            self._is_foreign = True
            self._hand_over(data[at:end])
        return end

    def _hand_over(self, data: bytes) -> None:
        self._ws.receive_data(data)
        self.handle_events()
        if self._bridge:
            self._bridge.wrote()

    def _regulate(self) -> None:
        """Read on when all that was read is parsed, and the bridge takes more."""
        if self._transport.is_closing():
            return
        self._reads = not self._unparsed and not self._paused
        if self._reads:
            self._transport.resume_reading()
            return
        self._transport.pause_reading()
        if not self._paused and self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._parse)

    # ---- HTTP

    def _request(self, request: Request) -> None:
        path = request.path.partition("?")[0]
        headers = request.headers
        if path != SOCKET_PATH:
            answer = self._server.answer(request.method, path, _field(headers, "Accept-Encoding"))
            self._respond(answer, with_body=request.method != "HEAD")
            return
        forwarded = is_forwarded({name.lower() for name in headers})
        refusal = self._server.refusal(
            _field(headers, "Origin"), _field(headers, "Host"), forwarded=forwarded
        )
        if refusal:
            self._respond(refusal)
        else:
            self._upgrade(request)

    def _respond(self, answer: Answer, *, with_body: bool = True) -> None:
        headers = Headers(answer.headers)
        headers["Connection"] = "close"
        status, body = answer.status, answer.body if with_body else b""
        self._ws.send_response(Response(status.value, status.phrase, headers, body))

    # ---- WebSocket

    def _upgrade(self, request: Request) -> None:
        response = self._ws.accept(request)
        self._ws.send_response(response)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            return
        self._flush()
        if self._timer:
            self._timer.cancel()
            self._timer = None
        try:
            self._bridge = self._server.bridge(self, extended=self._ws.subprotocol == SUBPROTOCOL)
            self.is_websocket = True
            self._heard_at = time.monotonic()
            self._look_after()
        except GatewayError as error:
            self.send(messages.encode(messages.error_message(error, int(time.time() * 1000))))
            self.close(DISPOSITIONS[error.code].close or CloseCode.INTERNAL_ERROR, error.code)

    def failed(self, code: int) -> None:
        """Say why before the protocol closes the connection for a violation."""
        self.handle_events()
        if self._bridge and code in _FAILURES:
            self._bridge.fail(GatewayError(_FAILURES[code]))

    def handle_events(self) -> None:
        for event in self._ws.events_received():
            if isinstance(event, Request):
                self._request(event)
            elif self._bridge and isinstance(event, Frame):
                self._frame(self._bridge, event)
        self._flush()

    def _frame(self, bridge: Served, frame: Frame) -> None:
        match frame.opcode:
            case Opcode.TEXT | Opcode.BINARY if frame.fin:
                bridge.receive(frame.data, binary=frame.opcode is Opcode.BINARY)
            case Opcode.TEXT | Opcode.BINARY:
                self._message = bytearray(frame.data)
                self._message_is_binary = frame.opcode is Opcode.BINARY
            case Opcode.CONT if self._message is not None:
                self._message += frame.data
                if frame.fin:
                    message, self._message = self._message, None
                    bridge.receive(message, binary=self._message_is_binary)
            case _:
                pass

    def _flush(self) -> None:
        for data in self._ws.data_to_send():
            if self._transport.is_closing():
                return
            if data:
                self._transport.write(data)
            elif self._transport.can_write_eof():
                self._transport.write_eof()
            else:
                self._transport.close()
        if self._ws.close_expected() and self._timer is None:
            self._give_up_after(CLOSE_TIMEOUT_S)

    def _give_up_after(self, delay_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._transport.abort)


class _WebSocket(ServerProtocol):
    """The sans-I/O protocol, which lets the session speak before a violation closes it."""

    def __init__(self, client: _Client) -> None:
        super().__init__(max_size=MAX_MESSAGE_BYTES, logger=_websocket_log)
        self.debug = False  # at DEBUG it would write frames, and frames hold tokens
        self._client = client

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        """Speak `antiphon.v1` with who offers it, among whatever else, and the base protocol with others."""
        return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in subprotocols else None

    def recv_frame(self, frame: Frame) -> None:
        if self.state is State.CONNECTING:
            # It came along with the request, which is to be answered before it.
            self._client.handle_events()
        if self.state is State.CONNECTING:
            raise ProtocolError("a frame after a plain request")
        if self.state is State.CLOSING and frame.opcode is Opcode.PING:
            return  # nobody may be there to read the pongs
        super().recv_frame(frame)

    def fail(self, code: CloseCode | int, reason: str = "") -> None:
        self._client.failed(code)
        super().fail(code, reason)


def _field(headers: Headers, name: str) -> str | None:
    """Return a header's value, several being one list (RFC 9110, section 5.2); None where it is missing."""
    values = headers.get_all(name)
    return ", ".join(values) if values else None
