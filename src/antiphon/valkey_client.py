"""Connections to a Valkey or Redis server that answer in time, or are thrown away.

A connection on which anything went wrong, a call was cancelled or ran out of time is never used again: the
late answer would be taken for that of the next call. It is aborted, since closing it in order would wait for
a server that may never take what is still to be sent.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from msgspec import Struct
from valkey.asyncio import Connection, SSLConnection
from valkey.exceptions import (
    AuthenticationError,
    InvalidResponse,
    NoPermissionError,
    NoScriptError,
    ResponseError,
    ValkeyError,
)

from antiphon.store import StoreAway, StoreMisconfigured
from antiphon.valkey_scripts import Call

MAX_CONNECTIONS: Final = 4
"""Of one store, beside that of each subscription; a node has one save under way at a time."""
SILENCE_S: Final = 5.0
"""A subscription on which nothing came for so long is asked whether it lives, and has as long to answer."""
DEFAULT_PORT: Final = 6379

_PLAIN: Final = frozenset({"redis", "valkey"})
_TLS: Final = frozenset({"rediss", "valkeys"})
_TLS_OPTIONS: Final = frozenset({"ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_keyfile"})
_CHECKS: Final = {"required": ssl.CERT_REQUIRED, "none": ssl.CERT_NONE}
_PERMANENT: Final = (
    *("WRONGTYPE", "MOVED", "CROSSSLOT", "DENIED", "DB index is out of range", "SELECT is not allowed"),
    *("unknown command", "ACL failure in script", "The user executing the script"),
)
"""What is in answers that will be the same tomorrow."""


class Server(Struct, frozen=True):
    """Where a server is, and how it is spoken to. Its text is without the password."""

    host: str
    port: int
    database: int
    username: str | None
    password: str | None
    tls: ssl.SSLContext | None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}/{self.database}"

    def __repr__(self) -> str:
        return f"Server({self})"


def parse_url(url: str) -> Server:
    """Read where the server is: `valkey://USER:PASSWORD@HOST:PORT/DATABASE`, `valkeys://` with TLS.

    `redis://` and `rediss://` are the same. Parameters of TLS are `ssl_ca_certs`, `ssl_certfile` and
    `ssl_keyfile`, which name files, and `ssl_cert_reqs=none`, which trusts everybody.

    Raises:
        StoreMisconfigured: it is no such URL, or a file cannot be used.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORT
    except ValueError:
        # Its text may show a part of the password, where that has a character that should be escaped.
        raise StoreMisconfigured(
            "The store's URL cannot be read; a special character in the password is written as %XX."
        ) from None
    if parts.scheme not in _PLAIN | _TLS:
        raise StoreMisconfigured(
            "The store's URL must begin with valkey://, valkeys://, redis:// or rediss://."
        )
    database = parts.path.strip("/") or "0"
    if not (database.isascii() and database.isdecimal()) or parts.fragment:
        raise StoreMisconfigured(
            "The store's URL must end with the number of a database, or nothing, after the port."
        )
    return Server(
        host=unquote(parts.hostname or "localhost"),
        port=port,
        database=int(database),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls=_tls(parts),
    )


def _tls(parts: SplitResult) -> ssl.SSLContext | None:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    known = _TLS_OPTIONS if parts.scheme in _TLS else frozenset[str]()
    if options.keys() - known:
        # They are not shown: where a question mark in the password is not escaped, they are a part of it.
        allowed = ", ".join(sorted(known)) or "no parameters"
        raise StoreMisconfigured(f"The store's URL has parameters that are not known; it may have {allowed}.")
    if parts.scheme in _PLAIN:
        return None
    checks = _CHECKS.get(options.get("ssl_cert_reqs", "required"))
    if checks is None:
        raise StoreMisconfigured("The store's ssl_cert_reqs is neither required nor none.")
    try:
        context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
        if certificate := options.get("ssl_certfile"):
            context.load_cert_chain(certificate, options.get("ssl_keyfile"))
    except OSError as error:
        raise StoreMisconfigured(f"The store's certificates cannot be used: {error}.") from error
    context.check_hostname = checks == ssl.CERT_REQUIRED
    context.verify_mode = checks
    return context


class Client:
    """Runs scripts on one server over a few connections."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._idle: list[_Link] = []
        self._links: set[_Link] = set()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether `aclose` was called."""
        return self._closed

    async def run(self, calls: Sequence[Call], until: float) -> list[Any]:
        """Run scripts in order, in one round trip (two on a server that lacks one of them).

        `until` is the moment of the loop's clock when the answers are worth nothing any more.

        Raises:
            StoreAway: they did not come by then, or one was an error.
        """
        async with self._explained(until), self._slots, self._link() as link:
            return await link.run(calls)

    async def subscribe(self, channel: str, until: float) -> Subscription:
        """Return what is published on a channel from now on; to be closed by the caller.

        Raises:
            StoreAway: it is not to be had by then.
        """
        link = self._new_link()
        subscription = Subscription(link, self)
        try:
            async with self._explained(until):
                await link.connect()
                await link.connection.send_command("SUBSCRIBE", channel)
                await link.connection.read_response()
        except BaseException:
            await subscription.aclose()
            raise
        return subscription

    async def aclose(self) -> None:
        """Abort every connection, whoever uses it."""
        self._closed = True
        for link in self._idle:
            await self.drop(link)
        self._idle.clear()
        for link in self._links:
            link.abort()  # whoever uses it finds out, and drops it

    async def drop(self, link: _Link) -> None:
        """Throw a connection away."""
        self._links.discard(link)
        await link.drop()

    def _new_link(self) -> _Link:
        if self._closed:
            raise StoreAway("The store is closed.")
        link = _Link(self._server)
        self._links.add(link)
        return link

    @asynccontextmanager
    async def _link(self) -> AsyncIterator[_Link]:
        """Lend a connection; it comes back only if nothing is raised."""
        while self._idle and self._idle[-1].is_stale():
            await self.drop(self._idle.pop())
        link = self._idle.pop() if self._idle else self._new_link()
        try:
            await link.connect()
            yield link
        except BaseException:
            await self.drop(link)
            raise
        if self._closed:
            await self.drop(link)
        else:
            self._idle.append(link)

    @asynccontextmanager
    async def _explained(self, until: float) -> AsyncIterator[None]:
        """Raise what goes wrong inside as `StoreAway`, at the latest at a moment of the loop's clock."""
        try:
            async with asyncio.timeout_at(until):
                yield
        except TimeoutError as error:
            raise StoreAway(f"The store at {self._server} did not answer in time.") from error
        except (ValkeyError, OSError) as error:
            raise _explanation(self._server, error) from error


class Subscription:
    """What is published on one channel while its connection holds. Waiting for it may be cancelled."""

    def __init__(self, link: _Link, client: Client) -> None:
        self._link = link
        self._client = client
        self._asked = False

    async def next(self) -> bytes:
        """Wait for the next message.

        Raises:
            StoreAway: the connection is lost, or the server says nothing any more.
        """
        connection = self._link.connection
        try:
            while True:
                try:
                    async with asyncio.timeout(SILENCE_S):
                        # What was read of a message when the time is over stays, and is gone on from.
                        kind, *said = await connection.read_response(disconnect_on_error=False)
                except TimeoutError:
                    if self._asked:
                        raise
                    await connection.send_command("PING")
                    self._asked = True
                    continue
                self._asked = False
                if kind == b"message":
                    return bytes(said[-1])
        except (ValkeyError, OSError, ValueError) as error:
            raise StoreAway("The subscription is lost.") from error

    async def aclose(self) -> None:
        """Throw the connection away."""
        await self._client.drop(self._link)


class _Link:
    """One connection, and the transport under it, which alone can be closed at once."""

    def __init__(self, server: Server) -> None:
        options: Mapping[str, Any] = {
            "host": server.host,
            "port": server.port,
            "db": server.database,
            "username": server.username,
            "password": server.password,
            # The caller has one timeout over everything; those of the client's own would add up.
            "socket_timeout": None,
            "socket_connect_timeout": None,
            "socket_keepalive": True,
            # It would tell the server its name first, and wait for the answer.
            "lib_name": None,
            "lib_version": None,
            "valkey_connect_func": self._greet,
        }
        self._transport: asyncio.WriteTransport | None = None
        self.connection: Any  # its types are there in parts only
        if server.tls:
            self.connection = SSLConnection(**options)
            # Of its own it would read the certificates of all authorities for every connection.
            self.connection.ssl_context.context = server.tls
        else:
            self.connection = Connection(**options)

    async def connect(self) -> None:
        """Connect, log in and choose the database, unless that is done."""
        if self._transport is None:
            await self.connection.connect()

    async def _greet(self, connection: Any) -> None:
        self._transport = connection._writer.transport
        await connection.on_connect()

    async def run(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts, sending the text of those that the server does not know after the first try.

        Raises:
            ValkeyError, OSError: an answer is an error, or the connection is lost.
        """
        answers = await self._exchange([("EVALSHA", call.script.sha, *_operands(call)) for call in calls])
        unknown = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            again = [("EVAL", calls[place].script.text, *_operands(calls[place])) for place in unknown]
            for place, answer in zip(unknown, await self._exchange(again), strict=True):
                answers[place] = answer
        for answer in answers:
            if isinstance(answer, ResponseError):
                raise answer
        return answers

    async def _exchange(self, commands: Sequence[tuple[str | bytes | int, ...]]) -> list[Any]:
        """Send commands and return their answers, errors of the commands among them."""
        await self.connection.send_packed_command(self.connection.pack_commands(commands))
        answers: list[Any] = []
        for _ in commands:
            try:
                answers.append(await self.connection.read_response())
            except ResponseError as error:
                answers.append(error)
            except ValueError as error:
                # Neither a number where one should be, nor the end of a line within 64 KiB.
                raise InvalidResponse from error
        return answers

    def is_stale(self) -> bool:
        """Whether the server has closed the connection since it was used, or sent what nobody asked for."""
        reader = self.connection._reader
        return not self._transport or self._transport.is_closing() or reader.at_eof() or bool(reader._buffer)

    def abort(self) -> None:
        """Close the connection under whoever uses it."""
        if self._transport:
            self._transport.abort()

    async def drop(self) -> None:
        """Close the connection at once, and let go of it."""
        self.abort()
        await self.connection.disconnect(nowait=True)


def _operands(call: Call) -> tuple[str | bytes | int, ...]:
    return (len(call.keys), *call.keys, *call.arguments)


def _explanation(server: Server, error: ValkeyError | OSError) -> StoreAway:
    """Return what to tell of an error, and as what: as passing, or as a fault of the configuration."""
    if isinstance(error, AuthenticationError):
        return StoreMisconfigured(f"The store at {server} refuses the login: {error}")
    if isinstance(error, NoPermissionError):
        return StoreMisconfigured(f"The store at {server} does not allow what is needed: {error}")
    if isinstance(error, InvalidResponse):
        return StoreMisconfigured(f"What answers at {server} is neither Valkey nor Redis.")
    if isinstance(error, ResponseError) and any(words in str(error) for words in _PERMANENT):
        return StoreMisconfigured(f"The store at {server} cannot be used: {error}")
    if isinstance(fault := error.__context__, ssl.SSLError) and (
        isinstance(fault, ssl.SSLCertVerificationError) or fault.reason == "WRONG_VERSION_NUMBER"
    ):
        return StoreMisconfigured(f"The store at {server} cannot be spoken to with TLS: {fault}")
    return StoreAway(f"The store at {server} is away: {error}")
