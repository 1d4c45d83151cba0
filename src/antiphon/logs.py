"""What is logged, and how it looks, in every process of ours."""

from __future__ import annotations

import logging


def start(level: str, who: str = "") -> None:
    """Log on standard error from this level on; `who`: which of several processes it is."""
    form = f"%(asctime)s %(levelname)-7s {who}%(name)s: %(message)s"
    logging.basicConfig(level=level.upper(), format=form)
    for chatty in ("httpx", "httpcore", "asyncio", "grpc"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
