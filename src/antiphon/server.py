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
from collections.abc import Callable, Sequence
from http import HTTPStatus
from importlib.resources import files
from typing import Final, Protocol, cast
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct
from websockets.datastructures import Headers
from websockets.exceptions import ProtocolError
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from antiphon import __version__, client_frames, messages
from antiphon.admission import RETRY_AFTER_MS
from antiphon.bridge import Bridge, Connection, Served
from antiphon.errors import DISPOSITIONS, ErrorCode, GatewayError
from antiphon.extension import SUBPROTOCOL
from antiphon.messages import MAX_MESSAGE_BYTES

HANDSHAKE_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 5.0
STOP_TIMEOUT_S: Final = 10.0
PING_AFTER_S: Final = 7.0
"""A client that has sent nothing for so long is pinged, by WebSocket's own ping, which all clients answer."""
GONE_AFTER_S: Final = 17.0
"""A client of which nothing has come for so long, not even a pong, is gone."""
DRAIN_NOTICE_S: Final = 1.0
"""A balancer takes so long to see that a node drains; no connection is closed before."""
DRAIN_SPREAD: Final = 0.6
"""The part of the rest of the time in which connections are closed, at moments drawn by chance."""
TURN_BYTES: Final = 8 * 1024
"""How much of one client is parsed before the others have their turn: at worst 10 ms, of empty frames.

Unbounded, a single flood of them held up everybody for 20 s (uvloop reads up to 8 MB at once).
"""
UNSENT_BYTES: Final = 32 * 1024
"""What may wait in the socket, and again in the system, before answers are held back: half a second of one.

What waits there cannot be dropped when the user speaks over it.
"""

_log = logging.getLogger(__name__)
_websocket_log = logging.getLogger(f"{__name__}.websocket")
_websocket_log.setLevel(logging.WARNING)

_MESSAGES: Final = (client_frames.TEXT, client_frames.BINARY)
_END_OF_REQUEST: Final = b"\r\n\r\n"

_PAGE: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
}
_SECURITY_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; media-src 'self' blob:; worker-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_FAILURES: Final[dict[int, ErrorCode]] = {
    CloseCode.MESSAGE_TOO_BIG: ErrorCode.PROTOCOL_TOO_BIG,
    CloseCode.PROTOCOL_ERROR: ErrorCode.PROTOCOL_BAD_FRAME,
    CloseCode.INVALID_DATA: ErrorCode.PROTOCOL_BAD_FRAME,  # the reason of a close frame
    CloseCode.INTERNAL_ERROR: ErrorCode.SERVER_INTERNAL,
}


class About(Struct, frozen=True):
    """What `GET /about` tells: nothing a stranger should not know."""

    upstream: str
    name: str = "antiphon"
    version: str = __version__


class MakeBridge(Protocol):
    """Make the bridge of a connection; `extended` says that its client speaks `antiphon.v1`."""

    def __call__(self, connection: Connection, *, extended: bool) -> Bridge: ...


class Guest(Connection, Protocol):
    """A connection as the server sees it: a socket of its own, or a client that another worker passes on."""

    is_websocket: bool

    def announce_drain(self, time_left_s: float, notice_s: float, spread_s: float) -> None: ...

    def drain(self) -> None: ...

    def abort(self) -> None: ...


class Server:
    """Listens, answers plain GETs, and runs a bridge for each WebSocket.

    `ready` says whether the upstream can take a conversation; `/readyz` is 503 while it says no, and
    while the server drains. `max_connections` bounds the WebSockets, unauthenticated ones included.
    """

    def __init__(
        self,
        make_bridge: MakeBridge,
        *,
        ready: Callable[[], bool],
        about: About,
        origins: frozenset[str] = frozenset(),
        max_connections: int = 2000,
        end_sessions: Callable[[], None] = lambda: None,
    ) -> None:
        self.draining = False
        self._drain_by = 0.0
        self._make_bridge = make_bridge
        self._ready = ready
        self._about = msgspec.json.encode(about)
        self._origins = origins
        self._max_connections = max_connections
        self._end_sessions = end_sessions
        self._sockets = 0
        self._clients: set[Guest] = set()
        self._bridges: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._listener: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        """How many sockets are open, of any kind."""
        return len(self._clients)

    async def start(
        self, host: str, port: int, tls: ssl.SSLContext | None = None, *, reuse_port: bool = False
    ) -> int:
        """Listen, and return the port (another than asked for where that was 0).

        With `reuse_port` other processes of this user may listen on the same one, and share its clients.

        Raises:
            OSError: the address cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: _Client(self),
            host,
            port,
            ssl=tls,
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S if tls else None,
            backlog=1024,
            reuse_port=reuse_port or None,
        )
        return int(self._listener.sockets[0].getsockname()[1])

    @property
    def drain_left_s(self) -> float:
        """How long the connections that are open still have."""
        return max(0.0, self._drain_by - time.monotonic())

    async def drain(self, duration_s: float) -> None:
        """Take no new client from now on, and let those who are here go, within the time.

        `/readyz` says so, clients are told at once, and their connections are closed at moments drawn by
        chance, so that they do not all come back together. Returns when nobody is here, or the time is over.
        """
        self.draining = True
        self._drain_by = time.monotonic() + duration_s
        notice_s = min(DRAIN_NOTICE_S, duration_s / 4)
        for client in list(self._clients):
            client.announce_drain(duration_s, notice_s, (duration_s - notice_s) * DRAIN_SPREAD)
        try:
            async with asyncio.timeout(duration_s):
                while self._clients:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass

    async def stop(self) -> None:
        """Tell every client, close every connection, end every session, and wait until all is gone."""
        self.draining = True
        if self._listener:
            self._listener.close()
        for client in list(self._clients):
            client.drain()
        self._end_sessions()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._deserted()
        except TimeoutError:
            _log.warning("Cutting %d connections that did not close in time", len(self._clients))
            for client in self._clients:
                client.abort()
            for task in self._bridges:
                task.cancel()
            await self._deserted()

    async def _deserted(self) -> None:
        while self._clients or self._bridges:
            self._changed.clear()
            await self._changed.wait()

    # ---- for the clients

    def answer(self, method: str, path: str) -> tuple[HTTPStatus, str, bytes]:
        """Return status, content type and body for a plain request."""
        if method not in ("GET", "HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", b"Only GET is served here.\n"
        match path:
            case "/" | "/app.js" | "/style.css":
                name, content_type = _PAGE[path]
                return HTTPStatus.OK, content_type, files("antiphon.console").joinpath(name).read_bytes()
            case "/about":
                return HTTPStatus.OK, "application/json", self._about
            case "/healthz":
                return HTTPStatus.OK, "text/plain", b"ok\n"
            case "/readyz" if self.draining:
                return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"stopping\n"
            case "/readyz" if not self._ready():
                return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"the upstream is not ready\n"
            case "/readyz":
                return HTTPStatus.OK, "text/plain", b"ready\n"
            case _:
                return HTTPStatus.NOT_FOUND, "text/plain", b"Not found: the page is /, the WebSocket /ws.\n"

    def origin_allowed(self, origin: str | None, host: str | None) -> bool:
        """Whether a page of this origin may connect. A program that is no browser sends none."""
        if origin is None or "*" in self._origins or origin in self._origins:
            return True
        own = _authority(f"{origin.partition(':')[0]}://{host}")
        return own is not None and own == _authority(origin)

    def joined(self, client: Guest) -> None:
        self._clients.add(client)

    def left(self, client: Guest) -> None:
        self._clients.discard(client)
        self._sockets -= client.is_websocket
        self._changed.set()

    def bridge(self, client: Guest, *, extended: bool) -> Bridge:
        """Return the running bridge for an open WebSocket.

        Raises:
            GatewayError: SERVER_AT_CAPACITY.
        """
        if self._sockets >= self._max_connections:
            raise GatewayError(ErrorCode.SERVER_AT_CAPACITY, retryAfterMs=RETRY_AFTER_MS)
        self._sockets += 1
        bridge = self._make_bridge(client, extended=extended)
        task = asyncio.get_running_loop().create_task(bridge.run())
        self._bridges.add(task)
        task.add_done_callback(self._ended)
        return bridge

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._bridges.discard(task)
        self._changed.set()
        if not task.cancelled() and (error := task.exception()):
            _log.error("A session ended by a fault of the gateway", exc_info=error)


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

    def send(self, data: bytes) -> None:
        self._write(client_frames.TEXT, data)

    def send_binary(self, data: bytes) -> None:
        self._write(client_frames.BINARY, data)

    def _write(self, first: int, data: bytes) -> None:
        if self._is_open and not self._transport.is_closing():
            self._transport.write(client_frames.server_header(first, len(data)) + data)

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
        at, end = 0, len(data)
        while at < end and at < TURN_BYTES:
            if self._is_foreign or not self._is_open:
                at = self._pass_on(data, at)
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
            else:
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
        if path != "/ws":
            status, content_type, body = self._server.answer(request.method, path)
            self._respond(status, content_type, body, with_body=request.method != "HEAD")
        elif self._server.draining and _is_forwarded(headers):
            # A balancer can try another node; a client that is here itself is told in its own language.
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, ErrorCode.SERVER_STOPPING)
        elif not self._server.origin_allowed(_field(headers, "Origin"), _field(headers, "Host")):
            self._refuse(HTTPStatus.FORBIDDEN, ErrorCode.AUTH_ORIGIN_REFUSED)
        else:
            self._upgrade(request)

    def _refuse(self, status: HTTPStatus, code: ErrorCode) -> None:
        body = msgspec.json.encode({"code": code, "message": DISPOSITIONS[code].message})
        self._respond(status, "application/json", body)

    def _respond(self, status: HTTPStatus, content_type: str, body: bytes, *, with_body: bool = True) -> None:
        headers = Headers(_SECURITY_HEADERS)
        headers["Content-Type"] = content_type
        headers["Content-Length"] = str(len(body))
        headers["Cache-Control"] = "no-cache"
        headers["Connection"] = "close"
        self._ws.send_response(Response(status.value, status.phrase, headers, body if with_body else b""))

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
            if self._server.draining:
                raise GatewayError(ErrorCode.SERVER_STOPPING)  # noqa: TRY301 (as if it were full)
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
        super().__init__(
            max_size=MAX_MESSAGE_BYTES, logger=_websocket_log, select_subprotocol=_select_subprotocol
        )
        self.debug = False  # at DEBUG it would write frames, and frames hold tokens
        self._client = client

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


def _select_subprotocol(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Speak `antiphon.v1` with who offers it, among whatever else, and the base protocol with all others."""
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None


def _field(headers: Headers, name: str) -> str | None:
    """Return a header's value, several being one list (RFC 9110, section 5.2); None where it is missing."""
    values = headers.get_all(name)
    return ", ".join(values) if values else None


def _is_forwarded(headers: Headers) -> bool:
    """Whether a balancer stands in between that says so."""
    return any(name in headers for name in ("X-Forwarded-For", "Forwarded", "Via"))


def _authority(url: str) -> tuple[str, int | None] | None:
    """Return host and port of an origin; None where it has none, as `null`."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    return (host, port or {"http": 80, "https": 443}.get(parts.scheme)) if host else None
