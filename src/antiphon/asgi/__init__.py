"""A node as an ASGI 3 application: served by itself, or mounted in one of FastAPI or Starlette.

    uvicorn antiphon.asgi:app

`app` has the settings of `antiphon serve` from the environment (ANTIPHON_*), which are read when it starts.
"""

from __future__ import annotations

from typing import Final

from antiphon.asgi.application import Application
from antiphon.config import Config

__all__ = ["Application", "app", "create_app", "lifespan"]


def create_app(config: Config | None = None) -> Application:
    """Return an application of these settings; without any, of those in the environment when it starts."""
    return Application(config)


app: Final = create_app()
lifespan: Final = app.lifespan
