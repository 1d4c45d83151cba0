"""The benchmark itself, as short as may be: it runs, and it tells what is missing."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


async def capacity(*arguments: str, **variables: str) -> tuple[int, str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.capacity", "--rounds", "1", *arguments),
        cwd=ROOT,
        env={**kept, **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(120):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


@pytest.mark.parametrize("mode", ["up", "updown"])
async def test_what_a_chunk_costs(mode: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    status, out, err = await capacity(
        *("--mode", mode, "--only", "cpu", "--systems", "antiphon-v1", "--sessions", "4", "--seconds", "1"),
        *("--html", str(page)),
    )
    assert (status, err) == (0, "")
    found = re.search(r"; (\d+) of (\d+) answered", out)
    assert found, out
    assert found[1] == found[2], out
    assert 36 <= int(found[1]) <= 44, "of 40 that fall due within a second, on a busy machine"
    assert "| system | µs a chunk |\n| --- | --- |\n| antiphon-v1 | " in out
    assert f"{mode}: p99 against sessions" in page.read_text()


async def test_what_is_missing_is_left_out() -> None:
    python = "/bin/false"
    status, out, _ = await capacity(
        *("--mode", "up", "--only", "cpu", "--systems", "fastapi"), BENCH_PYTHON=python
    )
    assert status == 0
    assert "fastapi is left out. Python lacks one of fastapi, uvicorn, " in out


async def test_wrongly_called() -> None:
    status, _, err = await capacity("--systems", "antiphon,nginx")
    assert status == 2
    assert "there is no system 'nginx', only antiphon, " in err
