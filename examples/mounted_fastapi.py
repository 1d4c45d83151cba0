"""Antiphon within an application of FastAPI: its page and WebSocket below /voice, beside your own endpoints.

    export ANTIPHON_JWT_SECRET=$(openssl rand -hex 32)
    uvicorn --app-dir examples mounted_fastapi:app --ws-per-message-deflate false --ws-max-size 131072

Then open http://127.0.0.1:8000/voice/#token=... with what http://127.0.0.1:8000/token/alice gives. Who may
have a token is for your application to say; here it is anybody, which suits no more than your own machine.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from antiphon.asgi import create_app
from antiphon.auth import mint

voice = create_app()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with voice.lifespan():  # a mounted application is not told of the server's
        yield


async def token(user: str) -> str:
    return mint(os.environ["ANTIPHON_JWT_SECRET"], user, 3600, time.time())


app = FastAPI(lifespan=lifespan)
app.add_api_route("/token/{user}", token)
app.mount("/voice", voice)
