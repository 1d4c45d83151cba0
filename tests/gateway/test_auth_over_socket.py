"""Tokens, as clients present them: who gets in, for how long, and how many."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from antiphon.auth import AuthConfig, mint
from antiphon.bridge import Principal
from antiphon.errors import ErrorCode, GatewayError
from antiphon.session import Limits
from gateway.raw_socket import TEXT, frame, raw_socket
from gateway.running import SECRET, Gateway, running_gateway
from gateway.talker import connected, message, talking
from unit.signing import OTHER_RSA, RSA, b64, jwk, key_file, pem, token, token_of

AUDIENCE = "antiphon"


def claims(**changes: object) -> dict[str, object]:
    return {"sub": "alice", "exp": time.time() + 60, "aud": AUDIENCE, **changes}


@pytest_asyncio.fixture(loop_scope="session")
async def guarded(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that takes tokens signed with one RSA key, for one audience."""
    auth = AuthConfig(public_key=key_file(tmp_path, RSA.public_key()), audience=AUDIENCE)
    async with running_gateway(auth=auth) as running:
        yield running


def forged() -> dict[str, str]:
    public = pem(RSA.public_key())
    header = b'{"alg":"none"}'
    good = token("RS256", RSA, claims())
    head, _, signature = good.split(".")
    return {
        "none": token_of(header, json.dumps(claims()).encode(), b"").rpartition(".")[0] + ".",
        "none, signed": token_of(header, json.dumps(claims()).encode(), RSA),
        "HS256 with the public key": token("HS256", public, claims()),
        "HS256 with the trimmed public key": token("HS256", public.strip(), claims()),
        "another key": token("RS256", OTHER_RSA, claims()),
        "another algorithm": token("RS512", RSA, claims()),
        "wrong aud": token("RS256", RSA, claims(aud="another")),
        "no aud": token("RS256", RSA, {"sub": "alice", "exp": time.time() + 60}),
        "expired": token("RS256", RSA, claims(exp=time.time() - 3600)),
        "no exp": token("RS256", RSA, {"sub": "alice", "aud": AUDIENCE}),
        "no sub": token("RS256", RSA, {"exp": time.time() + 60, "aud": AUDIENCE}),
        "empty sub": token("RS256", RSA, claims(sub="")),
        "not yet": token("RS256", RSA, claims(nbf=time.time() + 3600)),
        "unknown crit": token("RS256", RSA, claims(), crit=["x-future"], **{"x-future": True}),
        "embedded jwk": token("RS256", OTHER_RSA, claims(), jwk=jwk(OTHER_RSA)),
        "changed claims": f"{head}.{b64(json.dumps(claims(sub='admin')).encode())}.{signature}",
        "cut": good[:-10],
        "empty": "",
        "not a token": "Bearer " + good,
        "dots": "." * 60_000,
        "not ASCII": "é" * 100,
        "null characters": "\0.\0.\0",
        "huge numbers": token("RS256", RSA, claims(exp=1e400)),
        "deep": f"{b64(b'[' * 30_000)}.e30.AAAA",
    }


async def test_forged_tokens_are_refused(guarded: Gateway) -> None:
    async with connected(guarded) as talker:
        await talker.auth(token("RS256", RSA, claims()))
    for name, text in forged().items():
        async with connected(guarded) as talker:
            await talker.send("auth", token=text)
            error = await talker.closed("AUTH_TOKEN_INVALID", 4401)
            assert error["details"]["retryable"] is False, name
    assert not guarded.upstream.conversations


async def test_whoever_does_not_authenticate_in_time_is_cut() -> None:
    async with running_gateway(limits=Limits(auth_timeout_s=0.3)) as gateway, connected(gateway) as talker:
        await talker.start()
        await talker.refused("AUTH_REQUIRED")
        await talker.closed("AUTH_TIMEOUT", 4401, within_s=2)


async def test_a_token_that_expires_ends_the_session(gateway: Gateway) -> None:
    async with connected(gateway) as talker:
        await talker.auth(gateway.token(ttl_s=1.2))
        await talker.answered()
        await talker.closed("AUTH_TOKEN_EXPIRED", 4440, within_s=3)


async def test_a_renewed_token_keeps_the_session(gateway: Gateway) -> None:
    async with connected(gateway) as talker:
        first = await talker.auth(gateway.token(ttl_s=1.2))
        await talker.start()
        second = await talker.auth(gateway.token(ttl_s=3))
        assert (second["sessionId"], second["userId"]) == (first["sessionId"], "alice")
        await talker.chunk(bytes(3200))
        assert await talker.during(1.5) == []
        await talker.end()
        await talker.until("audio_response")
        await talker.closed("AUTH_TOKEN_EXPIRED", 4440, within_s=3)


async def test_another_users_token_ends_the_session(gateway: Gateway) -> None:
    async with talking(gateway) as talker:
        await talker.send("auth", token=gateway.token("mallory"))
        await talker.closed("AUTH_USER_CHANGED", 4403)


async def test_a_renewal_that_fails_leaves_the_old_token_in_force(gateway: Gateway) -> None:
    async with connected(gateway) as talker:
        await talker.auth(gateway.token(ttl_s=1.5))
        await talker.send("auth", token=gateway.token()[:-5])
        await talker.refused("AUTH_RENEWAL_REFUSED")
        await talker.answered()
        await talker.closed("AUTH_TOKEN_EXPIRED", 4440, within_s=3)


# ---- verification that takes its time


class SlowVerifier:
    """Takes every token after a while, for the user it names; refuses `bad`."""

    def __init__(self) -> None:
        self.waiting = 0
        self.most_waiting = 0
        self.go = asyncio.Event()

    async def __call__(self, text: str, now: float, /) -> Principal:
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        try:
            await self.go.wait()
        finally:
            self.waiting -= 1
        if text == "bad":
            raise GatewayError(ErrorCode.AUTH_TOKEN_INVALID)
        return Known(text, now + 60)


class Known:
    def __init__(self, user_id: str, expires_at: float) -> None:
        self.user_id = user_id
        self.expires_at = expires_at


async def test_what_is_sent_right_behind_auth_is_kept() -> None:
    verifier = SlowVerifier()
    async with running_gateway(authenticate=verifier) as gateway, raw_socket(gateway.port) as raw:
        await raw.upgrade()
        texts = [f"turn {number}" for number in range(8)]
        sent = [message("auth", token="alice"), *(message("command", command=text) for text in texts)]
        raw.send(b"".join(frame(TEXT, text.encode()) for text in sent))
        await asyncio.sleep(0.05)
        verifier.go.set()
        assert (await raw.message())["type"] == "auth_success"
        while not gateway.upstream.conversations or gateway.upstream.conversations[0].texts != texts:
            assert (await raw.message())["type"] in ("recognition_result", "audio_response")


async def test_a_client_that_waits_for_nothing_is_read_no_further_until_it_is_known() -> None:
    verifier = SlowVerifier()
    async with running_gateway(authenticate=verifier) as gateway, raw_socket(gateway.port) as raw:
        await raw.upgrade()
        raw.send(frame(TEXT, message("auth", token="alice").encode()))
        raw.send(frame(TEXT, b" " * 60_000) * 400)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await raw.writer.drain()
        verifier.go.set()
        assert (await raw.message())["type"] == "auth_success"
        while (await raw.message())["code"] == "PROTOCOL_BAD_JSON":
            pass


async def test_renewals_do_not_pile_up() -> None:
    verifier = SlowVerifier()
    verifier.go.set()
    async with running_gateway(authenticate=verifier) as gateway, connected(gateway) as talker:
        await talker.auth("alice")
        verifier.go.clear()
        for _ in range(20):
            await talker.send("auth", token="alice")
        for _ in range(19):
            await talker.refused("AUTH_RENEWAL_REFUSED")
        await talker.answered()
        assert verifier.most_waiting == 1
        verifier.go.set()
        await talker.until("auth_success")


async def test_a_client_that_leaves_while_its_token_is_verified_leaves_nothing() -> None:
    verifier = SlowVerifier()
    # While it waits it is not read, so its leaving is noticed when the waiting ends.
    limits = Limits(auth_timeout_s=0.3)
    async with running_gateway(authenticate=verifier, limits=limits) as gateway:
        async with raw_socket(gateway.port) as raw:
            await raw.upgrade()
            raw.send(frame(TEXT, message("auth", token="alice").encode()))
            while not verifier.waiting:
                await asyncio.sleep(0.01)
            raw.reset()
        async with asyncio.timeout(5):
            while verifier.waiting:
                await asyncio.sleep(0.01)


async def test_auth_that_takes_too_long_is_a_timeout() -> None:
    limits = Limits(auth_timeout_s=0.3)
    async with (
        running_gateway(authenticate=SlowVerifier(), limits=limits) as gateway,
        connected(gateway) as talker,
    ):
        await talker.send("auth", token="alice")
        await talker.closed("AUTH_TIMEOUT", 4401, within_s=2)


# ---- how many


async def test_connections_of_a_user_are_limited_and_freed() -> None:
    async with running_gateway(per_user=2) as gateway, AsyncExitStack() as stack:
        first = await stack.enter_async_context(talking(gateway))
        await stack.enter_async_context(talking(gateway))
        await stack.enter_async_context(talking(gateway, "bob"))
        async with connected(gateway) as third:
            await third.send("auth", token=gateway.token())
            error = await third.closed("QUOTA_CONNECTIONS", 4429)
            assert error["details"]["retryAfterMs"] > 0
            assert error["details"]["retryable"] is True
        await first.socket.close()
        async with asyncio.timeout(5):
            while gateway.admission.sessions == 3:
                await asyncio.sleep(0.01)
        async with talking(gateway) as again:
            await again.answered()


async def test_sessions_of_a_node_are_limited() -> None:
    async with (
        running_gateway(max_sessions=2) as gateway,
        talking(gateway),
        talking(gateway, "bob"),
        connected(gateway) as third,
    ):
        await third.send("auth", token=gateway.token("carol"))
        error = await third.closed("SERVER_AT_CAPACITY", 1013)
        assert error["details"]["retryAfterMs"] > 0


async def test_connections_of_a_node_are_limited_before_they_authenticate() -> None:
    async with (
        running_gateway(max_connections=2) as gateway,
        connected(gateway),
        connected(gateway),
        connected(gateway) as third,
    ):
        await third.closed("SERVER_AT_CAPACITY", 1013)


# ---- secrets


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Every logger there is, at DEBUG."""
    caplog.set_level(logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        caplog.set_level(logging.DEBUG, name)
    return caplog


@pytest.mark.own_socket
async def test_tokens_never_reach_a_log(everything_logged: pytest.LogCaptureFixture) -> None:
    tokens = [mint(SECRET, user, 60, time.time()) for user in ("alice", "bob")]
    bad = tokens[0][:-9] + "forgery-x"
    async with running_gateway() as gateway:
        async with connected(gateway) as talker:
            await talker.auth(tokens[0])
            await talker.send("auth", token=bad)
            await talker.refused("AUTH_RENEWAL_REFUSED")
            await talker.socket.send(message("auth", token=tokens[0])[:-1])
            await talker.refused("PROTOCOL_BAD_JSON")
            await talker.send("auth", token=[tokens[0]])
            await talker.refused("PROTOCOL_BAD_MESSAGE")
            await talker.send("auth", token=tokens[1])
            await talker.closed("AUTH_USER_CHANGED", 4403)
        async with connected(gateway) as talker:
            await talker.send("auth", token=bad)
            await talker.closed("AUTH_TOKEN_INVALID", 4401)
    by_client = [record for record in everything_logged.records if record.name == "websockets.client"]
    ours = [record for record in everything_logged.records if record not in by_client]
    text = "\n".join(record.getMessage() + (record.exc_text or "") for record in ours)
    for secret in (*tokens, bad, SECRET, "the-key"):
        assert secret[-12:] not in text
        assert secret[40:80] not in text or not secret[40:80]
    assert any(tokens[1][-12:] in record.getMessage() for record in by_client), "nothing was looked at"
