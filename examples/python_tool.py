"""A tool that is a Python function: the gateway imports this module and calls `weather` by itself.

    PYTHONPATH=examples antiphon serve --commands FILE

where FILE has, as commands.toml does:

    [[command]]
    name = "weather"
    description = "Tell the weather of a city."
    phrases = ["what is the weather in {city}", "weather in {city}"]
    parameters.city = { type = "string", required = true }
    tool = { by = "python", function = "python_tool:weather", deadline_s = 5 }

A function of your own package needs no PYTHONPATH: install it beside antiphon. Then ask, for example with
`python examples/formats.py answer.ogg "what is the weather in Rome"`.
"""

from __future__ import annotations

import asyncio
import logging

from antiphon.tools import ToolContext, ToolFailed

REPORTS = {"rome": "sun and 24 degrees", "oslo": "rain and 9 degrees"}

log = logging.getLogger(__name__)


async def weather(city: str, context: ToolContext) -> str:
    """Return the weather of a city.

    The parameters are those of the command, by their names; `context` says who asks. It runs in the gateway's
    event loop, so it awaits and never blocks, and it is cancelled when the result is no longer wanted.
    """
    log.info("%s asks for the weather in %s", context.user_id, city)
    await asyncio.sleep(0.05)  # a weather service is asked
    if city.lower() not in REPORTS:
        raise ToolFailed(f"There is no report for {city}.")  # a sentence that the model has to explain
    return f"{city} has {REPORTS[city.lower()]}."
