"""Who starts and stops the parts behind the application, and what is said when they cannot be had."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import CoroutineType
from typing import Any

import pytest

import antiphon
from antiphon import node
from antiphon.asgi import create_app
from antiphon.config import Config, ConfigError
from asgi.mounting import SECRET, by_starlette, config, served
from gateway.talker import connected, talking

OURS = Path(antiphon.__file__).parent


async def lifespan(app: Any, during: Any = None) -> list[dict[str, Any]]:
    """Take an application through its lifespan, as servers do; return what it sent."""
    sent: list[dict[str, Any]] = []
    kinds = ["lifespan.startup", "lifespan.shutdown"]

    async def receive() -> dict[str, Any]:
        if len(kinds) == 1 and during:
            await during()
        return {"type": kinds.pop(0)}

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    await app({"type": "lifespan"}, receive, send)
    return sent


async def get(app: Any, path: str) -> int:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    await app({"type": "http", "method": "GET", "path": path, "headers": []}, receive, send)
    return int(sent[0]["status"])


def left() -> list[str]:
    """The tasks of ours that run."""
    coroutines = [task.get_coro() for task in asyncio.all_tasks()]
    codes = [coroutine.cr_code for coroutine in coroutines if isinstance(coroutine, CoroutineType)]
    return [code.co_qualname for code in codes if Path(code.co_filename).is_relative_to(OURS)]


async def test_the_first_connection_starts_what_nobody_has_started() -> None:
    async with served(by_starlette, alive=False) as place:
        assert not left()
        async with talking(place) as talker:
            await talker.answered()
        assert left()
        await place.voice.aclose()
        assert not left()
        with pytest.raises(RuntimeError, match="closed"):
            await get(place.voice, "/healthz")


async def test_many_first_connections_start_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    parts = node.parts

    def counted(*arguments: Any) -> Any:
        started.append(arguments)
        return parts(*arguments)

    monkeypatch.setattr(node, "parts", counted)
    async with served(by_starlette, alive=False) as place:

        async def one(user: str) -> None:
            async with talking(place, user) as talker:
                await talker.answered()

        await asyncio.gather(*(one(f"user {number}") for number in range(5)))
    assert len(started) == 1


async def test_a_lifespan_leaves_nothing_and_can_be_lived_again() -> None:
    app = create_app(config("127.0.0.1:1"))

    async def during() -> None:
        assert await get(app, "/healthz") == 200
        assert await get(app, "/readyz") == 503

    for _ in range(2):
        sent = await lifespan(app, during)
        assert [event["type"] for event in sent] == [
            "lifespan.startup.complete",
            "lifespan.shutdown.complete",
        ]
        assert not left()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"jwt_secret": None}, "needs a key for tokens"),
        ({"jwt_secret": "short"}, "shorter than 32 bytes"),
        ({"tls_cert": Path("c.pem"), "tls_key": Path("k.pem")}, "ssl-certfile"),
        ({"commands": Path("/nowhere/commands.toml")}, "nowhere"),
    ],
)
async def test_settings_that_cannot_be_used(changed: dict[str, Any], said: str) -> None:
    app = create_app(config("127.0.0.1:1", **changed))
    (failed,) = await lifespan(app)
    assert failed["type"] == "lifespan.startup.failed"
    assert said in failed["message"]
    app = create_app(config("127.0.0.1:1", **changed))
    for _ in range(2):
        with pytest.raises(ConfigError, match=said):
            await get(app, "/healthz")
    assert not left()


async def test_settings_come_from_the_environment_when_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    app = create_app()
    monkeypatch.setenv("ANTIPHON_JWT_SECRET", SECRET)
    monkeypatch.setenv("ANTIPHON_UPSTREAM", "grpc://127.0.0.1:1")
    assert await get(app, "/healthz") == 200
    await app.aclose()
    monkeypatch.setenv("ANTIPHON_UPSTREAMS", "x")
    with pytest.raises(ConfigError, match="did you mean"):
        await get(create_app(), "/healthz")


async def test_host_and_port_are_the_servers(caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(config("127.0.0.1:1", host="0.0.0.0", port=1))
    assert await get(app, "/healthz") == 200
    assert "host and port are not looked at" in caplog.text
    await app.aclose()


async def test_another_event_loop_is_refused() -> None:
    app = create_app(config("127.0.0.1:1"))
    assert await get(app, "/healthz") == 200
    errors: list[BaseException] = []

    def elsewhere() -> None:
        try:
            asyncio.run(get(app, "/healthz"))
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert "another event loop" in str(errors[0])
    await app.aclose()


def test_a_loop_that_is_gone_is_forgotten() -> None:
    app = create_app(config("127.0.0.1:1"))
    for _ in range(2):
        assert asyncio.run(get(app, "/healthz")) == 200


async def test_what_is_full_says_so() -> None:
    async with served(by_starlette, max_sessions=1) as place, talking(place), connected(place) as second:
        await second.send("auth", token=place.token("bob"))
        await second.closed("SERVER_AT_CAPACITY", 1013)


async def test_other_scopes_are_refused() -> None:
    with pytest.raises(RuntimeError, match="'email'"):
        await create_app(Config())({"type": "email"}, _never, _never)


async def _never(*_: Any) -> Any:
    raise AssertionError("called")
