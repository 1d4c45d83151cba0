"""Which form of the hot modules runs: compiled, where `scripts/compile.py` has made it of these very sources.

It is kept beside the sources, in a folder named by the interpreter and by a digest of all of them, for
constants are compiled into their users: whoever changes a line runs the sources until he compiles again.
`ANTIPHON_INTERPRETED=1` runs them in any case (profilers, coverage, tests that change a constant).
"""

import hashlib
import os
import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Final

PACKAGE: Final = Path(__file__).parent
KEPT: Final = PACKAGE / "_compiled"
INTERPRETED: Final = "ANTIPHON_INTERPRETED"
SHARED: Final = "antiphon_compiled"
"""The library that holds them all; the module of each is a door to it."""

MODULES: Final = (
    *("arrivals", "bridge", "client_frames", "clock", "giving", "messages", "server"),
    *("gemini/codec", "gemini/frequent", "gemini/grpc_stream", "gemini/native_call", "gemini/probe"),
    *("rpc/call", "rpc/connection", "rpc/frames", "rpc/grpc", "rpc/http2"),
    *("session/answer", "session/clocks", "session/link", "session/loudness", "session/machine"),
    *("session/metering", "session/microphone", "session/model_side", "session/pace", "session/presence"),
    *("session/renewal", "session/ring", "session/uplink", "session/user_side", "session/utterance"),
)
"""What a chunk of audio goes through, but not the modules of records: those are msgspec's."""


def sources() -> list[Path]:
    """Return all files of Python that the package has, in order; not what was compiled of them."""
    return sorted(path for path in PACKAGE.rglob("*.py") if KEPT not in path.parents)


def tag() -> str:
    """Return the interpreter's ABI and platform, as in the names of extension modules."""
    return EXTENSION_SUFFIXES[0].split(".")[1]


def folder() -> Path:
    """Return where the compiled form of the sources, as they are now, belongs."""
    digest = hashlib.sha256()
    for source in sources():
        content = source.read_bytes()
        digest.update(f"{source.relative_to(PACKAGE).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return KEPT / f"{tag()}-{digest.hexdigest()[:16]}"


def in_use() -> Path | None:
    """Return the folder whose modules go before the sources; None where it is not there or not wanted."""
    if os.environ.get(INTERPRETED) or not KEPT.is_dir():
        return None
    found = folder()
    return found if found.is_dir() else None


class Finder:
    """Finds the modules of a folder before any other finder does."""

    def __init__(self, compiled: Path) -> None:
        self._compiled = compiled

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, *parents = name.split(".")[:-1] or [""]
        if package == "antiphon":
            spec = PathFinder.find_spec(name, [str(self._compiled.joinpath(package, *parents))], target)
        elif name == f"{SHARED}__mypyc":
            spec = PathFinder.find_spec(name, [str(self._compiled)], target)
        else:
            return None
        return spec if spec and spec.loader else None  # a folder without a loader is a package's


def prefer(compiled: Path) -> None:
    sys.meta_path.insert(0, Finder(compiled))
