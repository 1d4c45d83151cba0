"""What can go wrong for a client: each an exception with a sentence for a person."""

from __future__ import annotations


class ClientError(Exception):
    """What went wrong, as a sentence; `code` is the gateway's error code where it gave one.

    ├── CannotConnect             no gateway was reached
    ├── Refused                   it refused the handshake, with HTTP `status`
    ├── NotAuthorized             it did not accept the token
    ├── Closed                    the session is over, with the `close_code` of its last connection
    │   └── SessionLost           its connection was lost, and could not be resumed
    │       └── AuthorizationLost since the token was not accepted for it: NotAuthorized, too
    ├── BadMessage                it sent what is no message of the protocol
    ├── BaseOnly                  it does not speak the extensions of the protocol
    └── SoundError                there is no microphone or loudspeaker, or none any more
    """

    def __init__(self, sentence: str, code: str | None = None) -> None:
        self.code = code
        super().__init__(sentence)


class CannotConnect(ClientError):  # noqa: N818 (reads as what happened, as do its siblings)
    """No gateway was reached."""


class Refused(ClientError):  # noqa: N818
    """The gateway refused the handshake."""

    def __init__(self, sentence: str, status: int, code: str | None) -> None:
        self.status = status
        super().__init__(sentence, code)


class NotAuthorized(ClientError):  # noqa: N818
    """The gateway did not accept the token."""


class Closed(ClientError):  # noqa: N818
    """The session is over."""

    def __init__(self, sentence: str, close_code: int | None, code: str | None) -> None:
        self.close_code = close_code
        super().__init__(sentence, code)


class SessionLost(Closed):
    """The connection was lost, and the session could not be resumed."""


class AuthorizationLost(SessionLost, NotAuthorized):
    """The connection was lost, and the token was not accepted to resume the session."""


class BadMessage(ClientError):  # noqa: N818
    """The gateway sent what is no message of the protocol."""


class BaseOnly(ClientError):  # noqa: N818
    """The session has the base messages only: by choice, or since the gateway knows no more."""


class SoundError(ClientError):
    """The machine's microphone or loudspeaker cannot be used, or not any more."""


def not_antiphon(url: str) -> BadMessage:
    return BadMessage(f"What answers at {url} does not speak Antiphon's protocol.")
