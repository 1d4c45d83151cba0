"""Usage: what each turn used, and the session so far, in audio and in tokens.

    python examples/usage.py [QUESTION ...]

ANTIPHON_TOKEN is the token, from `antiphon token --user NAME` for a gateway on this machine; ANTIPHON_URL the
gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from antiphon.client import Client, ClientError, connect
from antiphon.extension import ResponseDone, Usage, UsageUpdate
from antiphon.messages import Error

URL = os.environ.get("ANTIPHON_URL", "ws://127.0.0.1:8080/ws")
TOKEN = os.environ.get("ANTIPHON_TOKEN", "")


async def main(questions: list[str]) -> None:
    async with asyncio.timeout(60 * len(questions)), connect(URL, TOKEN) as client:
        for question in questions:
            print(question)
            await ask(client, question)


async def ask(client: Client, question: str) -> None:
    await client.command(question)
    answered = False
    async for message in client:
        match message:
            case ResponseDone(status="completed"):
                answered = True
            case UsageUpdate(turn=turn, session=session):
                # One that comes before the answer tells what the model has counted late, of the turn before.
                print(f"  turn:    {described(turn)}\n  session: {described(session)}")
                if answered:
                    return
            case Error(code=code, message=sentence):
                raise ClientError(sentence, code)
            case _:
                pass
    raise client.closed()


def described(usage: Usage) -> str:
    return (
        f"{usage.audio_in_ms:.0f} ms in, {usage.audio_out_ms:.0f} ms out, {usage.total_tokens} tokens "
        f"({usage.prompt_tokens} prompt, {usage.response_tokens} response)"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print what turns use.")
    parser.add_argument(
        "question", nargs="*", default=["What time is it?", "Who are you?"], metavar="QUESTION"
    )
    try:
        asyncio.run(main(parser.parse_args().question))
    except ClientError as error:
        sys.exit(str(error))
    except TimeoutError:
        sys.exit("No answer came in time.")
