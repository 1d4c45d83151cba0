"""What a page loads for sound."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from clients.audio_dist import built

pytestmark = [pytest.mark.node]

MEASURE = """
const { readFileSync } = require("node:fs");
const { brotliCompressSync } = require("node:zlib");
console.log(brotliCompressSync(readFileSync(process.argv[1])).length);
"""


@pytest.mark.parametrize(("name", "most"), [("worklet.js", 4096), ("flac_worker.js", 128 * 1024)])
def test_what_runs_in_threads_of_its_own_is_one_small_file(name: str, most: int) -> None:
    node = shutil.which("node")
    assert node
    path = built() / name
    output = subprocess.run(
        [node, "--eval", MEASURE, path], check=True, capture_output=True, timeout=60
    ).stdout
    assert int(output) < most
    text = path.read_text()
    assert "import(" not in text
    assert "importScripts(" not in text
