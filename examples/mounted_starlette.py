"""Antiphon within an application of Starlette: all of it below /voice.

    export ANTIPHON_JWT_SECRET=$(openssl rand -hex 32)
    uvicorn --app-dir examples mounted_starlette:app --ws-per-message-deflate false --ws-max-size 131072

Then open http://127.0.0.1:8000/voice/ and paste what `antiphon token --user alice` prints.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from antiphon.asgi import create_app

voice = create_app()


async def hello(_: Request) -> PlainTextResponse:
    return PlainTextResponse("Speak at /voice/\n")


# The lifespan of a mounted application can be the whole one's.
app = Starlette(routes=[Route("/", hello), Mount("/voice", voice)], lifespan=voice.lifespan)
