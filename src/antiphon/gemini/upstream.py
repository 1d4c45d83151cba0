"""Where Gemini is and how it is asked, whichever transport carries the conversation."""

from __future__ import annotations

import asyncio
import ipaddress
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Literal, NamedTuple, Protocol

from msgspec import Struct

from antiphon.errors import ErrorCode, GatewayError
from antiphon.gemini.profiles import Voice
from antiphon.gemini.stream import ModelStream

GOOGLE: Final = "generativelanguage.googleapis.com:443"
STREAMS_A_CHANNEL: Final = 80
"""Servers commonly allow 100 streams a connection, and the 101st hangs in silence."""
MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024

QUOTA_RETRY_AFTER_MS: Final = 30_000
"""What a client is told to wait when the service does not say how long."""
QUOTA_RETRY_AT_MOST_MS: Final = 24 * 3600 * 1000

TransportName = Literal["grpc", "websocket", "auto"]
ClientName = Literal["native", "grpcio"]


class Vertex(Struct, frozen=True):
    """A project of Google Cloud, and where it is served. Who asks is the machine's default login."""

    project: str
    location: str

    @property
    def target(self) -> str:
        match self.location:
            case "global":
                return "aiplatform.googleapis.com:443"
            case "us" | "eu":
                return f"aiplatform.{self.location}.rep.googleapis.com:443"
            case _:
                return f"{self.location}-aiplatform.googleapis.com:443"


class Upstream(Struct, frozen=True):
    """Where the model is and how it is asked.

    `api_key` goes along to whatever `target` is set. Without one, Google's own application default
    credentials are used where `adc` says so. `tls` is off for loopback and private addresses only.
    `genai` has google-genai open the WebSocket, as Google wants it; `vertex` makes it Vertex AI's.
    """

    target: str = GOOGLE
    tls: bool = True
    api_key: str | None = None
    adc: bool = False
    voice: Voice = Voice("gemini-3.8-live")
    setup_timeout_s: float = 5.0
    tries: int = 3
    backoff_s: float = 0.25
    wait_for_ready: bool = False
    """Whether set-up waits for a server that is not there yet, as one that is being started again."""
    streams_a_channel: int = STREAMS_A_CHANNEL
    transport: TransportName = "grpc"
    client: ClientName = "native"
    """Which client of gRPC is used."""
    genai: bool = False
    vertex: Vertex | None = None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call says of who asks."""
        return (("x-goog-api-key", self.api_key),) if self.api_key else ()

    def __repr__(self) -> str:
        return f"Upstream(target={self.target!r}, tls={self.tls}, transport={self.transport!r})"


class Opening(NamedTuple):
    """The messages that a conversation is opened with: the set-up, and, once that is acknowledged, the
    history.
    """

    setup: Any
    history: Any | None = None


class Transport(Protocol):
    """One way to an upstream."""

    @property
    def ready(self) -> bool:
        """Whether the upstream can be reached, as far as `watch` knows."""

    @property
    def reached(self) -> asyncio.Event:
        """Set once the upstream has been reached."""

    @property
    def connections(self) -> int:
        """How many connections to the upstream are held."""

    async def watch(self) -> None:
        """Keep `ready` true to the upstream; runs until cancelled."""

    async def aclose(self) -> None:
        """Close every connection."""

    def conversation(self, opening: Opening) -> AbstractAsyncContextManager[ModelStream]:
        """Open a conversation; entering returns when the model is ready.

        Raises:
            GatewayError: with an UPSTREAM_* code, and why as its cause.
        """


def is_private(host: str) -> bool:
    """Whether plaintext may be spoken to a host: loopback and private addresses, and `localhost`."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return address.is_loopback or address.is_private


def default_credentials(scope: str, otherwise: str) -> Any:
    """Return Google's application default credentials.

    Raises:
        GatewayError: UPSTREAM_UNAUTHORIZED with the sentence `otherwise`, when the machine has none.
    """
    import google.auth
    import google.auth.exceptions

    try:
        credentials, _ = google.auth.default(scopes=[scope])
    except google.auth.exceptions.DefaultCredentialsError as error:
        raise GatewayError(ErrorCode.UPSTREAM_UNAUTHORIZED, otherwise) from error
    return credentials


def google_credentials() -> Any:
    """Return the login that Gemini is asked with where there is no key.

    Raises:
        GatewayError: UPSTREAM_UNAUTHORIZED, the machine has none.
    """
    return default_credentials(
        "https://www.googleapis.com/auth/generative-language",
        "Neither GEMINI_API_KEY is set nor does this machine have Google's application default login.",
    )
