"""Which form of the hot modules runs, and what cannot be compiled well."""

from __future__ import annotations

import importlib.util
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from antiphon import compiled

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "compile.py"
FOUND = "from antiphon import client_frames; print(client_frames.__file__)"


@pytest.fixture(scope="module")
def hazards() -> Callable[[str], Iterator[tuple[int, str]]]:
    found: Callable[[str], Iterator[tuple[int, str]]] = runpy.run_path(str(SCRIPT))["hazards"]
    return found


def test_the_modules_are_there() -> None:
    assert [name for name in compiled.MODULES if not (compiled.PACKAGE / f"{name}.py").is_file()] == []


def test_none_has_what_cannot_be_compiled_well() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("async def f():\n    async with g: pass", 2),
        ("async def f():\n    async for _ in g: pass", 2),
        ("async def f():\n    try: pass\n    finally:\n        await g", 4),
        ("async def f():\n    try: pass\n    except E:\n        if g: await g", 4),
        ("def f():\n    try: pass\n    finally:\n        yield", 4),
        ("try: pass\nexcept* E: pass", 1),
        ("X: Final = (0.0, 1.0)", 1),
    ],
)
def test_each_hazard_is_found(
    source: str, line: int, hazards: Callable[[str], Iterator[tuple[int, str]]]
) -> None:
    assert [at for at, _ in hazards(source)] == [line]


@pytest.mark.parametrize(
    "source",
    [
        "async def f():\n    try:\n        await g\n    finally:\n        h()",
        "X: Final[tuple[float, ...]] = (0.0, 1.0)\nY: Final = (1, 2)",
    ],
)
def test_the_rest_is_not(source: str, hazards: Callable[[str], Iterator[tuple[int, str]]]) -> None:
    assert list(hazards(source)) == []


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the sources that nothing is compiled of."""
    ignored = shutil.ignore_patterns("__pycache__", compiled.KEPT.name)
    copied: Path = shutil.copytree(compiled.PACKAGE, tmp_path / "antiphon", ignore=ignored)
    return copied


def run(package: Path, code: str, interpreted: str = "") -> str:
    environ = {**os.environ, "PYTHONPATH": str(package.parent), compiled.INTERPRETED: interpreted}
    return subprocess.check_output([sys.executable, "-c", code], env=environ, text=True).strip()


def test_what_is_kept_for_these_very_sources_runs(package: Path) -> None:
    source = package / "client_frames.py"
    assert run(package, FOUND) == str(source), "nothing is kept"
    kept = Path(run(package, "from antiphon import compiled; print(compiled.folder())"))
    built = kept / "antiphon" / "client_frames.py"  # as good as an extension, which is found alike
    built.parent.mkdir(parents=True)
    shutil.copy(source, built)
    assert run(package, FOUND) == str(built)


def test_a_changed_source_is_not_run_as_it_was(package: Path) -> None:
    kept = Path(run(package, "from antiphon import compiled; print(compiled.folder())"))
    (kept / "antiphon").mkdir(parents=True)
    used = "import antiphon; print(antiphon.COMPILED)"
    assert run(package, used) == str(kept)
    assert run(package, used, interpreted="1") == "None"
    (package / "errors.py").write_text((package / "errors.py").read_text() + "\n")
    assert run(package, used) == "None"


def test_only_what_is_kept_is_found_there(tmp_path: Path) -> None:
    (tmp_path / "antiphon" / "session").mkdir(parents=True)
    (tmp_path / "antiphon" / "session" / "ring.py").touch()
    finder = compiled.Finder(tmp_path)
    spec = finder.find_spec("antiphon.session.ring", None)
    assert spec
    assert spec.origin == str(tmp_path / "antiphon" / "session" / "ring.py")
    for name in ("antiphon.session", "antiphon.session.pace", "antiphon", "json", "ring"):
        assert finder.find_spec(name, None) is None
    assert importlib.util.find_spec("antiphon.session.pace")
