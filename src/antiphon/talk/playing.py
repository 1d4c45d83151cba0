"""Tell the gateway what was played, while that goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from antiphon.client import Client, Closed, Speaker

_TICK_S: Final = 0.05


async def report(client: Client, speaker: Speaker, position_ms: Callable[[], float]) -> None:
    """Send the speaker's marks for where its loudspeaker has got to; until cancelled, or the end."""
    now = asyncio.get_running_loop().time
    # Whoever iterates is told of the end, too, and with it what the gateway said last.
    with suppress(Closed):
        while True:
            await asyncio.sleep(_TICK_S)
            for mark in speaker.marks(position_ms(), now()):
                await client.playback_mark(*mark)


async def decline(client: Client, call_id: str) -> None:
    """Answer a tool call: nothing is carried out here."""
    with suppress(Closed):
        await client.tool_error(call_id, "This client carries out no commands.")
