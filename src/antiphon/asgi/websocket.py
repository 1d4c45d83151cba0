"""One WebSocket of a server of ASGI: its handshake, and what comes and goes over it."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Final

from antiphon import messages
from antiphon.asgi.outgoing import Outgoing
from antiphon.asgi.protocol import Event, Receive, Scope, Send, field, route
from antiphon.bridge import Served
from antiphon.errors import DISPOSITIONS, ErrorCode, GatewayError
from antiphon.extension import SUBPROTOCOL
from antiphon.front import Front
from antiphon.messages import MAX_MESSAGE_BYTES
from antiphon.plain import SOCKET_PATH, Answer, is_forwarded

CLOSE_TIMEOUT_S: Final = 5.0
TURN_MESSAGES: Final = 32
"""How many messages of one client are taken before the others have their turn."""

_INTERNAL_ERROR: Final = 1011
_NO_CODE: Final = 1005


class WebSocket:
    """A connection. `run()` is all of its life, in the task in which the server calls the application."""

    def __init__(self, front: Front, scope: Scope, receive: Receive, send: Send) -> None:
        self.is_websocket = False
        self._front = front
        self._scope = scope
        self._receive = receive
        self._send = send
        self._outgoing = Outgoing(send, writable=self._writable, lost=self.resume)
        self._bridge: Served | None = None
        self._reading = asyncio.Event()
        self._reading.set()
        self._closing = False
        self._end = asyncio.timeout(None)
        self._leave: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Shake hands, and serve the client until it is gone."""
        self._front.joined(self)
        try:
            async with self._end:
                await self._receive()  # websocket.connect
                refusal = self._refusal()
                if refusal:
                    await self._refuse(refusal)
                else:
                    await self._serve()
        except TimeoutError:
            if not self._end.expired():
                raise
        except OSError:
            pass  # the client was gone before it was answered
        finally:
            if self._leave:
                self._leave.cancel()
            self._gone(clean=False)
            await self._outgoing.aclose()
            self._front.left(self)

    # ---- the handshake

    def _refusal(self) -> Answer | None:
        path = route(self._scope)
        if path != SOCKET_PATH:
            return self._front.answer("GET", path, None)
        names = {name.decode("latin-1").lower() for name, _ in self._scope["headers"]}
        return self._front.refusal(
            field(self._scope, b"origin"), field(self._scope, b"host"), forwarded=is_forwarded(names)
        )

    async def _refuse(self, answer: Answer) -> None:
        if "websocket.http.response" not in (self._scope.get("extensions") or {}):
            await self._send({"type": "websocket.close", "code": 1000, "reason": ""})  # HTTP 403, always
            return
        headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
        await self._send(
            {"type": "websocket.http.response.start", "status": answer.status.value, "headers": headers}
        )
        await self._send({"type": "websocket.http.response.body", "body": answer.body})

    async def _serve(self) -> None:
        extended = SUBPROTOCOL in self._scope["subprotocols"]
        subprotocol = SUBPROTOCOL if extended else None
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})
        try:
            self._bridge = self._front.bridge(self, extended=extended)
            self.is_websocket = True
        except GatewayError as error:
            self.send(messages.encode(messages.error_message(error, int(time.time() * 1000))))
            self.close(DISPOSITIONS[error.code].close or _INTERNAL_ERROR, error.code)
        await self._listen()

    # ---- what comes

    async def _listen(self) -> None:
        taken = 0
        while True:
            if not self._reading.is_set():
                await self._reading.wait()
            event = await self._receive()
            if event["type"] == "websocket.disconnect":
                self._gone(clean=_is_clean(event))
                return
            if self._bridge and not self._closing:
                self._take(self._bridge, event)
            taken += 1
            if taken % TURN_MESSAGES == 0:
                await asyncio.sleep(0)

    def _take(self, bridge: Served, event: Event) -> None:
        text: str | None = event.get("text")
        # What no UTF-8 can have made is told as bad encoding, further on.
        data: bytes = event["bytes"] if text is None else text.encode(errors="surrogatepass")
        if len(data) > MAX_MESSAGE_BYTES:
            bridge.fail(GatewayError(ErrorCode.PROTOCOL_TOO_BIG))
        else:
            bridge.receive(data, binary=text is None)

    def _gone(self, *, clean: bool) -> None:
        self._closing = True
        bridge, self._bridge = self._bridge, None
        if bridge:
            bridge.disconnected(clean=clean)

    # ---- what the bridge sees

    @property
    def unread_bytes(self) -> int:
        return self._outgoing.unsent_bytes

    def send(self, data: bytes) -> None:
        if not self._closing:
            self._outgoing.put({"type": "websocket.send", "text": data.decode()}, len(data))

    def send_binary(self, data: bytes) -> None:
        if not self._closing:
            self._outgoing.put({"type": "websocket.send", "bytes": data}, len(data))

    def close(self, code: int, reason: str) -> None:
        if self._closing:
            return
        self._closing = True
        self._outgoing.put({"type": "websocket.close", "code": code, "reason": reason}, 0)
        self.resume()
        self._end_within(CLOSE_TIMEOUT_S)

    def pause(self) -> None:
        self._reading.clear()

    def resume(self) -> None:
        self._reading.set()

    def serve(self, bridge: Served | None) -> None:
        self._bridge = bridge

    def _writable(self, writable: bool) -> None:
        if self._bridge:
            self._bridge.writable(writable=writable)

    # ---- what the front sees

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
            self._end_within(0.0)

    def abort(self) -> None:
        self._end_within(0.0)

    def _end_within(self, delay_s: float) -> None:
        if not self._end.expired():
            self._end.reschedule(asyncio.get_running_loop().time() + delay_s)


def _is_clean(event: Event) -> bool:
    """Whether the client has closed the connection, as far as can be known.

    1012 is what uvicorn tells when it stops, 1006 what is lost; 1005 both a close without a code and, from
    uvicorn and then without a reason, a loss.
    """
    code = event.get("code", _NO_CODE)
    return code in (1000, 1001) or 3000 <= code < 5000 or (code == _NO_CODE and "reason" in event)
