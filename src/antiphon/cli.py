"""The command line: one parser, one function a command, sentences in place of tracebacks.

A command loads the part of the program that it runs: all of it takes a second.
"""

from __future__ import annotations

import os

# gRPC reads these when it is imported. Processes are started, but none forks and goes on running Python; the
# handlers for that would complain at every start. A server that goes away is told of in our words.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import argparse
import asyncio
import importlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from antiphon import COMPILED, __version__, config, development, logs
from antiphon.config import Config, ConfigError
from antiphon.engine import flags as engine_flags
from antiphon.engine import models
from antiphon.event_loop import run as run_loop
from antiphon.local import EngineFailed, engine_process
from antiphon.workers import WorkersFailed


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0 done, 1 failed, 2 wrongly called, 130 interrupted."""
    args = _parser().parse_args(argv)
    try:
        status: int = args.run(args)
    except (ConfigError, EngineFailed, WorkersFailed, models.ModelError) as error:
        print(f"antiphon: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has left; nothing more can be said, not even by the interpreter.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


class _Command(argparse.ArgumentParser):
    """A command whose flags are declared when it is called."""

    declare: Callable[[argparse.ArgumentParser], None] | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        declare, self.declare = self.declare, None
        if declare:
            declare(self)
        return super().parse_known_args(args, namespace)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="antiphon", description="A voice gateway between WebSocket clients and Gemini Live."
    )
    how = "compiled" if COMPILED else "interpreted"
    parser.add_argument("--version", action="version", version=f"antiphon {__version__} ({how})")
    commands = parser.add_subparsers(
        title="commands", required=True, metavar="COMMAND", parser_class=_Command
    )

    def command(
        name: str, run: Any, declare: Callable[[argparse.ArgumentParser], None], help_text: str
    ) -> None:
        subparser = commands.add_parser(name, help=help_text, description=help_text)
        subparser.declare = declare
        subparser.set_defaults(run=run)

    command("serve", _serve, _add_settings, "Serve the gateway and its page.")
    command(
        *("engine", _engine, engine_flags.add_arguments),
        "Serve the embedded engine: speech in, answer out, by Gemini's RPC.",
    )
    command(
        *("talk", _talk, _add_talk),
        "Talk to a gateway, by sound files or by microphone; show what it hears and answers.",
    )
    command("bench", _bench, _add_bench, "Load a gateway with many sessions; measure how fast it answers.")
    command("token", _token, _add_token, "Print a token for a user, signed with the configured secret.")
    command("models", _models, models.add_arguments, "Fetch, list or verify the speech models.")
    command("config", _config, _add_config, "Print every setting in force and where it comes from.")
    command("doctor", _doctor, _add_settings, "Check key, endpoint and set-up, and say what is wrong.")
    command("schema", _schema, _add_schema, "Print the messages' JSON Schema, TypeScript or error table.")
    return parser


def _add_talk(parser: argparse.ArgumentParser) -> None:
    from antiphon import talk

    talk.add_arguments(parser)


def _add_bench(parser: argparse.ArgumentParser) -> None:
    from antiphon import load

    load.add_arguments(parser)


def _add_token(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--user", required=True, help="whom the token speaks for (its sub)")
    parser.add_argument(
        "--ttl", type=float, default=3600, metavar="SECONDS", help="how long it is good (3600)"
    )
    _add_settings(parser, only=("port", "jwt_issuer", "jwt_audience"))


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--markdown", action="store_true", help="print the reference of all settings instead")
    _add_settings(parser)


def _add_schema(parser: argparse.ArgumentParser) -> None:
    from antiphon import schema

    schema.add_arguments(parser)


def _add_settings(parser: argparse.ArgumentParser, only: Sequence[str] | None = None) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file of settings (ANTIPHON_CONFIG)")
    for name in only or config.FIELDS:
        if name in config.SECRETS:
            continue
        default = config.FIELDS[name].default
        shown = f", default {default}" if default not in (None, "", ()) else ""
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=f"setting_{name}",
            metavar=name.rsplit("_", 1)[-1].upper(),
            help=f"{config.describe(name)} ({config.variable(name)}{shown})",
        )


def _load(args: argparse.Namespace) -> tuple[Config, list[config.Setting]]:
    prefix = "setting_"
    flags = {
        name.removeprefix(prefix): value for name, value in vars(args).items() if name.startswith(prefix)
    }
    return config.load(flags, os.environ, args.config)


def _serve(args: argparse.Namespace) -> int:
    settings, _ = _load(args)
    logs.start(settings.log_level)
    run_loop(_serve_node(settings))
    return 0


async def _serve_node(settings: Config) -> None:
    """Serve; the engine's process loads its models while the rest of this program is loaded."""
    async with AsyncExitStack() as stack:
        engine = None
        if config.needs_engine(settings):
            engine = await stack.enter_async_context(engine_process(settings).prepared())
        name = "antiphon.node" if settings.workers == 1 else "antiphon.supervisor"
        node = await asyncio.to_thread(importlib.import_module, name)
        await node.serve(settings, lambda line: print(line, flush=True), engine)


def _engine(args: argparse.Namespace) -> int:
    from antiphon.engine import server

    return server.run(args)


def _schema(args: argparse.Namespace) -> int:
    from antiphon import schema

    return schema.run(args)


def _talk(args: argparse.Namespace) -> int:
    from antiphon import talk

    if args.token is None:
        args.token = _token_for(urlsplit(args.url).port or 8080)
    return talk.run(args)


def _bench(args: argparse.Namespace) -> int:
    from antiphon import load

    tokens = args.token or [token for token in (os.environ.get("ANTIPHON_TOKEN"),) if token]
    if not tokens:
        port = urlsplit(args.url).port or 8080
        users = (_token_for(port, f"bench-{number}") for number in range(args.sessions))
        tokens = [token for token in users if token]
    return load.run(args, tokens)


def _token_for(port: int, user: str = development.USER) -> str | None:
    """Return a token for the gateway at a port of this machine, if one can be made without asking."""
    settings, _ = config.load({"port": port}, os.environ)
    return _mint(settings, user, 3600)


def _token(args: argparse.Namespace) -> int:
    settings, _ = _load(args)
    token = _mint(settings, args.user, args.ttl)
    if token is None:
        raise ConfigError(
            "There is no secret to sign with: set ANTIPHON_JWT_SECRET, or start a gateway "
            f"on port {settings.port}."
        )
    print(token)
    return 0


def _mint(settings: Config, user: str, ttl_s: float) -> str | None:
    from antiphon.auth import mint

    secret = settings.jwt_secret or development.find(settings.port)
    if secret is None:
        return None
    try:
        return mint(secret, user, ttl_s, time.time(), settings.jwt_issuer, settings.jwt_audience)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _models(args: argparse.Namespace) -> int:
    settings, _ = config.load({}, os.environ)
    return models.run(args, models.ModelStore(settings.models_dir or models.default_directory()))


def _config(args: argparse.Namespace) -> int:
    if args.markdown:
        print(config.markdown(), end="")
        return 0
    _, settings = _load(args)
    if not sys.stdout.isatty():
        for setting in settings:
            print(f"{setting.name} = {json.dumps(setting.shown, ensure_ascii=False)}  # {setting.source}")
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table("setting", "value", "from", "variable")
    for setting in settings:
        table.add_row(setting.name, setting.shown, setting.source, config.variable(setting.name))
    Console().print(table)
    return 0


def _doctor(args: argparse.Namespace) -> int:
    settings, _ = _load(args)
    from antiphon import doctor

    logs.start("error")
    return run_loop(doctor.examine(settings, print))
