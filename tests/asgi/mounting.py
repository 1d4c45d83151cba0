"""The application mounted in those of others, under a real uvicorn, before a model that answers all alike."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI
from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.routing import Mount
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from antiphon.asgi import Application, create_app
from antiphon.auth import mint
from antiphon.config import Config
from fake_gemini import FakeGemini, Script, attentive, fake_gemini
from gateway.uvicorn_front import Uvicorn

SECRET = "a secret of this test suite, long enough for HS256"

Lifespan = Callable[[Any], AbstractAsyncContextManager[None]] | None


def by_fastapi(voice: Application, lifespan: Lifespan) -> FastAPI:
    async def own() -> str:
        return "mine"

    app = FastAPI(lifespan=lifespan)
    app.add_api_route("/own", own)
    app.mount("/voice", voice)
    return app


def by_starlette(voice: Application, lifespan: Lifespan) -> Starlette:
    return Starlette(routes=[Mount("/voice", voice)], lifespan=lifespan)


class Place:
    """An application that is served."""

    def __init__(self, voice: Application, port: int, root: str, upstream: FakeGemini) -> None:
        self.voice = voice
        self.upstream = upstream
        self.port = port
        self.root = root

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}{self.root}/ws"

    def token(self, user: str = "alice", ttl_s: float = 60) -> str:
        return mint(SECRET, user, ttl_s, time.time())

    async def get(self, path: str, method: str = "GET") -> httpx.Response:
        async with httpx.AsyncClient() as client:
            return await client.request(method, f"http://127.0.0.1:{self.port}{path}")

    async def refused(self, url: str, **options: Any) -> tuple[int, str]:
        """Return status and code of a handshake that is refused."""
        try:
            async with connect(url, **options):
                raise AssertionError("not refused")
        except InvalidStatus as error:
            body = error.response.body or b""
            is_json = error.response.headers["content-type"] == "application/json"
            return error.response.status_code, json.loads(body)["code"] if is_json else body.decode()


def config(target: str, **changed: Any) -> Config:
    return replace(Config(upstream=f"grpc://{target}", jwt_secret=SECRET), **changed)


@asynccontextmanager
async def served(
    build: Callable[[Application, Lifespan], Any] | None = None,
    *,
    alive: bool = True,
    script: Script = attentive,
    **settings: Any,
) -> AsyncIterator[Place]:
    """Serve it by itself, or mounted by `build` at /voice; `alive`: with its lifespan."""
    async with fake_gemini(script) as model:
        voice = create_app(config(model.target, **settings))
        app = build(voice, voice.lifespan if alive else None) if build else voice
        server = Uvicorn(app)
        port = await server.start()
        try:
            yield Place(voice, port, "/voice" if build else "", model)
        finally:
            await server.aclose()
            await voice.aclose()
