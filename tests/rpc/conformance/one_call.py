"""Make a call to each of some servers over TLS, and print what comes of it as JSON: CLIENT TARGET...

A process of its own, since grpcio reads once which authorities are trusted.
"""

from __future__ import annotations

import asyncio
import json
import sys

from antiphon.gemini.upstream import ClientName
from antiphon.rpc import RpcError
from rpc.conformance.using import WITHIN_S, Call, calling


async def echoed(call: Call) -> str:
    async with asyncio.timeout(WITHIN_S):
        await call.connected()
        await call.write(b"x" * 100_000)
        return "echoed" if await call.read() == b"x" * 100_000 else "garbled"


async def one(client: ClientName, target: str) -> str:
    async with calling(client, target, "echo", tls=True) as calls, calls.call() as call:
        try:
            return await echoed(call)
        except RpcError as error:
            return error.status.name


async def main(client: ClientName, *targets: str) -> None:
    print(json.dumps(await asyncio.gather(*(one(client, target) for target in targets))))


if __name__ == "__main__":
    asyncio.run(main("native" if sys.argv[1] == "native" else "grpcio", *sys.argv[2:]))
