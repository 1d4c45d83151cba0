"""The Python client for programs without asyncio: the same session, its methods without await.

    from antiphon.client.sync import connect

    with connect("ws://127.0.0.1:8080/ws", token) as client:
        client.start(rate_hz=16_000)
        client.send_audio(pcm)
        client.end()
        for message in client:
            ...

The session lives in an event loop in a thread of its own, which ends when the `with` does. What is raised is
what the asynchronous client raises. It may be used from several threads; see `Client`.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

from antiphon import client as asynchronous
from antiphon.client.errors import Closed
from antiphon.client.loop_thread import LoopThread, Stopped
from antiphon.client.reconnect import DEFAULT, Reconnect
from antiphon.client.tokens import TokenSource
from antiphon.client.tools import Tool
from antiphon.extension import ServerMessage, SessionInfo

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def connect(
    url: str,
    token: TokenSource,
    *,
    timeout_s: float = 10.0,
    on_frame: Callable[[bytes], None] | None = None,
    base: bool = False,
    output_formats: Sequence[str] = (),
    binary_audio: bool = False,
    playback_buffer_ms: float | None = None,
    features: Sequence[str] = (),
    tools: Mapping[str, Tool] | None = None,
    reconnect: Reconnect | None = DEFAULT,
    on_lost: Callable[[], None] | None = None,
) -> Iterator[Client]:
    """Open a session at `url` and close it on leaving, as `antiphon.client.connect` does, with its arguments.

    `token` and `tools` are called in threads of their own: they may take their time, several tools work at
    once, and they may use the client. A coroutine function runs in the event loop. A tool that is cancelled
    or too late goes on in its thread, and what it returns is dropped; leaving waits for it.
    `on_frame` and `on_lost` are called in the event loop's thread and must only take note.

    Raises:
        CannotConnect, Refused, NotAuthorized, Closed, BadMessage; and what `token` raises.
    """
    with LoopThread() as thread:
        opening = asynchronous.connect(
            url,
            token if isinstance(token, str) else thread.in_worker(token),
            timeout_s=timeout_s,
            on_frame=on_frame,
            base=base,
            output_formats=output_formats,
            binary_audio=binary_audio,
            playback_buffer_ms=playback_buffer_ms,
            features=features,
            tools={name: thread.in_worker(tool) for name, tool in (tools or {}).items()},
            reconnect=reconnect,
            on_lost=on_lost,
        )
        client = Client(thread.run(opening.__aenter__()), thread, opening)
        try:
            yield client
        finally:
            client.close()


def _blocking(
    method: Callable[Concatenate[asynchronous.Client, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Client, P], T]:
    """Return a method of the asynchronous client as one that waits."""

    @functools.wraps(method)
    def call(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(method(self._client, *args, **kwargs))

    return call


def _entering(
    method: Callable[Concatenate[asynchronous.Client, P], AbstractAsyncContextManager[T]],
) -> Callable[Concatenate[Client, P], AbstractContextManager[T]]:
    """Return a method that is for `async with` as one that is for `with`."""

    @functools.wraps(method)
    def call(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> AbstractContextManager[T]:
        return self._thread.entered(method(self._client, *args, **kwargs))

    return call


class Client:
    """An open session, as `antiphon.client.Client` is one; methods wait until they are done.

    Iterate in one thread; all else may be used by several at once. Where the session is closed meanwhile, by
    `close()` or by leaving, the iteration ends, and all else raises `Closed`. Ctrl-C interrupts what waits in
    the main thread, and leaves the session as it is.
    """

    def __init__(
        self,
        client: asynchronous.Client,
        thread: LoopThread,
        opening: AbstractAsyncContextManager[asynchronous.Client],
    ) -> None:
        self._client = client
        self._thread = thread
        self._opening: AbstractAsyncContextManager[asynchronous.Client] | None = opening
        self._closing = threading.Lock()
        self._limit = _Limit()

    # ---- what only this one has

    def close(self) -> None:
        """End the session, as leaving does, from any thread; whoever waits in another is let go."""
        with self._closing:
            opening, self._opening = self._opening, None
            if opening:
                try:
                    self._thread.leave(opening)
                finally:
                    self._thread.stop()

    @contextmanager
    def timeout(self, seconds: float) -> Iterator[None]:
        """Let what waits within, in this thread, raise TimeoutError then; `asyncio.timeout` does the same.

            with client.timeout(30):
                for message in client:
                    ...

        Nothing is lost by that: what has not been iterated over comes next.
        """
        before = self._limit.at
        self._limit.at = min(before, time.monotonic() + seconds)
        try:
            yield
        finally:
            self._limit.at = before

    # ---- what every session has

    @property
    def session_id(self) -> str:
        """The gateway's name for this session: its operator finds it in the logs."""
        return self._client.session_id

    @property
    def user_id(self) -> str:
        """Whom the token speaks for."""
        return self._client.user_id

    @property
    def extended(self) -> bool:
        """Whether this is a session of antiphon.v1; else what only that has raises `BaseOnly`."""
        return self._client.extended

    @property
    def info(self) -> SessionInfo | None:
        """What the gateway offers in this session, as it said last; None in a base session."""
        return self._client.info

    @property
    def connected(self) -> bool:
        """Whether there is a connection now; a session that is to be resumed goes on without one."""
        return self._client.connected

    @property
    def resumptions(self) -> int:
        """How often the session was resumed over another connection."""
        return self._client.resumptions

    @property
    def lossy(self) -> bool:
        """Whether something is missing: a resumption could not bring all messages, one way or the other."""
        return self._client.lossy

    @property
    def on_lost(self) -> Callable[[], None] | None:
        """What is called when the connection is lost and the client begins to come back."""
        return self._client.on_lost

    @on_lost.setter
    def on_lost(self, on_lost: Callable[[], None] | None) -> None:
        self._client.on_lost = on_lost

    @property
    def close_code(self) -> int | None:
        """The WebSocket close code; 1006 where the connection was lost; None while the session goes on."""
        return self._client.close_code

    @property
    def close_reason(self) -> str | None:
        """What the gateway said with the close code: mostly the code of an error."""
        return self._client.close_reason

    @property
    def binary_audio(self) -> bool:
        """Whether audio travels as binary frames."""
        return self._client.binary_audio

    def closed(self) -> Closed:
        """Return, to be raised, why the session is over."""
        return self._client.closed()

    start = _blocking(asynchronous.Client.start)
    send_audio = _blocking(asynchronous.Client.send_audio)
    end = _blocking(asynchronous.Client.end)
    command = _blocking(asynchronous.Client.command)
    renew = _blocking(asynchronous.Client.renew)

    # ---- what antiphon.v1 has; all of it raises BaseOnly in a base session

    ping = _blocking(asynchronous.Client.ping)
    activity_start = _blocking(asynchronous.Client.activity_start)
    activity_end = _blocking(asynchronous.Client.activity_end)
    interrupt = _blocking(asynchronous.Client.interrupt)
    playback_mark = _blocking(asynchronous.Client.playback_mark)
    tool_result = _blocking(asynchronous.Client.tool_result)
    tool_error = _blocking(asynchronous.Client.tool_error)

    def abort(self) -> None:
        """Lose the connection, as a network does: to see what survives that."""
        self._run(_abort(self._client))

    # ---- by microphone and loudspeaker

    talk = _entering(asynchronous.Client.talk)

    # ---- what comes

    def __iter__(self) -> Iterator[ServerMessage]:
        return self

    def __next__(self) -> ServerMessage:
        """Return the next message.

        Raises:
            BadMessage: it is not one of the protocol.
            TimeoutError: none came in the time that `timeout()` gives.
        """
        try:
            return self._thread.run(self._client.__anext__(), self._limit.left_s)
        except (StopAsyncIteration, Stopped):
            raise StopIteration from None

    # ---- within

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            return self._thread.run(coroutine, self._limit.left_s)
        except Stopped:
            raise self.closed() from None


class _Limit(threading.local):
    """Until when a thread waits, by time.monotonic()."""

    at = float("inf")

    @property
    def left_s(self) -> float | None:
        return None if self.at == float("inf") else self.at - time.monotonic()


async def _abort(client: asynchronous.Client) -> None:
    client.abort()
