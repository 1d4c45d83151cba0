"""`antiphon doctor`: try what `serve` would do, step by step, and say in a sentence what is wrong."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Literal

from msgspec.structs import replace

from antiphon.config import Config, ConfigError, resolve_upstream
from antiphon.engine.brain import BUILTIN, KEY_VARIABLE, Brain
from antiphon.engine.models import ModelError, ModelStore, default_directory
from antiphon.errors import ErrorCode, GatewayError
from antiphon.gemini.client import Gemini, Upstream, explain
from antiphon.live import Setup
from antiphon.tools import commands
from antiphon.upstreams import describe_upstream, engine_upstream, gemini_upstream

CONNECT_TIMEOUT_S = 10.0

_TRANSPORTS: dict[Literal["grpc", "websocket"], str] = {"grpc": "gRPC", "websocket": "the WebSocket"}

_REMEDIES = {
    ErrorCode.UPSTREAM_UNAUTHORIZED: "The key or the login was refused: check GEMINI_API_KEY.",
    ErrorCode.UPSTREAM_REFUSED: "The set-up was refused: check the key, the model and the voice.",
    ErrorCode.UPSTREAM_UNSUPPORTED: "This endpoint has no such model, or does not serve Live this way.",
    ErrorCode.UPSTREAM_QUOTA: "The quota is used up: wait, or ask for more.",
    ErrorCode.UPSTREAM_BUSY: "The engine has all the conversations it can carry: wait a little.",
    ErrorCode.UPSTREAM_UNAVAILABLE: "The endpoint answers no set-up: check the address and the network.",
}


async def examine(config: Config, say: Callable[[str], None]) -> int:
    """Check the configuration, the upstream's address and the set-up; return 0 when all is well."""
    say(f"Upstream: {describe_upstream(config)}")
    try:
        functions = commands.load(config.commands)
    except commands.CommandsError as error:
        say(f"failed  commands: {error}")
        return 1
    say(f"ok      commands: {len(functions)} are declared to the model")
    setup = Setup(config.language, config.instruction, functions)
    try:
        if resolve_upstream(config) == "local":
            engine_upstream(config, "")
            return max(_examine_models(config, say), await _examine_brain(config, say))
        upstream = gemini_upstream(config)
    except ConfigError as error:
        say(f"failed  settings: {error}")
        return 1
    return await examine_upstream(replace(upstream, tries=1), setup, say)


def _examine_models(config: Config, say: Callable[[str], None]) -> int:
    try:
        faults = ModelStore(config.models_dir or default_directory()).verify()
    except ModelError as error:
        faults = [str(error)]
    for fault in faults:
        say(f"failed  models: {fault}")
    if not faults:
        say("ok      models: all are here and are what they should be")
    return 1 if faults else 0


async def _examine_brain(config: Config, say: Callable[[str], None]) -> int:
    if config.engine_brain == BUILTIN:
        return 0
    try:
        brain = Brain(config.engine_brain, config.engine_brain_model, os.environ.get(KEY_VARIABLE, ""))
    except ValueError as error:
        say(f"failed  brain: {error}")
        return 1
    try:
        answers = await brain.wake()
    finally:
        await brain.aclose()
    if answers:
        say(f"ok      brain: {config.engine_brain} answers")
        return 0
    say(f"failed  brain: {config.engine_brain} does not answer; the engine's own answers take its place.")
    return 1


async def examine_upstream(upstream: Upstream, setup: Setup, say: Callable[[str], None]) -> int:
    """Check an upstream by each transport that its settings leave open; return 0 when one works."""
    if upstream.api_key:
        say("ok      key: one is configured, and goes along to this upstream")
    elif upstream.adc:
        say("ok      key: none; Google's application default login is used")
    else:
        say("ok      key: none, and none is needed unless the upstream asks for it")
    if upstream.transport != "auto":
        return 0 if await _examine_transport(upstream, setup, say) else 1
    works = {}
    for transport, name in _TRANSPORTS.items():
        say(f"Over {name}:")
        works[transport] = await _examine_transport(replace(upstream, transport=transport), setup, say)
    if not any(works.values()):
        return 1
    say(f"ok      transport: conversations go over {_TRANSPORTS['grpc' if works['grpc'] else 'websocket']}")
    return 0


async def _examine_transport(upstream: Upstream, setup: Setup, say: Callable[[str], None]) -> bool:
    try:
        gemini = Gemini(upstream)
    except GatewayError as error:
        say(f"failed  settings: {error.message}")
        return False
    try:
        if not await _reach(gemini):
            say(f"failed  endpoint: nothing answers at {upstream.target}; check the address and the network.")
            return False
        say(f"ok      endpoint: {upstream.target} can be reached")
        try:
            async with gemini.connect(setup):
                say(f"ok      set-up: {upstream.voice.model} is ready for a conversation")
        except GatewayError as error:
            say(f"failed  set-up: {_REMEDIES.get(error.code, error.message)} ({explain(error)})")
            return False
    finally:
        await gemini.aclose()
    return True


async def _reach(gemini: Gemini) -> bool:
    watch = asyncio.create_task(gemini.watch())
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await gemini.reached.wait()
    except TimeoutError:
        return False
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
    return True
