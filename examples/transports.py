"""The two transports to Gemini: open a conversation over gRPC and over the WebSocket, and print which works.

    GEMINI_API_KEY=... python examples/transports.py [HOST:PORT]

Without HOST:PORT it asks Google, whose WebSocket needs `pip install "antiphon[websocket]"`; with it, a server
of your own on this machine or its network, in plaintext. `antiphon serve --upstream-transport auto` takes the
first that works, and `antiphon doctor` tells the same with more detail.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import time
from typing import Literal

from antiphon.errors import GatewayError
from antiphon.gemini.client import Gemini, Upstream, explain
from antiphon.gemini.upstream import is_private
from antiphon.live import Setup, Text, TurnEnded

KEY = os.environ.get("GEMINI_API_KEY")
TRANSPORTS: tuple[Literal["grpc", "websocket"], ...] = ("grpc", "websocket")


async def works(target: str | None, transport: Literal["grpc", "websocket"]) -> bool:
    """Ask one question over a transport, and say how that went."""
    upstream = Upstream(api_key=KEY, genai=True, tries=1, transport=transport)
    if target:
        upstream = Upstream(target, tls=False, api_key=KEY, tries=1, transport=transport)
    try:
        gemini = Gemini(upstream)
        try:
            begun = time.monotonic()
            async with asyncio.timeout(30), gemini.connect(Setup("en-US")) as stream:
                ready_ms = (time.monotonic() - begun) * 1000
                await stream.send(Text("Hello"))
                async for event in stream:
                    if isinstance(event, TurnEnded):
                        break
        finally:
            await gemini.aclose()
    except (GatewayError, TimeoutError) as error:
        why = explain(error) if isinstance(error, GatewayError) else "no answer came in time."
        print(f"{transport}: does not work: {why}")
        return False
    print(f"{transport}: works; the model was ready after {ready_ms:.0f} ms.")
    return True


async def main(target: str | None) -> int:
    return 0 if any([await works(target, transport) for transport in TRANSPORTS]) else 1


if __name__ == "__main__":
    logging.basicConfig(level=logging.CRITICAL)  # what fails is printed here in any case
    parser = argparse.ArgumentParser(description="Try both transports to Gemini.")
    parser.add_argument("target", nargs="?", metavar="HOST:PORT")
    target = parser.parse_args().target
    if target and not is_private(target.rpartition(":")[0]):
        sys.exit(f"{target} would be spoken to in plaintext; give an address of this machine or its network.")
    if not target and not KEY:
        sys.exit("Set GEMINI_API_KEY, or name a server of your own.")
    sys.exit(asyncio.run(main(target)))
