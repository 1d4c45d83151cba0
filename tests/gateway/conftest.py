"""What the tests of a whole gateway share.

They run on the event loop that `antiphon serve` uses, and all on the same one: grpc.aio wakes each loop
that ever used it for the events of all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
import uvloop

from antiphon.server import Server
from gateway import running
from gateway.running import Gateway, running_gateway


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
        if running.FRONT is not Server and item.get_closest_marker("own_socket"):
            item.add_marker(pytest.mark.skip(reason="about the sockets of the stand-alone server"))


@pytest_asyncio.fixture(loop_scope="session")
async def gateway() -> AsyncIterator[Gateway]:
    """A gateway in front of a model that answers everything alike."""
    async with running_gateway() as running:
        yield running


@pytest.fixture(params=["grpc", "websocket"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have the gateways of a test speak to their model over each transport in turn."""
    monkeypatch.setattr(running, "TRANSPORT", request.param)
    return str(request.param)
