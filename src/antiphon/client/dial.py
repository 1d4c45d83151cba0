"""Open the client's WebSocket, and say in a sentence why that did not work; drop it without a word."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec
from websockets import exceptions as ws
from websockets.asyncio.client import ClientConnection, connect
from websockets.http11 import Response
from websockets.typing import Subprotocol

from antiphon.client.errors import CannotConnect, Refused

_CLOSE_TIMEOUT_S = 2.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


async def dial(url: str, timeout_s: float, subprotocols: Sequence[str]) -> ClientConnection:
    """Return the open socket; `timeout_s` bounds the handshake.

    Raises:
        CannotConnect, Refused.
    """
    try:
        return await connect(
            url,
            compression=None,
            open_timeout=timeout_s,
            close_timeout=_CLOSE_TIMEOUT_S,
            proxy=None if urlsplit(url).hostname in _LOOPBACK else True,
            subprotocols=[Subprotocol(name) for name in subprotocols] or None,
        )
    except ws.InvalidStatus as error:
        raise _refused(url, error.response) from None
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", None) or error.reason
        raise CannotConnect(f"The gateway at {url} could not be reached securely: {why}.") from None
    except (ws.InvalidURI, ValueError):
        sentence = f"{url} is not the address of a gateway; one looks like ws://127.0.0.1:8080/ws."
        raise CannotConnect(sentence) from None
    except TimeoutError:
        raise CannotConnect(f"The gateway at {url} did not answer in {timeout_s:g} seconds.") from None
    except ConnectionRefusedError:
        raise CannotConnect(f"Nothing listens at {url}; is the gateway running?") from None
    except OSError as error:
        raise CannotConnect(f"The gateway at {url} cannot be reached: {error.strerror or error}.") from None
    except ws.WebSocketException:
        raise CannotConnect(f"What answers at {url} is not a WebSocket server.") from None


async def drop(socket: ClientConnection) -> None:
    """End a connection at once, without a word: nobody may be there to answer."""
    socket.transport.abort()
    await socket.wait_closed()


def _refused(url: str, response: Response) -> Refused:
    status = response.status_code
    try:
        refusal = msgspec.json.decode(response.body or b"", type=_Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError):
        hint = " Is the path right?" if status == 404 else ""
        return Refused(f"The server at {url} refused the connection with HTTP {status}.{hint}", status, None)
    return Refused(f"The gateway at {url} refused the connection: {refusal.message}", status, refusal.code)


class _Refusal(msgspec.Struct, frozen=True):
    code: str
    message: str
