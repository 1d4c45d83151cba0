"""A tool that is an HTTP endpoint: it checks that the gateway has signed the call, and answers with JSON.

    ANTIPHON_TOOL_SECRET=... python examples/http_tool.py [--port 8090]

The gateway is started with the same secret (`openssl rand -hex 32` makes one) and, since this endpoint has no
public address, with ANTIPHON_TOOL_NETWORKS=127.0.0.0/8. Its file of commands says, as commands.toml does:

    [[command]]
    name = "order"
    description = "Order something to drink."
    phrases = ["order {item}"]
    parameters.item = { type = "string", required = true }
    tool = { by = "http", url = "http://127.0.0.1:8090/order" }
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import OrderedDict
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

from antiphon.tools import verify

SECRET = os.environ.get("ANTIPHON_TOOL_SECRET", "")
MENU = {"tea": 2, "coffee": 3}
MAX_BODY_BYTES = 64 * 1024


class Seen:
    """The calls of the last minutes, so that none is carried out twice."""

    def __init__(self, limit: int = 10_000) -> None:
        self._ids: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._limit = limit
        self._lock = Lock()

    def add(self, session_id: str, call_id: str) -> bool:
        """Note a call; return whether it is new. Its id is the model's, and unique within a session."""
        key = (session_id, call_id)
        with self._lock:
            if key in self._ids:
                return False
            self._ids[key] = None
            if len(self._ids) > self._limit:
                self._ids.popitem(last=False)
            return True


seen = Seen()


class Endpoint(BaseHTTPRequestHandler):
    timeout = 10

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            return self.reply(413, {"error": "Too long, or it does not say how long."})
        body = self.rfile.read(int(length))
        if not verify(SECRET, self.headers.get("Antiphon-Signature", ""), body, time.time()):
            return self.reply(401, {"error": "The signature is missing or wrong."})
        call = json.loads(body)  # by the gateway, so it is what the reference says
        if not seen.add(call["sessionId"], call["callId"]):
            return self.reply(409, {"error": "This call has come before."})
        return self.reply(200, order(call["userId"], **call["args"]))

    def reply(self, status: int, result: dict[str, Any]) -> None:
        body = json.dumps(result).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def order(user_id: str, item: str) -> dict[str, Any]:
    if item not in MENU:
        return {"error": f"There is no {item}, only {' and '.join(MENU)}."}  # which the model has to explain
    print(f"{user_id} has ordered {item}", flush=True)
    # The embedded engine says the output; a language model makes its own sentence of all of it.
    return {"price": MENU[item], "output": f"One {item}, that is {MENU[item]} euros."}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Carry out the command `order` over HTTP.")
    parser.add_argument("--port", type=int, default=8090, help="port to listen on; 0 takes a free one (8090)")
    args = parser.parse_args()
    if not SECRET:
        sys.exit("Set ANTIPHON_TOOL_SECRET to the secret that the gateway signs with.")
    try:
        server = ThreadingHTTPServer(("127.0.0.1", args.port), Endpoint)
    except OSError as error:
        sys.exit(f"Cannot listen on port {args.port}: {error.strerror}.")
    with server, suppress(KeyboardInterrupt):
        print(f"Listening on http://127.0.0.1:{server.server_address[1]}/order", flush=True)
        server.serve_forever()
