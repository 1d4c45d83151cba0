"""`python -m antiphon.engine`: the embedded engine alone, as `serve` starts it."""

from __future__ import annotations

import argparse
import logging
import sys

from antiphon.engine import server


def main() -> int:
    """Serve; return the exit code."""
    parser = argparse.ArgumentParser(prog="antiphon engine", description="Serve Gemini Live's RPC, offline.")
    server.add_arguments(parser)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return server.run(args)


if __name__ == "__main__":
    sys.exit(main())
