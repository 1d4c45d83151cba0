"""The command line: one parser, one function a command, sentences in place of tracebacks."""

from __future__ import annotations

import os

# gRPC reads these when it is imported. Processes are started, but none forks and goes on running Python; the
# handlers for that would complain at every start. A server that goes away is told of in our words.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from antiphon import __version__, config, development, doctor, load, node, schema, talk
from antiphon.auth import mint
from antiphon.config import Config, ConfigError
from antiphon.engine import models
from antiphon.engine import server as engine_server
from antiphon.event_loop import run as run_loop
from antiphon.local import EngineFailed


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0 done, 1 failed, 2 wrongly called, 130 interrupted."""
    args = _parser().parse_args(argv)
    try:
        status: int = args.run(args)
    except (ConfigError, EngineFailed, models.ModelError) as error:
        print(f"antiphon: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has left; nothing more can be said, not even by the interpreter.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="antiphon", description="A voice gateway between WebSocket clients and Gemini Live."
    )
    parser.add_argument("--version", action="version", version=f"antiphon {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Any, help_text: str) -> argparse.ArgumentParser:
        subparser = commands.add_parser(name, help=help_text, description=help_text)
        subparser.set_defaults(run=run)
        return subparser

    _add_settings(command("serve", _serve, "Serve the gateway and its page."))
    engine_server.add_arguments(
        command(
            "engine", engine_server.run, "Serve the embedded engine: speech in, answer out, by Gemini's RPC."
        )
    )
    talk.add_arguments(
        command(
            "talk",
            _talk,
            "Talk to a gateway, by sound files or by microphone; show what it hears and answers.",
        )
    )
    load.add_arguments(
        command("bench", _bench, "Load a gateway with many sessions; measure how fast it answers.")
    )
    token = command("token", _token, "Print a token for a user, signed with the configured secret.")
    token.add_argument("--user", required=True, help="whom the token speaks for (its sub)")
    token.add_argument(
        "--ttl", type=float, default=3600, metavar="SECONDS", help="how long it is good (3600)"
    )
    _add_settings(token, only=("port", "jwt_issuer", "jwt_audience"))
    models.add_arguments(command("models", _models, "Fetch, list or verify the speech models."))
    show = command("config", _config, "Print every setting in force and where it comes from.")
    show.add_argument("--markdown", action="store_true", help="print the reference of all settings instead")
    _add_settings(show)
    _add_settings(command("doctor", _doctor, "Check key, endpoint and set-up, and say what is wrong."))
    schema.add_arguments(
        command("schema", schema.run, "Print the messages' JSON Schema, TypeScript or error table.")
    )
    return parser


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
    _start_logging(settings.log_level)
    run_loop(node.serve(settings, announce=lambda line: print(line, flush=True)))
    return 0


def _talk(args: argparse.Namespace) -> int:
    if args.token is None:
        args.token = _token_for(urlsplit(args.url).port or 8080)
    return talk.run(args)


def _bench(args: argparse.Namespace) -> int:
    tokens = args.token or [token for token in (os.environ.get("ANTIPHON_TOKEN"),) if token]
    if not tokens:
        port = urlsplit(args.url).port or 8080
        users = (_token_for(port, f"bench-{number}") for number in range(args.sessions))
        tokens = [token for token in users if token]
    return load.run(args, tokens)


def _token_for(port: int, user: str = node.DEVELOPMENT_USER) -> str | None:
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
    table = Table("setting", "value", "from", "variable")
    for setting in settings:
        table.add_row(setting.name, setting.shown, setting.source, config.variable(setting.name))
    Console().print(table)
    return 0


def _doctor(args: argparse.Namespace) -> int:
    settings, _ = _load(args)
    _start_logging("error")
    return run_loop(doctor.examine(settings, print))


def _start_logging(level: str) -> None:
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    for chatty in ("httpx", "httpcore", "asyncio", "grpc"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
