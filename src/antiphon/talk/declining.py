"""What becomes of the model's calls: nothing is carried out here."""

from __future__ import annotations

from contextlib import suppress

from antiphon.client import Client, Closed


async def decline(client: Client, call_id: str) -> None:
    """Answer a tool call with that."""
    with suppress(Closed):
        await client.tool_error(call_id, "This client carries out no commands.")
