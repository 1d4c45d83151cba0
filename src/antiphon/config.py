"""Every setting of `antiphon serve`: one frozen struct, filled from flags, environment and a TOML file.

A flag wins over its `ANTIPHON_*` variable, and that over the file. Names nobody knows are refused in
all three, since a setting that is misspelt and ignored is the worst kind.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import FieldInfo
from msgspec.structs import fields as struct_fields

PREFIX: Final = "ANTIPHON_"
SECRETS: Final = frozenset({"jwt_secret", "gemini_api_key", "tool_secret", "valkey_url"})
"""Settings that have no flag (a process list would show them) and are never printed."""
FOREIGN: Final = frozenset(
    {"ANTIPHON_BRAIN_KEY", "ANTIPHON_CONFIG", "ANTIPHON_INTERPRETED", "ANTIPHON_TOKEN", "ANTIPHON_URL"}
)
"""Variables of ours that are no setting of the server."""

Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=1)]
Port = Annotated[int, Meta(ge=0, le=65535)]


class ConfigError(Exception):
    """A setting cannot be used; the text is a sentence that says which, and what to do."""


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """The settings in force."""

    host: Annotated[str, Meta(description="address to listen on")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="port to listen on; 0 takes a free one")] = 8080
    upstream: Annotated[
        str,
        Meta(
            description="local, gemini, vertex, or grpc, grpcs, ws or wss://HOST:PORT; "
            "auto: gemini with a key, else local"
        ),
    ] = "auto"
    upstream_transport: Annotated[
        Literal["auto", "grpc", "websocket"],
        Meta(description="what Gemini is spoken to over; auto: gRPC, or the WebSocket where there is none"),
    ] = "auto"
    grpc_client: Annotated[
        Literal["native", "grpcio"],
        Meta(description="the client of gRPC: our own, or grpcio's, which needs three times the processor"),
    ] = "native"
    fallback: Annotated[
        Literal["none", "local"],
        Meta(description="what answers while the upstream cannot be reached; local: the embedded engine"),
    ] = "none"
    vertex_project: Annotated[str | None, Meta(description="the Google Cloud project of Vertex AI")] = None
    vertex_location: Annotated[str, Meta(description="where Vertex AI serves it")] = "us-central1"
    model: Annotated[str, Meta(description="the Gemini model that answers")] = "gemini-3.8-live"
    voice: Annotated[str, Meta(description="the voice it answers with; empty: its own")] = ""
    instruction: Annotated[str, Meta(description="what the model is told about its task")] = ""
    language: Annotated[str, Meta(description="BCP 47 tag for sessions that never name one")] = "en-US"
    commands: Annotated[
        Path | None, Meta(description="TOML file of commands; none: the shipped examples")
    ] = None
    tool_secret: Annotated[
        str | None, Meta(description="secret that requests to HTTP tools are signed with, at least 32 bytes")
    ] = None
    tool_networks: Annotated[
        tuple[str, ...],
        Meta(description="networks besides the public internet that HTTP tools may be in, like 10.1.0.0/16"),
    ] = ()
    models_dir: Annotated[Path | None, Meta(description="folder of the speech models")] = None
    engine_brain: Annotated[
        str,
        Meta(
            description="what answers behind the embedded engine: builtin, or the URL of a chat API "
            "like http://127.0.0.1:11434/v1; its key is in ANTIPHON_BRAIN_KEY"
        ),
    ] = "builtin"
    engine_brain_model: Annotated[
        str, Meta(description="the model of that chat API; empty: the first that it lists")
    ] = ""
    engine_conversations: Annotated[
        Count | None,
        Meta(description="conversations the embedded engine carries at once; none: 8 a core"),
    ] = None
    origins: Annotated[
        tuple[str, ...],
        Meta(description="origins of pages that may connect, besides the gateway's own; * for any"),
    ] = ()
    workers: Annotated[
        Count, Meta(description="processes that serve, one a processor; they divide max_sessions among them")
    ] = 1
    max_sessions: Annotated[Count, Meta(description="sessions on this node")] = 1000
    max_connections_per_user: Annotated[Count, Meta(description="connections a user may have at once")] = 5
    auth_timeout_s: Annotated[Positive, Meta(description="seconds a client has to authenticate")] = 10.0
    idle_timeout_s: Annotated[Positive, Meta(description="seconds of silence after which a session ends")] = (
        300.0
    )
    max_session_s: Annotated[Positive, Meta(description="seconds a session may last")] = 7200.0
    uplink_buffer_s: Annotated[Positive, Meta(description="seconds of audio that may wait for the model")] = (
        10.0
    )
    audio_gather_ms: Annotated[
        Annotated[float, Meta(ge=0, le=40)],
        Meta(description="ms that a small chunk may wait to go to the model with the next; 0: never"),
    ] = 40.0
    audio_speed: Annotated[
        Positive, Meta(description="how many times faster than real time a client may send audio")
    ] = 4.0
    resume_window_s: Annotated[
        NotNegative, Meta(description="seconds a session waits for a client that is gone; 0: not at all")
    ] = 120.0
    mute_timeout_s: Annotated[
        Positive,
        Meta(description="seconds a model may leave a turn unanswered before its connection is renewed"),
    ] = 12.0
    connection_age_s: Annotated[
        Positive, Meta(description="seconds after which a connection to the model is renewed")
    ] = 570.0
    valkey_url: Annotated[
        str | None,
        Meta(description="Valkey or Redis that the nodes share, like valkey://10.0.0.5:6379; none: one node"),
    ] = None
    drain_s: Annotated[
        NotNegative, Meta(description="seconds that connections have when the node is told to stop (SIGTERM)")
    ] = 20.0
    setup_timeout_s: Annotated[Positive, Meta(description="seconds the model has to answer a set-up")] = 5.0
    jwt_secret: Annotated[str | None, Meta(description="secret of HS256 tokens, at least 32 bytes")] = None
    jwt_public_key: Annotated[Path | None, Meta(description="PEM file of a public key")] = None
    jwt_jwks_url: Annotated[str | None, Meta(description="URL of a JWKS")] = None
    jwt_issuer: Annotated[str | None, Meta(description="the iss that tokens must have")] = None
    jwt_audience: Annotated[str | None, Meta(description="the aud that tokens must have")] = None
    provocations: Annotated[
        bool | None,
        Meta(
            description="whether clients may provoke a rotation, or the expiry of their token, to test "
            "themselves; none: only where no key is set"
        ),
    ] = None
    tls_cert: Annotated[
        Path | None, Meta(description="PEM file of a certificate chain; with tls_key: serve TLS")
    ] = None
    tls_key: Annotated[Path | None, Meta(description="PEM file of its private key")] = None
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="what is logged, on standard error")
    ] = "info"
    gemini_api_key: Annotated[str | None, Meta(description="API key; variable GEMINI_API_KEY")] = None

    def __repr__(self) -> str:
        return "Config(...)"


def resolve_upstream(config: Config) -> str:
    """Return the upstream in force: what `auto` stands for is decided by the key."""
    if config.upstream != "auto":
        return config.upstream
    return "gemini" if config.gemini_api_key else "local"


def needs_engine(config: Config) -> bool:
    """Whether the embedded engine answers, or may have to."""
    return resolve_upstream(config) == "local" or config.fallback == "local"


FIELDS: Final[dict[str, FieldInfo]] = {field.name: field for field in struct_fields(Config)}


class Setting(Struct, frozen=True):
    """A setting in force and where it came from: flag, environment, file or default."""

    name: str
    value: Any
    source: str

    @property
    def shown(self) -> str:
        """The value for people; a secret is only said to be set."""
        if self.name in SECRETS:
            return "(set)" if self.value else "(not set)"
        if isinstance(self.value, tuple):
            return ",".join(self.value)
        return "" if self.value is None else str(self.value)


def load(
    flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None = None
) -> tuple[Config, list[Setting]]:
    """Return the configuration in force, and each setting with its source.

    `flags` holds what was given on the command line, by field name; None counts as not given.

    Raises:
        ConfigError: a name is unknown, or a value is not right.
    """
    layers: list[tuple[str, dict[str, Any]]] = [
        ("flag", {name: value for name, value in flags.items() if value is not None}),
        ("environment", _from_environ(environ)),
        ("file", _from_file(file or _config_path(environ))),
    ]
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, layer in layers:
        for name, value in layer.items():
            if name not in FIELDS:
                raise ConfigError(f"There is no setting {name!r} ({source}){_suggestion(name, FIELDS)}")
            if name not in values:
                values[name] = _convert(name, value, source)
                sources[name] = source
    config = Config(**values)
    settings = [Setting(name, getattr(config, name), sources.get(name, "default")) for name in FIELDS]
    return config, settings


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return "GEMINI_API_KEY" if name == "gemini_api_key" else PREFIX + name.upper()


def is_list(name: str) -> bool:
    """Whether a setting takes several values, separated by commas."""
    return get_origin(_bare(FIELDS[name].type)) is tuple


def describe(name: str) -> str:
    """Return the description of a setting, as `--help` and the reference show it."""
    kind = FIELDS[name].type
    notes = [note for note in get_args(kind)[1:] if isinstance(note, Meta)]
    return next((note.description for note in notes if note.description), "")


def markdown() -> str:
    """Return the reference of all settings, as it stands in docs/reference/configuration.md."""
    lines = ["| setting | flag | variable | default | what it is |", "| --- | --- | --- | --- | --- |"]
    for name, field in FIELDS.items():
        flag = "" if name in SECRETS else f"`--{name.replace('_', '-')}`"
        default = Setting(name, field.default, "default").shown if name not in SECRETS else ""
        shown = f"`{default}`" if default else ""
        lines.append(f"| `{name}` | {flag} | `{variable(name)}` | {shown} | {describe(name)} |")
    return "\n".join(lines) + "\n"


def _from_environ(environ: Mapping[str, str]) -> dict[str, str]:
    known = {variable(name): name for name in FIELDS}
    for name in environ:
        if name.startswith(PREFIX) and name not in known and name not in FOREIGN:
            raise ConfigError(f"There is no setting behind the variable {name}{_suggestion(name, known)}")
    return {field: environ[name] for name, field in known.items() if environ.get(name)}


def _config_path(environ: Mapping[str, str]) -> Path | None:
    return Path(environ["ANTIPHON_CONFIG"]) if environ.get("ANTIPHON_CONFIG") else None


def _from_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise ConfigError(f"The configuration file {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration file {path} is not valid TOML: {error}.") from error


def _convert(name: str, value: Any, source: str) -> Any:
    kind = FIELDS[name].type
    if isinstance(value, str):
        if is_list(name):
            value = [part.strip() for part in value.split(",") if part.strip()]
        elif _is_path(kind):
            value = Path(value)
    try:
        return msgspec.convert(value, kind, strict=source == "file", dec_hook=_path_hook)
    except msgspec.ValidationError as error:
        shown = "" if name in SECRETS else f" {value!r}"
        raise ConfigError(f"The setting {name} ({source}) cannot be{shown}: {error}.") from error


def _path_hook(_: type, value: Any) -> Path:
    """Convert the one type that msgspec does not know."""
    if isinstance(value, str | Path):
        return Path(value)
    raise ValueError("Expected a path")


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _is_path(kind: Any) -> bool:
    bare = _bare(kind)
    return bare is Path or Path in get_args(bare)


def _suggestion(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else "."
