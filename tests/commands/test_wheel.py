"""The wheel: the page is in it, though git ignores what is built."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

import built_page

ROOT = Path(__file__).parents[2]
BUILD = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "dist")
SERVED = """
from antiphon import page
print(*sorted(page.load(page.FOLDER)), sep="\\n")
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a wheel is built of, without a page."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    others = shutil.ignore_patterns("console", "_compiled", "__pycache__")
    shutil.copytree(ROOT / "src", folder / "src", ignore=others)
    return folder


def wheel(checkout: Path) -> Path:
    """Build the wheel and return it."""
    built = subprocess.run(BUILD, cwd=checkout, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (found,) = (checkout / "dist").glob("*.whl")
    return found


def served(wheel: Path, folder: Path) -> list[str]:
    """Return the paths of the page that a gateway has, installed from the wheel."""
    with ZipFile(wheel) as packed:
        packed.extractall(folder)
    command = (sys.executable, "-c", SERVED)
    path = {"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"}
    asked = subprocess.run(command, cwd=folder, env=path, capture_output=True, text=True, check=True)
    return asked.stdout.split()


def test_the_wheel_has_the_page(checkout: Path, tmp_path: Path) -> None:
    built_page.write(checkout / "src/antiphon/console")
    made = wheel(checkout)
    with ZipFile(made) as packed:
        names = set(packed.namelist())
        for part in built_page.PARTS.values():
            assert packed.read(f"antiphon/console/{part.name}") == part.body
    assert "antiphon/console/.sources" not in names
    assert served(made, tmp_path / "installed") == sorted(built_page.PARTS)


def test_an_installation_from_a_checkout_needs_no_page(checkout: Path, tmp_path: Path) -> None:
    assert served(wheel(checkout), tmp_path / "installed") == []


def test_no_wheel_is_made_without_the_page(checkout: Path) -> None:
    """`make wheel` where the page cannot be built."""
    shutil.copytree(ROOT / "scripts", checkout / "scripts")
    (checkout / "scripts/setup").write_text("#!/bin/sh\n")
    failing = "#!/bin/sh\necho 'no page today'\nexit 1\n"
    (checkout / "scripts/console").write_text(failing)
    tried = subprocess.run(["scripts/wheel"], cwd=checkout, capture_output=True, text=True, check=False)
    assert tried.returncode == 1
    assert "No wheel was made" in tried.stderr
    assert not (checkout / "dist").exists()
