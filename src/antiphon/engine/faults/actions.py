"""What a connection with faults wants done, messages to the client apart; `connections` does it."""

from __future__ import annotations

from msgspec import Struct


class Finish(Struct, frozen=True):
    """End the connection with a gRPC status by its name; `retry_s` is for a RetryInfo."""

    status: str
    details: str = ""
    retry_s: float | None = None


class Inject(Struct, frozen=True):
    """Let the engine read a message that the client has not sent."""

    data: bytes


class Report(Struct, frozen=True):
    """Tell whoever runs the engine what has struck."""

    line: str


Action = Finish | Inject | Report
