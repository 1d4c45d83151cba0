"""A brain of the operator's: any server of the chat API, asked over HTTP and read as it writes.

Nothing it does can hurt a conversation: it is given little time, read up to a bound, and where it fails, the
caller has an answer of its own.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Final, Self, cast

import httpx
import msgspec
from msgspec import Struct

from antiphon.engine.chat import BrainFailed, Nonsense, Question, Reading, Wanted, complaint, request
from antiphon.engine.flags import BUILTIN
from antiphon.engine.sentences import Speakable
from antiphon.engine.sse import EventReader, TooLong, WholeReader

__all__ = ["BUILTIN", "KEY_VARIABLE", "Brain", "BrainFailed", "base_url", "is_near"]

KEY_VARIABLE: Final = "ANTIPHON_BRAIN_KEY"
"""Where the brain's key stands; a flag would show it in the list of processes."""

CONNECT_TIMEOUT_S: Final = 2.0
FIRST_TOKEN_TIMEOUT_S: Final = 10.0
TOKEN_TIMEOUT_S: Final = 10.0
ANSWER_TIMEOUT_S: Final = 120.0
WAKE_TIMEOUT_S: Final = 120.0
"""For the first token of all: some servers load the model only when they are first asked."""
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""Of a response. A thinking model may write 250 bytes for each of thousands of tokens."""

FIRST_REST_S: Final = 2.0
MAX_REST_S: Final = 30.0
"""A brain that failed is not asked for so long, longer each time: or every turn would wait for it."""

_log = logging.getLogger(__name__)


class Brain:
    """One brain, for all conversations. Close it with `aclose`, or use it as a context manager."""

    def __init__(self, url: str, model: str = "", key: str = "") -> None:
        """`url` is the API's base; `model` is the first that the server lists where it is empty.

        Raises:
            ValueError: the URL or the key cannot be used; the text is a sentence.
        """
        self._url = base_url(url)
        self._model = self._named = model
        self._key = key
        self._rest_until = 0.0
        self._failures = 0
        self._works: bool | None = None
        headers = {"Accept": "text/event-stream, application/json", "Accept-Encoding": "identity"}
        if key:
            if not (key.isascii() and key.isprintable()) or " " in key:
                raise ValueError(f"{KEY_VARIABLE} must be letters, digits and signs in one word.")
            headers["Authorization"] = f"Bearer {key}"
        self._http = httpx.AsyncClient(
            follow_redirects=False,
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=16),
            trust_env=not is_near(self._url.host),  # a proxy is for the outside
            headers=headers,
        )

    async def wake(self) -> bool:
        """Have the model loaded; log and return whether the brain answers. No conversation waits for it."""
        if self._url.scheme == "http" and not is_near(self._url.host):
            _log.warning("What is said goes to the brain at %s in plaintext; use https://.", self._url)
        hello = Question(({"role": "user", "content": "Hello"},))
        try:
            await self._answer(hello, WAKE_TIMEOUT_S, lambda _: True)
        except BrainFailed:
            return False  # which has been logged
        self._worked()
        _log.info("The brain at %s answers (%s).", self._url, self._model)
        return True

    async def think(self, question: Question, say: Callable[[str], None]) -> tuple[Wanted, ...]:
        """Answer a question: call `say` with each sentence once it is whole, return the calls at the end.

        Cancelling it ends the connection, so that the server writes no more.

        Raises:
            BrainFailed: it did not answer, or fell silent in the middle; or it rests after a failure.
        """
        if asyncio.get_running_loop().time() < self._rest_until:
            raise BrainFailed("it failed a moment ago")
        speakable = Speakable()
        said = False

        def take(sentences: list[str]) -> bool:
            nonlocal said
            for sentence in sentences:
                said = True
                say(sentence)
            return speakable.full

        reading = await self._answer(question, FIRST_TOKEN_TIMEOUT_S, lambda text: take(speakable.feed(text)))
        take(speakable.end())
        if not said and not reading.calls:
            raise self._failed("its answer is empty")
        self._worked()
        return reading.calls

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _answer(self, question: Question, first_s: float, enough: Callable[[str], bool]) -> Reading:
        """Read an answer to its end, or until `enough`, which is given its text, says so."""
        try:
            async with asyncio.timeout(first_s) as patience:
                body = request(question, self._model or await self._first_model())
                kind = {"Content-Type": "application/json"}
                url = f"{self._url}/chat/completions"
                async with self._http.stream("POST", url, content=body, headers=kind) as response:
                    return await _read(response, patience, enough)
        except TimeoutError:
            raise self._failed("it is silent for too long") from None
        except httpx.HTTPError as error:
            raise self._failed(f"it cannot be reached ({type(error).__name__})") from None
        except (Nonsense, TooLong) as error:
            raise self._failed(str(error)) from None

    def _worked(self) -> None:
        self._failures = 0
        self._rest_until = 0.0
        if self._works is False:
            _log.info("The brain at %s answers again.", self._url)
        self._works = True

    def _failed(self, why: str) -> BrainFailed:
        """Let the brain rest, and log why if it worked until now."""
        rest_s = min(FIRST_REST_S * 2**self._failures, MAX_REST_S)
        self._failures = min(self._failures + 1, 10)
        self._rest_until = asyncio.get_running_loop().time() + rest_s
        if self._key:
            why = why.replace(self._key, "(key)")
        if self._works is not False:
            _log.warning("The brain at %s fails: %s. The built-in answers take its place.", self._url, why)
        self._works = False
        self._model = self._named
        return BrainFailed(why)

    async def _first_model(self) -> str:
        """Return the first model that the server lists, and stay with it."""
        async with self._http.stream("GET", f"{self._url}/models") as response:
            if response.status_code != httpx.codes.OK:
                raise Nonsense(f"asked for its models, {await _refusal(response)}")
            body = await _whole(response)
        try:
            self._model = msgspec.json.decode(body, type=_Models).data[0].id
        except (msgspec.DecodeError, IndexError, RecursionError):
            raise Nonsense("it lists no model; name one with --brain-model") from None
        return self._model


async def _read(
    response: httpx.Response, patience: asyncio.Timeout, enough: Callable[[str], bool]
) -> Reading:
    """Read what a response says, giving it more time with each piece that brings something.

    Raises:
        Nonsense: it is no answer.
        TooLong: it has no end.
    """
    if response.status_code != httpx.codes.OK:
        raise Nonsense(await _refusal(response))
    clock = asyncio.get_running_loop().time
    end_at = clock() + ANSWER_TIMEOUT_S
    reading = Reading()
    at_once = "json" in response.headers.get("Content-Type", "")
    reader = WholeReader(MAX_ANSWER_BYTES) if at_once else EventReader()

    def take(pieces: list[str]) -> bool:
        for piece in pieces:
            text = reading.take(piece)
            if text is not None:
                patience.reschedule(min(clock() + TOKEN_TIMEOUT_S, end_at))
            if (text and enough(text)) or reading.over:
                return True
        return False

    left = MAX_ANSWER_BYTES
    async with aclosing(_raw(response)) as raw:
        async for data in raw:
            left -= len(data)
            if left < 0:
                raise Nonsense("its answer has no end")
            if take(reader.feed(data)):
                return reading
    take(reader.end())
    return reading


def _raw(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """Return a body as it comes; nothing of theirs is decompressed."""
    return cast("AsyncGenerator[bytes, None]", response.aiter_raw())


async def _refusal(response: httpx.Response) -> str:
    try:
        told = complaint(msgspec.json.decode(await _whole(response)))
    except (msgspec.DecodeError, RecursionError):
        told = ""
    return f"it answers with status {response.status_code}{told and f': {told}'}"


async def _whole(response: httpx.Response) -> bytes:
    reader = WholeReader(MAX_ANSWER_BYTES)
    async with aclosing(_raw(response)) as raw:
        async for data in raw:
            reader.feed(data)
    return reader.whole


def base_url(text: str) -> httpx.URL:
    """Return the base of a chat API; one without a path is taken to end in /v1.

    Raises:
        ValueError: it is none; the text is a sentence.
    """
    try:
        url = httpx.URL(text.strip())
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.userinfo:
        raise ValueError(f"The brain's URL must not hold a password; put a key into {KEY_VARIABLE}.")
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise ValueError(
            f"The brain {text!r} is neither {BUILTIN} nor the URL of a chat API, like http://127.0.0.1:11434/v1."
        )
    return url.copy_with(path=url.path.rstrip("/").removesuffix("/chat/completions") or "/v1")


def is_near(host: str) -> bool:
    """Whether a host is of this machine or its network: a private address, or a name without a domain."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".lan"))


class _Model(Struct):
    id: str


class _Models(Struct):
    """The part of a list of models that is read."""

    data: list[_Model]
