"""A tool that the client carries out: the model calls a function of this program, and tells what came of it.

    python examples/client_tool.py [REQUEST]

The gateway must know the command: start it with `--commands examples/commands.toml` as README.md tells, where
`light` has `tool = { by = "client" }`. ANTIPHON_TOKEN is the token, from `antiphon token --user NAME` for a
gateway on this machine; ANTIPHON_URL the gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from antiphon.client import ClientError, connect
from antiphon.extension import ResponseDone, ToolCall, ToolCancelled, TranscriptUpdate
from antiphon.messages import Error

URL = os.environ.get("ANTIPHON_URL", "ws://127.0.0.1:8080/ws")
TOKEN = os.environ.get("ANTIPHON_TOKEN", "")

lights = {"kitchen": False, "hall": False}


async def light(room: str) -> dict[str, str]:
    """Switch a light over. It is cancelled when the result is no longer wanted, or the deadline passes."""
    if room not in lights:
        return {"error": f"There is no light in the {room}."}  # which the model has to explain
    await asyncio.sleep(0.1)  # the bulb is asked
    lights[room] = not lights[room]
    sentence = f"The light in the {room} is {'on' if lights[room] else 'off'}."
    print(f"({sentence})")
    return {"output": sentence}


async def main(request: str) -> None:
    async with asyncio.timeout(60), connect(URL, TOKEN, tools={"light": light}) as client:
        await client.command(request)
        called = False
        async for message in client:
            match message:
                case ToolCall(name=name, args=args, deadline_ms=deadline_ms):
                    called = True
                    print(f"The model calls {name} with {args}, for {deadline_ms / 1000:g} s at most.")
                case ToolCancelled(call_id=call_id, reason=reason):
                    print(f"Call {call_id} is cancelled: {reason}.")
                case TranscriptUpdate(role="model", text=text, is_final=True):
                    print(f"model: {text}")
                case ResponseDone(status="completed"):
                    if not called:
                        raise ClientError("Nothing was called. Does the gateway know examples/commands.toml?")
                    return
                case Error(code=code, message=sentence):
                    raise ClientError(sentence, code)
                case _:
                    pass
        raise client.closed()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Have a function of this program called by the model.")
    parser.add_argument("request", nargs="?", default="switch the light in the kitchen", metavar="REQUEST")
    try:
        asyncio.run(main(parser.parse_args().request))
    except ClientError as error:
        sys.exit(str(error))
    except TimeoutError:
        sys.exit("No answer came in time.")
