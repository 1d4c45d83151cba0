"""The tools of a node: every command that the gateway itself has carried out."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from typing import Any

import httpx

from antiphon.keys import MIN_SECRET_BYTES, is_weak
from antiphon.tools.call import (
    LATE,
    Call,
    ClientTool,
    HttpTool,
    PythonTool,
    Tool,
    ToolboxError,
    ToolFailed,
    verify,
)
from antiphon.tools.http_worker import HttpWorker, Resolve, parse_networks, resolve
from antiphon.tools.python_worker import PythonWorker

__all__ = ["Toolbox", "ToolboxError", "verify"]

_log = logging.getLogger(__name__)


class Toolbox:
    """Carries out calls of HTTP and Python tools; those of `ClientTool` are the client's and left out here.

    Each tool runs 32 calls at once; 256 more wait, at the cost of their deadline, and others are refused.

    Raises:
        ToolboxError: a tool cannot work as it is configured.
    """

    def __init__(
        self,
        tools: Mapping[str, Tool],
        *,
        secret: str | None = None,
        networks: tuple[str, ...] = (),
        resolve: Resolve = resolve,
    ) -> None:
        parsed = parse_networks(networks)
        tls: ssl.SSLContext | None = None
        self._workers: dict[str, HttpWorker | PythonWorker] = {}
        for name, tool in tools.items():
            match tool:
                case HttpTool():
                    checked = _checked_secret(name, secret)
                    tls = tls or _trust()
                    self._workers[name] = HttpWorker(name, tool, checked, parsed, tls, resolve)
                case PythonTool():
                    self._workers[name] = PythonWorker(name, tool)
                case ClientTool():
                    pass

    async def run(self, call: Call) -> dict[str, Any]:
        """Return the result of a call for the model, within `call.deadline_s` seconds.

        Cancelling it cancels the work: the connection is closed, the coroutine cancelled, the thread told.

        Raises:
            ToolFailed: there is no result; the text is a sentence for the model.
            KeyError: the tool is the client's, or none.
        """
        worker = self._workers[call.name]
        try:
            async with asyncio.timeout(call.deadline_s):
                return await worker.run(call)
        except TimeoutError:
            _log.warning("The tool %s did not answer within %g s", call.name, call.deadline_s)
            raise ToolFailed(LATE) from None

    async def aclose(self) -> None:
        """Cancel functions that go on though nobody waits for them; call it when no `run` is under way."""
        async with asyncio.TaskGroup() as tasks:
            for worker in self._workers.values():
                if isinstance(worker, PythonWorker):
                    tasks.create_task(worker.aclose())


def _checked_secret(name: str, secret: str | None) -> str:
    if not secret:
        raise ToolboxError(
            f"Requests to the tool {name} are signed, and there is no secret: set ANTIPHON_TOOL_SECRET. "
            "`openssl rand -hex 32` makes a good one."
        )
    if is_weak(secret):
        raise ToolboxError(
            f"ANTIPHON_TOOL_SECRET is shorter than {MIN_SECRET_BYTES} bytes and can be guessed. "
            "`openssl rand -hex 32` makes a good one."
        )
    return secret


def _trust() -> ssl.SSLContext:
    """Return who may certify endpoints: those of SSL_CERT_FILE or SSL_CERT_DIR, or of Mozilla's list."""
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        raise ToolboxError(f"The certificates of SSL_CERT_FILE cannot be used: {error}.") from error
