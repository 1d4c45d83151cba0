"""The pure parts of the TypeScript client and of the console, by Node's own test runner."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from clients.audio_dist import CLIENTS, built

pytestmark = pytest.mark.node

FILES = sorted(
    [*(Path(__file__).parent / "unit").glob("*.test.mjs"), *(CLIENTS / "console/test").glob("*.test.mjs")]
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.removesuffix(".test.mjs"))
def test_in_node(path: Path) -> None:
    built()
    result = subprocess.run(
        ["node", "--test", str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
