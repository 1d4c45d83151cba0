"""keys.py: which keys are taken, and how the JWKS is fetched."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from antiphon import keys
from antiphon.auth import AuthConfig, TokenVerifier
from antiphon.errors import ErrorCode, GatewayError
from unit.signing import (
    ASYMMETRIC,
    CLAIMS,
    ED25519,
    NOW,
    OTHER_RSA,
    P256,
    RSA,
    SECRET,
    Private,
    at_once,
    b64,
    jwk,
    key_file,
    pem,
    refusal,
    token,
)

# ---- keys that cannot be used


@pytest.mark.parametrize("secret", ["", pem(RSA.public_key()).decode(), "ssh-ed25519 " + "A" * 64])
def test_secrets_that_are_refused(secret: str) -> None:
    with pytest.raises(ValueError, match=r"^[A-Z].*\.$"):
        TokenVerifier(AuthConfig(secret=secret))


def test_nothing_configured() -> None:
    with pytest.raises(ValueError, match="configure a secret, a public key or a JWKS URL"):
        TokenVerifier(AuthConfig())


PRIVATE_PEM = [
    RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    RSA.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
    P256.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    P256.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
]
UNSUPPORTED_PEM = [
    pem(rsa.generate_private_key(65537, 1024).public_key()),
    pem(ec.generate_private_key(ec.SECP384R1()).public_key()),
    pem(ec.generate_private_key(ec.SECP256K1()).public_key()),
    pem(ed448.Ed448PrivateKey.generate().public_key()),
    pem(x25519.X25519PrivateKey.generate().public_key()),
    pem(dsa.generate_private_key(1024).public_key()),
]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        *((content, "is a private key") for content in PRIVATE_PEM),
        *((content, "kind that is not supported") for content in UNSUPPORTED_PEM),
        (b"", "no PEM file"),
        (b"\xff\xfe", "no PEM file"),
        (pem(RSA.public_key())[:100], "no PEM file"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no PEM file"),
    ],
)
def test_public_key_files_that_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said):
        TokenVerifier(AuthConfig(public_key=path))


def test_public_key_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.pem"):
        with pytest.raises(ValueError, match=r"cannot be read: .+\."):
            TokenVerifier(AuthConfig(public_key=path))


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/jwks",
        "http://10.0.0.1/jwks",
        "http://localhost.example.org/jwks",
        "http:///jwks",
        "https:///jwks",
        "ftp://127.0.0.1/jwks",
        "/jwks",
        "",
        "https://user:password@example.org/jwks",
        "http://[::1/jwks",
        "https://example.org:port/jwks",
    ],
)
def test_jwks_urls_that_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="JWKS URL") as caught:
        TokenVerifier(AuthConfig(jwks_url=url))
    assert "password@" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://example.org/jwks", "http://127.0.0.2:80/jwks", "http://[::1]/j", "http://localhost/j"]
)
async def test_jwks_urls_that_are_taken(url: str) -> None:
    await TokenVerifier(AuthConfig(jwks_url=url)).aclose()


# ---- JWKS


def response(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n"
    return head.encode() + body


class JwksServer:
    """An HTTP server on loopback that answers what the test says and counts requests."""

    def __init__(self) -> None:
        self.keys: list[object] = []
        self.answer: bytes | None = None
        self.requests: list[bytes] = []
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.url = ""
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/jwks?key=hidden"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            self.asked.set()
            await self.gate.wait()
            body = json.dumps({"keys": self.keys}).encode()
            writer.write(response(body) if self.answer is None else self.answer)
            await writer.drain()
        except ConnectionError:
            pass  # the verifier hung up, as some tests want it to
        finally:
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[JwksServer]:
    server = JwksServer()
    server.keys = [
        jwk(RSA, kid="r1", use="sig", alg="RS256"),
        jwk(P256, kid="e1"),
        jwk(ED25519, kid="d1", alg="EdDSA"),
    ]
    await server.start()
    yield server
    server.gate.set()
    await server.stop()


@asynccontextmanager
async def trusting_jwks(server: JwksServer, **more: Any) -> AsyncIterator[TokenVerifier]:
    verifier = TokenVerifier(AuthConfig(jwks_url=server.url, **more))
    try:
        yield verifier
    finally:
        await verifier.aclose()


async def code_of(verifier: TokenVerifier, text: str, now: float = NOW) -> ErrorCode:
    with pytest.raises(GatewayError) as caught:
        await verifier.verify(text, now)
    return caught.value.code


async def test_jwks_keys_verify_and_are_fetched_once(server: JwksServer) -> None:
    async with trusting_jwks(server) as verifier:
        for alg, kid in [("RS256", "r1"), ("ES256", "e1"), ("EdDSA", "d1"), ("Ed25519", "d1")]:
            key = ASYMMETRIC["EdDSA" if alg == "Ed25519" else alg]
            assert (await verifier.verify(token(alg, key, kid=kid), NOW)).user_id == "alice"
        assert at_once(verifier, token("RS256", RSA)).user_id == "alice"  # no kid: any RSA key may do
        assert len(server.requests) == 1


async def test_a_key_signs_only_in_its_own_name(server: JwksServer) -> None:
    server.keys.append(jwk(OTHER_RSA, kid="r2"))
    async with trusting_jwks(server) as verifier:
        assert (await verifier.verify(token("RS256", OTHER_RSA, kid="r2"), NOW)).user_id == "alice"
        assert "not signed with a key" in refusal(verifier, token("RS256", RSA, kid="r2"))
        # A kid of another kind of key is an unknown kid, and the newest fetch is too fresh for another.
        assert "not signed with a key" in refusal(verifier, token("RS256", RSA, kid="e1"))


async def test_hs256_never_asks_the_jwks(server: JwksServer) -> None:
    server.keys.append({"kty": "oct", "kid": "s", "k": b64(SECRET.encode())})
    async with trusting_jwks(server) as verifier:
        refusal(verifier, token("HS256", SECRET, kid="s"))
        refusal(verifier, token("HS256", pem(RSA.public_key()), kid="r1"))
        assert server.requests == []


async def test_local_keys_verify_beside_the_jwks(server: JwksServer, tmp_path: Path) -> None:
    path = key_file(tmp_path, OTHER_RSA.public_key())
    async with trusting_jwks(server, secret=SECRET, public_key=path) as verifier:
        assert at_once(verifier, token("HS256", SECRET)).user_id == "alice"
        assert at_once(verifier, token("RS256", OTHER_RSA, kid="elsewhere")).user_id == "alice"
        assert server.requests == []
        assert (await verifier.verify(token("RS256", RSA, kid="r1"), NOW)).user_id == "alice"


async def test_a_new_kid_is_fetched_once(server: JwksServer) -> None:
    async with trusting_jwks(server) as verifier:
        await verifier.verify(token("RS256", RSA, kid="r1"), NOW)
        server.keys.append(jwk(OTHER_RSA, kid="r2"))
        for _ in range(3):
            assert (await verifier.verify(token("RS256", OTHER_RSA, kid="r2"), NOW + 30)).user_id == "alice"
        assert len(server.requests) == 2


async def test_a_key_that_was_taken_back_no_longer_verifies(server: JwksServer) -> None:
    claims = {**CLAIMS, "exp": NOW + 3600}
    async with trusting_jwks(server) as verifier:
        text = token("RS256", RSA, claims, kid="r1")
        await verifier.verify(text, NOW)
        del server.keys[0]
        assert at_once(verifier, text, NOW + 600).user_id == "alice"
        assert len(server.requests) == 1
        assert await code_of(verifier, text, NOW + 601) is ErrorCode.AUTH_TOKEN_INVALID
        assert len(server.requests) == 2


async def test_a_flood_of_unknown_kids_fetches_once_in_30_s(server: JwksServer) -> None:
    async with trusting_jwks(server) as verifier:
        await verifier.verify(token("RS256", RSA, kid="r1"), NOW)
        for second in range(1, 30):
            flood = [
                code_of(verifier, token("RS256", OTHER_RSA, kid=f"x{n}"), NOW + second) for n in range(5)
            ]
            assert set(await asyncio.gather(*flood)) == {ErrorCode.AUTH_TOKEN_INVALID}
        assert len(server.requests) == 1
        flood = [code_of(verifier, token("RS256", OTHER_RSA, kid=f"y{n}"), NOW + 30) for n in range(50)]
        assert set(await asyncio.gather(*flood)) == {ErrorCode.AUTH_TOKEN_INVALID}
        assert len(server.requests) == 2


async def test_callers_share_one_fetch_and_one_leaving_does_not_end_it(server: JwksServer) -> None:
    server.gate.clear()
    async with trusting_jwks(server) as verifier, asyncio.TaskGroup() as group:
        text = token("RS256", RSA, kid="r1")
        first, *others = [group.create_task(verifier.verify(text, NOW)) for _ in range(10)]
        await server.asked.wait()
        first.cancel()
        await asyncio.wait({first})
        assert first.cancelled()
        server.gate.set()
        assert {(await other).user_id for other in others} == {"alice"}
        assert len(server.requests) == 1


async def test_a_clock_set_back_does_not_stop_refreshing(server: JwksServer) -> None:
    async with trusting_jwks(server) as verifier:
        await verifier.verify(token("RS256", RSA, kid="r1"), NOW)
        await verifier.verify(token("RS256", RSA, kid="r1"), NOW - 86400)
        assert len(server.requests) == 2


async def test_without_any_keys_nothing_can_be_told(
    server: JwksServer, caplog: pytest.LogCaptureFixture
) -> None:
    await server.stop()
    async with trusting_jwks(server, secret=SECRET) as verifier:
        text = token("RS256", RSA, kid="r1")
        assert await code_of(verifier, text) is ErrorCode.AUTH_UNAVAILABLE
        assert await code_of(verifier, text, NOW + 29) is ErrorCode.AUTH_UNAVAILABLE
        assert (await verifier.verify(token("HS256", SECRET), NOW)).user_id == "alice"
        assert "cannot be had" in caplog.text
        assert "hidden" not in caplog.text
        assert text not in caplog.text
        await server.start(server.port)
        assert (await verifier.verify(text, NOW + 30)).user_id == "alice"


async def test_while_the_server_is_down_known_keys_verify_and_unknown_ones_are_left_open(
    server: JwksServer,
) -> None:
    claims = {"sub": "alice", "exp": NOW + 10 * 86400}
    known, unknown = token("RS256", RSA, claims, kid="r1"), token("RS256", OTHER_RSA, claims, kid="r2")
    async with trusting_jwks(server) as verifier:
        await verifier.verify(known, NOW)
        await server.stop()
        # The newest fetch was good and said that there is no such key.
        assert await code_of(verifier, unknown, NOW + 29) is ErrorCode.AUTH_TOKEN_INVALID
        # The newest fetch failed: the key may be a new one.
        assert await code_of(verifier, unknown, NOW + 30) is ErrorCode.AUTH_UNAVAILABLE
        assert (await verifier.verify(known, NOW + 900)).user_id == "alice"
        assert (await verifier.verify(known, NOW + 86400)).user_id == "alice"
        assert await code_of(verifier, known, NOW + 86401) is ErrorCode.AUTH_UNAVAILABLE
        await server.start(server.port)


async def test_a_slow_server_is_given_up_on(
    server: JwksServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keys, "JWKS_TIMEOUT_S", 0.05)
    server.gate.clear()
    async with trusting_jwks(server) as verifier:
        assert await code_of(verifier, token("RS256", RSA, kid="r1")) is ErrorCode.AUTH_UNAVAILABLE
        assert "did not come within 0.05 s" in caplog.text


async def test_closing_ends_a_fetch(server: JwksServer) -> None:
    server.gate.clear()
    verifier = TokenVerifier(AuthConfig(jwks_url=server.url))
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(code_of(verifier, token("RS256", RSA, kid="r1")))
        await server.asked.wait()
        await verifier.aclose()
        assert await waiting is ErrorCode.AUTH_UNAVAILABLE


BAD_ANSWERS: dict[str, bytes] = {
    "404": response(b'{"keys":[]}', "404 Not Found"),
    "redirect": response(b"", "302 Found", "Location: /jwks\r\n"),
    "huge": response(b'{"keys":[' + b" " * keys.JWKS_MAX_BYTES + b"]}"),
    "compressed": response(gzip.compress(b'{"keys":[]}'), headers="Content-Encoding: gzip\r\n"),
    "no JSON": response(b"<html>"),
    "no UTF-8": response(b'{"keys":["\xff"]}'),
    "nested deep": response(b'{"keys":[{"a":' + b"[" * 100_000),
    "no key set": response(b'{"key":[]}'),
    "keys is no array": response(b'{"keys":{}}'),
    "a key is no object": response(b'{"keys":[1]}'),
    "no HTTP": b"SSH-2.0-OpenSSH\r\n",
    "hangs up": b"",
    "cut short": b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
}


@pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
async def test_answers_that_are_no_key_set(
    server: JwksServer, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with trusting_jwks(server) as verifier:
        server.answer = answer
        text = token("RS256", RSA, kid="r1")
        assert await code_of(verifier, text) is ErrorCode.AUTH_UNAVAILABLE
        assert len(server.requests) == 1
        assert "cannot be had" in caplog.text
        server.answer = None
        assert (await verifier.verify(text, NOW + 30)).user_id == "alice"


async def test_a_body_without_an_end_is_cut_off(server: JwksServer) -> None:
    async with trusting_jwks(server) as verifier:
        server.answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b" " * (32 * 1024 * 1024)
        assert await code_of(verifier, token("RS256", RSA, kid="r1")) is ErrorCode.AUTH_UNAVAILABLE


PRIVATE_JWK = {**jwk(P256), "d": b64(P256.private_numbers().private_value.to_bytes(32, "big"))}
UNUSABLE_JWK: dict[str, dict[str, Any]] = {
    "for encryption": jwk(P256, use="enc"),
    "not for verifying": jwk(P256, key_ops=["deriveKey"]),
    "operations are text": jwk(P256, key_ops="verify"),
    "for another algorithm": jwk(P256, alg="ES384"),
    "private": PRIVATE_JWK,
    "another curve": jwk(P256) | {"crv": "P-384"},
    "off the curve": jwk(P256) | {"y": b64(b"\1" * 32)},
    "no coordinate": {"kty": "EC", "crv": "P-256", "x": "AA"},
    "a number for a coordinate": jwk(P256) | {"x": 7},
    "no base64": jwk(P256) | {"x": "é"},
    "empty coordinate": jwk(P256) | {"x": ""},
    "kid is a number": jwk(P256) | {"kid": 1},
    "no kty": {"kid": "k"},
    "unknown kty": {"kty": "AKP", "kid": "k"},
    "symmetric": {"kty": "oct", "k": b64(SECRET.encode())},
}


@pytest.mark.parametrize("entry", UNUSABLE_JWK.values(), ids=UNUSABLE_JWK)
async def test_jwks_entries_that_are_ignored(
    server: JwksServer, entry: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    server.keys = [{"kid": "k", **entry}]
    async with trusting_jwks(server) as verifier:
        assert await code_of(verifier, token("ES256", P256, kid="k")) is ErrorCode.AUTH_TOKEN_INVALID
        assert "no key that can verify" in caplog.text
        server.keys.append(jwk(P256, kid="k"))  # one bad entry does not spoil the others
        assert (await verifier.verify(token("ES256", P256, kid="k"), NOW + 30)).user_id == "alice"


async def test_other_unusable_keys(server: JwksServer) -> None:
    small = rsa.generate_private_key(65537, 1024)
    even, short = jwk(RSA, kid="e") | {"e": "Ag"}, jwk(ED25519, kid="d") | {"x": "AAAA"}
    server.keys = [jwk(small, kid="s", alg="RS256"), even, short]
    signers: list[tuple[str, Private, str]] = [
        ("RS256", small, "s"),
        ("RS256", RSA, "e"),
        ("EdDSA", ED25519, "d"),
    ]
    async with trusting_jwks(server) as verifier:
        for alg, key, kid in signers:
            assert await code_of(verifier, token(alg, key, kid=kid)) is ErrorCode.AUTH_TOKEN_INVALID


async def test_keys_without_kid_fit_any_token(server: JwksServer) -> None:
    server.keys = [jwk(RSA, key_ops=["verify"]), jwk(OTHER_RSA)]
    async with trusting_jwks(server) as verifier:
        assert (await verifier.verify(token("RS256", OTHER_RSA, kid="any"), NOW)).user_id == "alice"
        assert (await verifier.verify(token("RS256", OTHER_RSA), NOW)).user_id == "alice"


async def test_no_more_than_100_keys_are_kept(server: JwksServer) -> None:
    server.keys = [jwk(ED25519, kid=f"k{n}") for n in range(101)]
    async with trusting_jwks(server) as verifier:
        assert (await verifier.verify(token("EdDSA", ED25519, kid="k99"), NOW)).user_id == "alice"
        refusal(verifier, token("EdDSA", ED25519, kid="k100"))


@pytest.mark.parametrize(
    ("secret", "weak"), [("x", True), ("x" * 31, True), ("x" * 32, False), ("é" * 16, False)]
)
def test_a_weak_secret_is_told_from_a_good_one(secret: str, weak: bool) -> None:
    assert keys.is_weak(secret) == weak
    keys.secret_key(secret)
