"""The client, built where its sources are newer than what was built last."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path
from typing import Final

CLIENTS: Final = Path(__file__).parents[2] / "clients"
PACKAGE: Final = CLIENTS / "typescript"
DIST: Final = PACKAGE / "dist"


def built() -> Path:
    """Return the folder of the built client. Tests that run at once build it once."""
    if not (CLIENTS / "node_modules").is_dir():
        raise FileNotFoundError("The client is built with npm's packages: run npm ci --prefix clients.")
    node = shutil.which("node")
    if node is None:
        raise FileNotFoundError("The client is built with Node 20 or newer: install it, or name it in PATH.")
    with (CLIENTS / "node_modules" / ".build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _stale():
            subprocess.run([node, PACKAGE / "build.mjs"], check=True, timeout=120)
    return DIST


def _stale() -> bool:
    last = DIST / "flac_worker.js"  # what the build writes at the end
    if not last.exists():
        return True
    sources = [
        *(PACKAGE / "src").rglob("*.ts*"),
        *PACKAGE.glob("*.json"),
        *CLIENTS.glob("*.json"),
        PACKAGE / "build.mjs",
    ]
    return max(source.stat().st_mtime for source in sources) > last.stat().st_mtime
