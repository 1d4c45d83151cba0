"""Keys that verify tokens, each with the one algorithm it is good for.

A key decides its algorithm, never the token (RFC 8725, 3.1): a secret HS256, an RSA key RS256, a P-256
key ES256, an Ed25519 key EdDSA.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import warnings
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey
from joserfc.util import base64_to_int, urlsafe_b64decode
from msgspec import Struct

from antiphon.errors import ErrorCode, GatewayError

MIN_SECRET_BYTES: Final = 32
"""As long as the hash's output: RFC 7518, 3.2."""
MIN_RSA_BITS: Final = 2048
"""RFC 7518, 3.3."""

JWKS_MIN_REFRESH_S: Final = 30.0
JWKS_MAX_AGE_S: Final = 600.0
JWKS_MAX_STALE_S: Final = 24 * 3600.0
JWKS_TIMEOUT_S: Final = 5.0
JWKS_MAX_BYTES: Final = 256 * 1024
JWKS_MAX_KEYS: Final = 100

ALGORITHMS: Final = {
    "HS256": "HS256",
    "RS256": "RS256",
    "ES256": "ES256",
    "EdDSA": "Ed25519",
    "Ed25519": "Ed25519",  # the same under the name of RFC 9864
}
"""What a token or a key may call its algorithm, and joserfc's name for that."""

_log = logging.getLogger(__name__)


class VerificationKey(Struct, frozen=True):
    """A key and the algorithm, in joserfc's words, that it is pinned to."""

    algorithm: str
    key: Key
    kid: str | None = None


def secret_key(secret: str) -> OctKey:
    """Return the HMAC key of a secret. Whether a weak one will do is the caller's to decide.

    Raises:
        ValueError: it is empty, or the text of a public key.
    """
    material = secret.encode(errors="surrogateescape")  # as the environment hands on what is no UTF-8
    if not material:
        raise ValueError("The JWT secret is empty.")
    with warnings.catch_warnings(action="ignore" if is_weak(secret) else "error", category=SecurityWarning):
        try:
            return OctKey.import_key(material)
        except (ValueError, SecurityWarning):
            raise ValueError("The JWT secret is a public key's text; configure it as a file.") from None


def is_weak(secret: str) -> bool:
    """Whether a secret is shorter than RFC 7518 asks for."""
    return len(secret.encode(errors="surrogateescape")) < MIN_SECRET_BYTES


def read_public_key(path: Path) -> VerificationKey:
    """Return the public key in a PEM file.

    Raises:
        ValueError: the file cannot be read, or holds no key that can verify tokens.
    """
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise ValueError(f"The JWT public key {path} cannot be read: {error.strerror}.") from None
    if b"PRIVATE KEY-----" in pem:
        raise ValueError(f"The JWT public key {path} is a private key; only its public half belongs here.")
    try:
        native = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"The JWT public key {path} is no PEM file with a PUBLIC KEY.") from None
    key = _pinned(native)
    if key is None:
        raise ValueError(
            f"The JWT public key {path} is of a kind that is not supported: "
            f"take RSA with {MIN_RSA_BITS} bits or more, EC on the curve P-256, or Ed25519."
        )
    return key


def _pinned(native: PublicKeyTypes, kid: str | None = None) -> VerificationKey | None:
    """Return the key with the one algorithm that it verifies; None if there is none."""
    match native:
        case rsa.RSAPublicKey() if native.key_size >= MIN_RSA_BITS:
            return VerificationKey("RS256", RSAKey.import_key(native), kid)
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1()):
            return VerificationKey("ES256", ECKey.import_key(native), kid)
        case ed25519.Ed25519PublicKey():
            return VerificationKey("Ed25519", OKPKey.import_key(native), kid)
        case _:
            return None


def _from_jwk(jwk: dict[str, Any]) -> VerificationKey | None:
    """Return the key of a JWKS entry; None if it is not one to verify tokens with (RFC 7517, 5).

    Private and symmetric keys are left out too: once published, they prove nothing.
    """
    kid = jwk.get("kid")
    operations = jwk.get("key_ops", ["verify"])
    if "d" in jwk or jwk.get("use", "sig") != "sig" or not isinstance(kid, str | None):
        return None
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    native: PublicKeyTypes
    try:
        match jwk:
            case {"kty": "RSA", "n": str(n), "e": str(e)}:
                native = rsa.RSAPublicNumbers(base64_to_int(e), base64_to_int(n)).public_key()
            case {"kty": "EC", "crv": "P-256", "x": str(x), "y": str(y)}:
                point = ec.EllipticCurvePublicNumbers(base64_to_int(x), base64_to_int(y), ec.SECP256R1())
                native = point.public_key()
            case {"kty": "OKP", "crv": "Ed25519", "x": str(x)}:
                native = ed25519.Ed25519PublicKey.from_public_bytes(urlsafe_b64decode(x.encode()))
            case _:
                return None
    except ValueError:
        return None
    key = _pinned(native, kid)
    if key is not None and "alg" in jwk and ALGORITHMS.get(str(jwk["alg"])) != key.algorithm:
        return None
    return key


class _KeySet(Struct):
    keys: list[dict[str, Any]]


class RemoteKeys:
    """The keys of a JWKS URL (https, or http on loopback), fetched when first needed and cached.

    Fetched again once they are 10 minutes old, or when a token names a key that is not among them;
    in both cases at most once in 30 s, whatever came of it. Callers share one fetch. While fetching
    fails, the last keys stay good for a day. A fetch may take 5 s and 256 KiB, and follows no redirect.

    Raises:
        ValueError: the URL cannot be used.
    """

    def __init__(self, url: str) -> None:
        self._url = _checked_url(url)
        self._name = self._url.copy_with(query=None)  # for the log: a query may hold an API key
        self._http = httpx.AsyncClient(
            follow_redirects=False,
            timeout=None,  # noqa: S113 (asyncio.timeout bounds the whole fetch, which httpx cannot)
            trust_env=self._url.scheme == "https",  # a proxy is for the outside, not for loopback
            headers={"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"},
        )
        self._keys: list[VerificationKey] = []
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._failed = True
        self._refreshing: asyncio.Task[None] | None = None

    async def find(self, algorithm: str, kid: str | None, now: float) -> list[VerificationKey]:
        """Return the keys that may have signed a token; without `kid`, a key or a token fits any.

        `now` is in seconds since the Unix epoch. Suspends only for a fetch.

        Raises:
            GatewayError: AUTH_UNAVAILABLE, when there is none and the newest fetch failed: the key
                may be a new one, so to call the token bad would be a guess.
        """
        if not self._younger_than(JWKS_MAX_AGE_S, now):
            await self._refresh(now)
            if not self._younger_than(JWKS_MAX_STALE_S, now):
                raise GatewayError(ErrorCode.AUTH_UNAVAILABLE)
        found = self._matching(algorithm, kid)
        if not found:
            await self._refresh(now)
            found = self._matching(algorithm, kid)
        if not found and self._failed:
            raise GatewayError(ErrorCode.AUTH_UNAVAILABLE)
        return found

    async def aclose(self) -> None:
        """End a refresh that is under way, and close the connections."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait({self._refreshing})
        await self._http.aclose()

    def _matching(self, algorithm: str, kid: str | None) -> list[VerificationKey]:
        return [
            key
            for key in self._keys
            if key.algorithm == algorithm and (kid is None or key.kid is None or key.kid == kid)
        ]

    def _younger_than(self, age_s: float, now: float) -> bool:
        # A clock that was set back gives a negative age, which must not keep keys young.
        return self._fetched_at is not None and abs(now - self._fetched_at) <= age_s

    async def _refresh(self, now: float) -> None:
        if self._refreshing is None:
            if self._tried_at is not None and abs(now - self._tried_at) < JWKS_MIN_REFRESH_S:
                return
            self._tried_at = now
            self._refreshing = asyncio.create_task(self._load(now), name="jwks refresh")
        # wait() and not the task itself: a cancelled caller must not take the fetch from the others.
        await asyncio.wait({self._refreshing})

    async def _load(self, now: float) -> None:
        self._failed = True
        try:
            async with asyncio.timeout(JWKS_TIMEOUT_S):
                body = await self._fetch()
            entries = msgspec.json.decode(body, type=_KeySet).keys
        except TimeoutError:
            _log.warning("The JWKS at %s did not come within %g s.", self._name, JWKS_TIMEOUT_S)
        except (httpx.HTTPError, msgspec.DecodeError, ValueError, RecursionError) as error:
            _log.warning("The JWKS at %s cannot be had: %s", self._name, str(error) or type(error).__name__)
        else:
            self._keys = [key for entry in entries[:JWKS_MAX_KEYS] if (key := _from_jwk(entry)) is not None]
            self._fetched_at = now
            self._failed = False
            if not self._keys:
                _log.warning("The JWKS at %s has no key that can verify tokens.", self._name)
        finally:
            self._refreshing = None

    async def _fetch(self) -> bytes:
        body = bytearray()
        async with self._http.stream("GET", self._url) as response:
            if response.status_code != httpx.codes.OK:
                raise ValueError(f"the answer has status {response.status_code}")
            async for piece in response.aiter_raw():  # raw: nothing of theirs is decompressed
                body += piece
                if len(body) > JWKS_MAX_BYTES:
                    raise ValueError(f"the answer is larger than {JWKS_MAX_BYTES} bytes")
        return bytes(body)


def _checked_url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ValueError(f"The JWKS URL is not valid: {error}.") from None
    if url.userinfo:
        raise ValueError("The JWKS URL must not hold a user name or password.")
    if not url.host or not (url.scheme == "https" or (url.scheme == "http" and _is_loopback(url.host))):
        raise ValueError("The JWKS URL must be https, or http on loopback.")
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
