"""`antiphon doctor`: try what `serve` would do, step by step, and say in a sentence what is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from antiphon import commands, node
from antiphon.config import Config, ConfigError
from antiphon.engine.models import ModelError, ModelStore, default_directory
from antiphon.errors import ErrorCode, GatewayError
from antiphon.gemini import Gemini, explain
from antiphon.live import Setup

CONNECT_TIMEOUT_S = 10.0

_REMEDIES = {
    ErrorCode.UPSTREAM_UNAUTHORIZED: "The key or the login was refused: check GEMINI_API_KEY.",
    ErrorCode.UPSTREAM_REFUSED: "The set-up was refused: check the key, the model and the voice.",
    ErrorCode.UPSTREAM_UNSUPPORTED: "This endpoint has no such model, or does not serve Live over gRPC.",
    ErrorCode.UPSTREAM_QUOTA: "The quota is used up: wait, or ask for more.",
    ErrorCode.UPSTREAM_UNAVAILABLE: "The endpoint answers no set-up: check the address and the network.",
}


async def examine(config: Config, say: Callable[[str], None]) -> int:
    """Check the configuration, the upstream's address and the set-up; return 0 when all is well."""
    say(f"Upstream: {node.describe_upstream(config)}")
    try:
        functions = commands.load(config.commands)
    except commands.CommandsError as error:
        say(f"failed  commands: {error}")
        return 1
    say(f"ok      commands: {len(functions)} are declared to the model")
    setup = Setup(config.language, config.instruction, functions)
    if node.resolve_upstream(config) == "local":
        return _examine_models(config, say)
    return await _examine_upstream(config, setup, say)


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


async def _examine_upstream(config: Config, setup: Setup, say: Callable[[str], None]) -> int:
    try:
        upstream = replace(node.gemini_upstream(config), tries=1)
        if upstream.api_key:
            say("ok      key: one is configured, and goes along to this upstream")
        elif upstream.adc:
            say("ok      key: none; Google's application default login is used")
        else:
            say("ok      key: none, and none is needed unless the upstream asks for it")
        gemini = Gemini(upstream)
    except (ConfigError, GatewayError) as error:
        say(f"failed  settings: {error.message if isinstance(error, GatewayError) else error}")
        return 1
    try:
        if not await _reach(gemini):
            say(f"failed  endpoint: nothing answers at {upstream.target}; check the address and the network.")
            return 1
        say(f"ok      endpoint: {upstream.target} can be reached")
        try:
            async with gemini.connect(setup):
                say(f"ok      set-up: {config.model} is ready for a conversation")
        except GatewayError as error:
            say(f"failed  set-up: {_REMEDIES.get(error.code, error.message)} ({explain(error)})")
            return 1
    finally:
        await gemini.aclose()
    return 0


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
