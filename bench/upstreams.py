"""The benchmark's upstreams, in a process of their own.

    python -m bench.upstreams [--answer number|audio] [--chunk-bytes N] [--answer-bytes N]

Prints the ports of the gRPC and the WebSocket upstream, then serves until its standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys

from antiphon import event_loop
from antiphon.load.speech import noise
from bench import replies
from bench.grpc_upstream import GrpcUpstream
from bench.websocket_upstream import WebSocketUpstream


async def serve(answer: str, chunk_bytes: int, answer_bytes: int) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    pcm = noise(1.0)[:answer_bytes]
    rpc = replies.audio(pcm) if answer == "audio" else None
    text = replies.audio_text(pcm) if answer == "audio" else None
    by_rpc = await loop.create_server(lambda: GrpcUpstream(chunk_bytes, rpc), "127.0.0.1", 0)
    by_socket = await loop.create_server(lambda: WebSocketUpstream(text), "127.0.0.1", 0, backlog=1024)
    ports = [server.sockets[0].getsockname()[1] for server in (by_rpc, by_socket)]
    print(*ports, flush=True)
    gc.freeze()
    gc.disable()  # nothing that is made here refers to itself
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--answer", choices=("number", "audio"), default="number")
    parser.add_argument("--chunk-bytes", type=int, default=3200)
    parser.add_argument("--answer-bytes", type=int, default=replies.ANSWER_BYTES)
    args = parser.parse_args()
    event_loop.run(serve(args.answer, args.chunk_bytes, args.answer_bytes))


if __name__ == "__main__":
    main()
