"""The flags of `antiphon engine`, apart from what they set up: that takes half a second to load."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from antiphon.engine.admission import CONVERSATIONS_A_CORE

BUILTIN: Final = "builtin"
"""In place of a brain's URL: no brain, but the engine's own answers."""

Number = TypeVar("Number", int, float)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `antiphon engine`."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=_port, default=8081, help="port to listen on, 0 for any (default: %(default)s)"
    )
    parser.add_argument(
        "--models-dir", type=Path, help="folder of the speech models (default: the user's cache)"
    )
    parser.add_argument(
        "--max-conversations",
        type=_count,
        help=f"new ones are refused beyond so many (default: {CONVERSATIONS_A_CORE} a core)",
    )
    parser.add_argument(
        "--max-connection-s",
        type=_seconds,
        default=600.0,
        help="longest connection in seconds, announced a minute before (default: %(default)s)",
    )
    parser.add_argument("--workers", type=_count, help="threads that recognise (default: one a core)")
    parser.add_argument(
        "--brain",
        default=BUILTIN,
        metavar="URL",
        help="the chat API that answers, like http://127.0.0.1:11434/v1; its key is in ANTIPHON_BRAIN_KEY "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--brain-model", default="", metavar="NAME", help="its model (default: the first that it lists)"
    )
    parser.add_argument(
        "--faults", type=Path, metavar="FILE", help="TOML file of what is to go wrong, to test against"
    )
    parser.add_argument("--exit-with-parent", action="store_true", help="stop when standard input is closed")


def _port(text: str) -> int:
    return _number(int, text, 0, 65_535)


def _count(text: str) -> int:
    return _number(int, text, 1, 1_000_000)


def _seconds(text: str) -> float:
    return _number(float, text, 0.1, 1_000_000)


def _number(kind: Callable[[str], Number], text: str, least: float, most: float) -> Number:
    try:
        value = kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"must be {least} to {most}")
    return value
