"""Compile the modules that a chunk of audio goes through, for the interpreter that runs this (docs/adr/0018).

    .venv/bin/python scripts/compile.py [--again | --is-done | --check]

It takes mypyc and setuptools (`pip install --group compile`), a C compiler, and more than a minute. The
result is kept beside the sources of `antiphon`, where `antiphon.compiled` finds it; nothing happens if it is
there. Sources that are changed run as they are until this is run again.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

os.environ["ANTIPHON_INTERPRETED"] = "1"

from antiphon import compiled

MYPY: Final = "[mypy]\nignore_missing_imports = True\nignore_errors = True\n"
"""Types are checked by `make test`; other versions of what is installed must not stop whoever compiles."""

WAITS: Final = "what waits while an exception is handled loses it: see groups.py"


def hazards(source: str) -> Iterator[tuple[int, str]]:
    """Yield lines of what mypyc takes, or refuses without saying so well, and gets wrong (2.4)."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.AsyncWith() | ast.AsyncFor():
                yield node.lineno, WAITS
            case ast.TryStar():
                yield node.lineno, "there is no `except*`: see groups.py"
            case ast.Try(handlers=handlers, finalbody=final):
                within = [inner for part in (*handlers, *final) for inner in ast.walk(part)]
                for inner in within:
                    if isinstance(inner, ast.Await | ast.Yield | ast.YieldFrom):
                        yield inner.lineno, WAITS
            case ast.AnnAssign(annotation=ast.Name(id="Final"), value=ast.Tuple(elts=items)):
                if any(isinstance(item, ast.Constant) and isinstance(item.value, float) for item in items):
                    yield node.lineno, "a constant tuple of floats is never set: Final[tuple[float, ...]]"


def check() -> None:
    """End the program where a module has what cannot be compiled well."""
    found = [
        f"{name}.py:{line}: {what}"
        for name in compiled.MODULES
        for line, what in hazards((compiled.PACKAGE / f"{name}.py").read_text("utf-8"))
    ]
    if found:
        sys.exit("\n".join(found))


def build(folder: Path) -> None:
    """Compile within `folder`, a copy of the sources; ends the program if that fails."""
    from mypyc.build import mypycify
    from setuptools import Extension, setup
    from setuptools.command.build_ext import build_ext

    class SideBySide(build_ext):  # type: ignore[misc]  # setuptools ships no types
        """setuptools compiles the files of an extension one after the other."""

        def build_extension(self, ext: Extension) -> None:
            def compiled_file(source: str) -> list[str]:
                return list(
                    self.compiler.compile(
                        [source],
                        output_dir=self.build_temp,
                        include_dirs=ext.include_dirs,
                        macros=ext.define_macros,
                        extra_postargs=ext.extra_compile_args,
                    )
                )

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                objects = [name for names in pool.map(compiled_file, ext.sources) for name in names]
            ext.extra_objects = [*ext.extra_objects, *objects]
            ext.sources = []
            super().build_extension(ext)

    os.chdir(folder)
    hot = [f"[mypy-antiphon.{name.replace('/', '.')}]\nignore_errors = False\n" for name in compiled.MODULES]
    Path("mypy.ini").write_text(MYPY + "".join(hot))
    paths = [f"antiphon/{name}.py" for name in compiled.MODULES]
    modules = mypycify(
        ["--config-file", "mypy.ini", *paths],
        opt_level="2",
        debug_level="0",
        multi_file=True,
        group_name=compiled.SHARED,
    )
    setup(
        name=compiled.SHARED,
        packages=[],
        ext_modules=modules,
        cmdclass={"build_ext": SideBySide},
        script_args=["-q", "build_ext", "--inplace"],
    )


def keep(built: Path, kept: Path) -> None:
    """Put what was built where it is looked for, in one step, and take away what is of older sources."""
    new = kept.with_name(f"{kept.name}.{os.getpid()}")
    pattern = f"*.{compiled.tag()}.*"
    for module in (*built.glob(pattern), *(built / "antiphon").rglob(pattern)):
        target = new / module.relative_to(built)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(module, target)
    for older in kept.parent.glob(f"{compiled.tag()}-*"):
        if older != new:
            shutil.rmtree(older)
    new.rename(kept)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--again", action="store_true", help="compile even if it has been done")
    how.add_argument(
        "--is-done", action="store_true", help="only say by the exit code whether it has been done"
    )
    how.add_argument("--check", action="store_true", help="only look for what cannot be compiled well")
    asked = parser.parse_args()
    kept = compiled.folder()
    if asked.is_done:
        sys.exit(not kept.is_dir())
    check()
    if asked.check or (kept.is_dir() and not asked.again):
        return
    print(f"Compiling {len(compiled.MODULES)} modules, which takes more than a minute ...", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ignored = shutil.ignore_patterns("__pycache__", compiled.KEPT.name)
        shutil.copytree(compiled.PACKAGE, folder / "antiphon", ignore=ignored)
        build(folder)
        keep(folder, kept)


if __name__ == "__main__":
    main()
