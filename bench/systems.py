"""What is measured: each a process (or several) between the load and the upstreams, on a core of its own."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import secrets
import shutil
import socket
import ssl
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import httpx
import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec import Struct

from antiphon.auth import mint
from antiphon.messages import AudioFormat

HERE: Final = Path(__file__).parent
START_S: Final = 60.0

MANY: Final = "1000000"


class Cores(Struct, frozen=True):
    """Which processors whom: the last one is for what is measured, the others for load and upstreams."""

    ours: frozenset[int]
    theirs: frozenset[int]

    @classmethod
    def of_this_machine(cls) -> Cores:
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) == 1:
            return cls(frozenset(cores), frozenset(cores))
        return cls(frozenset(cores[:-1]), frozenset(cores[-1:]))


class Running(Struct, frozen=True):
    """A system that runs: where it is reached, with which token, and its processes."""

    url: str
    token: str
    process: psutil.Process
    tls: ssl.SSLContext | None = None
    upstream: psutil.Process | None = None
    """Whom it is before, once that is known."""

    def tree(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def cpu_s(self) -> float:
        """Return what all its processes have used."""
        return sum(map(used_s, self.tree()))

    def memory_bytes(self) -> int:
        """Return what all its processes hold of their own.

        Files are left out: what is shared of them changes when any process on the machine comes or goes.
        """
        return sum(map(held_bytes, self.tree()))


def used_s(process: psutil.Process) -> float:
    """Return what a process has used of a processor."""
    times = process.cpu_times()
    return float(times.user + times.system)


def held_bytes(process: psutil.Process) -> int:
    """Return a process's anonymous memory; what it shares with others, by its part (Linux: `Pss_Anon`)."""
    text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss_Anon:\s+(\d+) kB$", text, re.MULTILINE)
    assert found, "this kernel does not tell (Linux 5.9 does)"
    return int(found[1]) * 1024


class Ports(Struct, frozen=True):
    """Where the upstreams are."""

    grpc: int
    websocket: int
    process: psutil.Process


class LeftOut(Exception):  # noqa: N818 (reads as what happens)
    """Why a system cannot be measured here; a sentence."""


class Place(Struct, frozen=True):
    """Where a system is run: on which processors, before which upstreams, with which Python and Node."""

    cores: Cores
    ports: Ports
    folder: Path
    """For files of this run."""
    python: str = sys.executable


@asynccontextmanager
async def process(
    command: Sequence[str | Path], cores: frozenset[int], environ: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process on these processors, its output piped; it is ended at the end."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)  # which a process has from whoever starts it, all its threads too
    try:
        running = await asyncio.create_subprocess_exec(
            *map(str, command),
            stdin=PIPE,
            stdout=PIPE,
            stderr=None
            if environ
            else DEVNULL,  # what a bridge says of clients that leave is nobody's business
            env=dict(environ) if environ else None,
        )
    finally:
        os.sched_setaffinity(0, own)
    try:
        yield running
    finally:
        if running.returncode is None:
            running.terminate()
            try:
                async with asyncio.timeout(10):
                    await running.wait()
            except TimeoutError:
                running.kill()
                await running.wait()


async def line_of(running: asyncio.subprocess.Process, pattern: str, what: str) -> re.Match[str]:
    """Return the first line of its output that matches.

    Raises:
        LeftOut: it ended before, or took too long.
    """
    assert running.stdout
    try:
        async with asyncio.timeout(START_S):
            while line := (await running.stdout.readline()).decode():
                if found := re.search(pattern, line):
                    return found
    except TimeoutError:
        raise LeftOut(f"{what} did not start within {START_S:g} seconds.") from None
    raise LeftOut(f"{what} ended before it was ready.")


@asynccontextmanager
async def upstreams(cores: Cores, answer: str, chunk_bytes: int, answer_bytes: int) -> AsyncIterator[Ports]:
    """Run the upstreams of `bench.upstreams`."""
    command = [sys.executable, "-m", "bench.upstreams", "--answer", answer]
    command += ["--chunk-bytes", str(chunk_bytes), "--answer-bytes", str(answer_bytes)]
    async with process(command, cores.ours, _with_path()) as running:
        found = await line_of(running, r"(\d+) (\d+)", "The upstream")
        yield Ports(int(found[1]), int(found[2]), psutil.Process(running.pid))


@asynccontextmanager
async def antiphon(place: Place, *, secure: bool = False, workers: int = 1) -> AsyncIterator[Running]:
    """Run `antiphon serve`, as it is shipped; settings of the environment hold."""
    secret = secrets.token_urlsafe(32)
    environ = {
        "ANTIPHON_MAX_SESSIONS": MANY,
        "ANTIPHON_MAX_CONNECTIONS_PER_USER": MANY,
        "ANTIPHON_LOG_LEVEL": "warning",
        **_with_path(),
        "ANTIPHON_JWT_SECRET": secret,
        "ANTIPHON_UPSTREAM": f"grpc://127.0.0.1:{place.ports.grpc}",
        "ANTIPHON_HOST": "127.0.0.1",
        "ANTIPHON_PORT": "0",
    }
    if workers > 1:
        environ["ANTIPHON_WORKERS"] = str(workers)
    tls = None
    if secure:
        certificate = place.folder / "certificate.pem"
        make_certificate(certificate)
        environ |= {"ANTIPHON_TLS_CERT": str(certificate), "ANTIPHON_TLS_KEY": str(certificate)}
        tls = ssl.create_default_context(cafile=certificate)
    command = [sys.executable, "-m", "antiphon", "serve"]
    async with process(command, place.cores.theirs, environ) as running:
        found = await line_of(running, r"(https?)://([\w.\[\]:]*:\d+)", "antiphon serve")
        await line_of(running, "Ready", "antiphon serve")
        scheme = "wss" if secure else "ws"
        token = mint(secret, "bench", 24 * 3600, time.time())
        yield Running(f"{scheme}://{found[2]}/ws", token, psutil.Process(running.pid), tls)


@asynccontextmanager
async def _application(place: Place, app: str, root: str) -> AsyncIterator[Running]:
    """Run an ASGI application of ours under uvicorn, as docs/howto/mount.md says; settings hold as above."""
    await _needs(place.python, "fastapi", "uvicorn", "uvloop", "httptools")
    secret = secrets.token_urlsafe(32)
    environ = {
        "ANTIPHON_MAX_SESSIONS": MANY,
        "ANTIPHON_MAX_CONNECTIONS_PER_USER": MANY,
        **_with_path(),
        "ANTIPHON_JWT_SECRET": secret,
        "ANTIPHON_UPSTREAM": f"grpc://127.0.0.1:{place.ports.grpc}",
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [place.python, "-m", "uvicorn", app, "--port", str(port), *_UVICORN]
    command += ["--app-dir", str(HERE.parent / "examples")]
    async with process(command, place.cores.theirs, environ) as running:
        await _until_ready(f"http://127.0.0.1:{port}{root}/readyz", app)
        token = mint(secret, "bench", 24 * 3600, time.time())
        yield Running(f"ws://127.0.0.1:{port}{root}/ws", token, psutil.Process(running.pid))


def asgi(place: Place) -> AbstractAsyncContextManager[Running]:
    return _application(place, "antiphon.asgi:app", "")


def mounted(place: Place) -> AbstractAsyncContextManager[Running]:
    return _application(place, "mounted_fastapi:app", "/voice")


@asynccontextmanager
async def fastapi(place: Place) -> AsyncIterator[Running]:
    """Run the bridge of FastAPI and grpc.aio."""
    await _needs(place.python, "fastapi", "uvicorn", "uvloop", "httptools", "websockets", "grpc", "google.ai")
    bridge = HERE / "baselines" / "fastapi_bridge.py"
    command: list[str | Path] = [place.python, bridge, f"127.0.0.1:{place.ports.grpc}"]
    async with _bridge(command, place, "The FastAPI bridge") as running:
        yield running


@asynccontextmanager
async def node(place: Place) -> AsyncIterator[Running]:
    """Run the bridge of ws and @grpc/grpc-js."""
    found = shutil.which("node")
    folder = HERE / "baselines" / "node"
    if not found:
        raise LeftOut("There is no Node on this machine.")
    if not (folder / "node_modules").exists():
        raise LeftOut("The Node bridge is not installed: npm ci --prefix bench/baselines/node")
    command: list[str | Path] = [found, folder / "bridge.js", f"127.0.0.1:{place.ports.grpc}"]
    async with _bridge(command, place, "The Node bridge") as running:
        yield running


@asynccontextmanager
async def haproxy(place: Place) -> AsyncIterator[Running]:
    """Run HAProxy as a TCP proxy before an upstream that takes and answers the clients' frames."""
    found = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not found:
        raise LeftOut("There is no HAProxy on this machine.")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = place.folder / "haproxy.cfg"
    file.write_text(_HAPROXY.format(port=port, upstream=place.ports.websocket, most=_most_connections()))
    async with process([found, "-db", "-q", "-f", file], place.cores.theirs) as running:
        await _until_listening(port, "HAProxy")
        yield Running(f"ws://127.0.0.1:{port}/ws", "none", psutil.Process(running.pid))


@asynccontextmanager
async def direct(place: Place) -> AsyncIterator[Running]:
    """Nothing at all: what the load and its upstream take by themselves."""
    yield Running(f"ws://127.0.0.1:{place.ports.websocket}/ws", "none", psutil.Process())


_UVICORN: Final = (
    *(
        "--loop",
        "uvloop",
        "--http",
        "httptools",
        "--ws",
        os.environ.get("BENCH_UVICORN_WS", "websockets-sansio"),
    ),
    *("--ws-per-message-deflate", "false", "--ws-max-size", "131072", "--log-level", "warning"),
)

_HAPROXY: Final = """global
    nbthread 1
    maxconn {most}
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend clients
    bind 127.0.0.1:{port}
    default_backend upstream
backend upstream
    server upstream 127.0.0.1:{upstream}
"""


def raise_limits() -> None:
    """Allow this process and those it starts as many sockets as may be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _most_connections() -> int:
    """Two sockets each, and some for itself."""
    return min(20_000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 - 100)


@asynccontextmanager
async def _bridge(command: Sequence[str | Path], place: Place, what: str) -> AsyncIterator[Running]:
    async with process(command, place.cores.theirs) as running:
        found = await line_of(running, r"^(\d+)$", what)
        url = f"ws://127.0.0.1:{found[1]}/ws"
        await _until_listening(int(found[1]), what)
        yield Running(url, "none", psutil.Process(running.pid))


async def _until_ready(url: str, what: str) -> None:
    """Wait until a gateway takes conversations."""
    try:
        async with asyncio.timeout(START_S), httpx.AsyncClient() as client:
            while not await _is_ready(client, url):  # noqa: ASYNC110 (another process)
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise LeftOut(f"{what} was not ready within {START_S:g} seconds.") from None


async def _is_ready(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).is_success
    except httpx.TransportError:
        return False


async def _until_listening(port: int, what: str) -> None:
    try:
        async with asyncio.timeout(START_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.1)
                else:
                    writer.close()
                    return
    except TimeoutError:
        raise LeftOut(f"{what} did not listen within {START_S:g} seconds.") from None


async def _needs(python: str, *modules: str) -> None:
    code = f"import {', '.join(modules)}"
    running = await asyncio.create_subprocess_exec(python, "-c", code, stdout=DEVNULL, stderr=DEVNULL)
    if await running.wait():
        raise LeftOut(
            f"Python lacks one of {', '.join(modules)}: pip install --group bench, "
            "or name another Python in BENCH_PYTHON."
        )


def _with_path() -> dict[str, str]:
    """The environment, with which processes of ours find the modules that this one has found."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


class System(Struct, frozen=True):
    """What is measured, and how it is spoken to."""

    name: str
    start: Callable[[Place], AbstractAsyncContextManager[Running]]
    extended: bool = False
    as_binary: bool = False
    audio_format: AudioFormat = "LINEAR16"
    chunk_ms: int = 100


def _secure(place: Place) -> AbstractAsyncContextManager[Running]:
    return antiphon(place, secure=True)


def _two_workers(place: Place) -> AbstractAsyncContextManager[Running]:
    """Two processes on the one processor that a system has here: what it costs that there are two."""
    return antiphon(place, workers=2)


SYSTEMS: Final = {
    system.name: system
    for system in (
        System("antiphon", antiphon),
        System("antiphon-v1", antiphon, extended=True),
        System("fastapi", fastapi),
        System("node", node),
        System("haproxy", haproxy),
        System("antiphon-binary", antiphon, extended=True, as_binary=True),
        System("antiphon-flac", antiphon, audio_format="FLAC"),
        System("antiphon-tls", _secure),
        System("antiphon-asgi", asgi),
        System("antiphon-mounted", mounted),
        System("antiphon-20ms", antiphon, chunk_ms=20),
        System("antiphon-workers2", _two_workers),
    )
}
"""All there are. The first five are compared by default; the others are Antiphon with itself."""
DEFAULT: Final = ("antiphon", "antiphon-v1", "fastapi", "node", "haproxy")
DIRECT: Final = System("direct", direct)


def _usage() -> x509.KeyUsage:
    """What Python 3.13 wants a certificate to be for that is its own authority."""
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def make_certificate(file: Path) -> None:
    """Write a certificate for 127.0.0.1, and its key, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Antiphon's benchmark")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .add_extension(_usage(), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)
