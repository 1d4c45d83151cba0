"""Every client of gRPC before every server."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from antiphon.gemini.upstream import ClientName
from rpc.conformance.servers import Options, Server, grpc_js_server, grpcio_server

Serve = Callable[..., AbstractAsyncContextManager[Server]]

GRPC_JS = Path(__file__).parent / "grpc_js"

pytest.register_assert_rewrite("rpc.conformance.using")


@pytest.fixture(params=["native", "grpcio"])
def client(request: pytest.FixtureRequest) -> ClientName:
    name: ClientName = request.param
    return name


@pytest.fixture(scope="session")
def node() -> Iterator[int]:
    """A process of Node that serves; where it is told what."""
    if not (GRPC_JS / "node_modules").exists():
        pytest.fail(f"grpc-js is not installed: run npm ci --prefix tests/rpc/conformance/{GRPC_JS.name}")
    with subprocess.Popen(
        ["node", GRPC_JS / "server.js"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        yield int(process.stdout.readline())
        process.kill()


@pytest.fixture(params=["grpcio", pytest.param("grpc-js", marks=pytest.mark.node)])
def serve(request: pytest.FixtureRequest) -> Serve:
    """Start a server; its options are those of `Options`."""
    if request.param == "grpcio":
        return lambda **options: grpcio_server(Options(**options))
    control_port: int = request.getfixturevalue("node")

    def start(**options: Any) -> AbstractAsyncContextManager[Server]:
        return grpc_js_server(control_port, Options(**options))

    return start
