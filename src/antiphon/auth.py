"""Tokens: who a client is, proven by a signed JWT (RFC 7519) in the compact form (RFC 7515)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.util import urlsafe_b64decode
from msgspec import Struct

from antiphon.errors import ErrorCode, GatewayError
from antiphon.keys import ALGORITHMS, RemoteKeys, VerificationKey, read_public_key, secret_key

MAX_TOKEN_BYTES: Final = 8 * 1024
MAX_USER_ID_CHARS: Final = 255
"""The bound that OpenID Connect Core 1.0 (section 2) sets for `sub`."""

_LAST_NUMERIC_DATE: Final = 253_402_300_799  # the year 9999 ends; milliseconds taken for seconds lie beyond
_FOREIGN_KEY_HEADERS: Final = frozenset({"jku", "jwk", "x5u", "x5c"})
_EXTENSION_HEADERS: Final = frozenset({"crit", "b64"})


class Principal(Struct, frozen=True):
    """Who a token speaks for. `expires_at`: its `exp`, seconds since the Unix epoch."""

    user_id: str
    expires_at: float


class AuthConfig(Struct, frozen=True, kw_only=True):
    """Which tokens are good. At least one of `secret`, `public_key` and `jwks_url` is needed.

    `secret` verifies HS256 and should have 32 bytes or more. `public_key` is a PEM file, `jwks_url` an
    https URL (or http on loopback); they verify RS256, ES256 and EdDSA. `issuer` and `audience`, where
    given, must be the token's. `leeway_s` is how far the issuer's clock may run ahead: it eases
    `nbf`. `exp` has no leeway, because a live connection ends at it.
    """

    secret: str | None = None
    public_key: Path | None = None
    jwks_url: str | None = None
    issuer: str | None = None
    audience: str | None = None
    leeway_s: float = 5.0

    def __repr__(self) -> str:
        secret = None if self.secret is None else "..."
        return (
            f"AuthConfig(secret={secret}, public_key={self.public_key!r}, jwks_url={self.jwks_url!r}, "
            f"issuer={self.issuer!r}, audience={self.audience!r}, leeway_s={self.leeway_s!r})"
        )


class TokenVerifier:
    """Verifies tokens against the configured keys.

    Raises:
        ValueError: a key or URL cannot be used; the message is a sentence for the operator.
    """

    def __init__(self, config: AuthConfig) -> None:
        self._config = config
        self._local: list[VerificationKey] = []
        if config.secret is not None:
            self._local.append(VerificationKey("HS256", secret_key(config.secret)))
        if config.public_key is not None:
            self._local.append(read_public_key(config.public_key))
        self._remote = None if config.jwks_url is None else RemoteKeys(config.jwks_url)
        if not self._local and self._remote is None:
            raise ValueError("Nothing verifies tokens: configure a secret, a public key or a JWKS URL.")

    async def verify(self, token: str, now: float) -> Principal:
        """Return who the token speaks for at `now`, in seconds since the Unix epoch.

        Suspends only when the JWKS has to be fetched.

        Raises:
            GatewayError: AUTH_TOKEN_INVALID, its message saying why; or AUTH_UNAVAILABLE, when the
                token's key is not known and the JWKS cannot be had.
        """
        algorithm, kid = _read_header(token)
        payload = _signed_payload(token, self._local)
        if payload is None and self._remote is not None and algorithm != "HS256":
            payload = _signed_payload(token, await self._remote.find(algorithm, kid, now))
        if payload is None:
            raise _refused("The token is not signed with a key that is trusted here.")
        return self._principal(payload, now)

    async def aclose(self) -> None:
        """End a JWKS fetch that is under way, and close its connections."""
        if self._remote is not None:
            await self._remote.aclose()

    def _principal(self, payload: bytes, now: float) -> Principal:
        try:
            claims = msgspec.json.decode(payload, type=_Claims)
        except msgspec.ValidationError as error:
            raise _refused(f"The token's claims are not valid: {error}.") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise _refused("The token's claims are no JSON object.") from None
        audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
        if fault := _user_id_fault(claims.sub):
            raise _refused(f"The token's sub {fault}.")
        if claims.exp > _LAST_NUMERIC_DATE:
            raise _refused("The token's exp is no time in seconds.")
        if claims.exp <= now:
            raise _refused("The token has expired; get a new one.")
        if claims.nbf > now + self._config.leeway_s:
            raise _refused("The token is not valid yet.")
        if self._config.issuer is not None and claims.iss != self._config.issuer:
            raise _refused("The token is not from the issuer that is trusted here.")
        if self._config.audience is not None and self._config.audience not in audiences:
            raise _refused("The token is meant for another audience.")
        return Principal(claims.sub, claims.exp)


def mint(
    secret: str, user: str, ttl_s: float, now: float, issuer: str | None = None, audience: str | None = None
) -> str:
    """Return an HS256 token for `user`, good from `now` (seconds since the Unix epoch) for `ttl_s`.

    Raises:
        ValueError: the secret is empty, the user's name cannot be a `sub`, or `ttl_s` is not positive.
    """
    if fault := _user_id_fault(user):
        raise ValueError(f"The user's name {fault}.")
    if not ttl_s > 0:
        raise ValueError("A token's lifetime must be more than 0 seconds.")
    claims: dict[str, Any] = {"sub": user, "iat": round(now, 3), "exp": round(now + ttl_s, 3)}
    if issuer is not None:
        claims["iss"] = issuer
    if audience is not None:
        claims["aud"] = audience
    return jwt.encode({"alg": "HS256"}, claims, secret_key(secret))


class _Claims(Struct):
    sub: str
    exp: float
    nbf: float = 0.0
    iss: str | None = None
    aud: str | list[str] = []


# No header that is acceptable here holds more than plain values, so nothing nested is ever parsed.
_header_decoder = msgspec.json.Decoder(dict[str, str | int | float | bool | None])


class _PinnedAlgorithm(jws.JWSRegistry):
    """Admits one algorithm. Headers without a meaning here are ignored, as RFC 7515, 4 asks."""

    max_header_length = 2048
    max_payload_length = MAX_TOKEN_BYTES
    max_signature_length = 2048

    def __init__(self, algorithm: str) -> None:
        super().__init__(algorithms=[algorithm], strict_check_header=False)

    def get_alg(self, name: str) -> Any:
        # joserfc warns of "EdDSA", which leaves the curve open; the pinned key has settled it.
        return super().get_alg(ALGORITHMS.get(name, name))


def _refused(reason: str) -> GatewayError:
    return GatewayError(ErrorCode.AUTH_TOKEN_INVALID, reason)


def _read_header(token: str) -> tuple[str, str | None]:
    """Return joserfc's name of the token's algorithm, and its key id; nothing is verified yet."""
    if len(token) > MAX_TOKEN_BYTES:
        raise _refused(f"The token is longer than {MAX_TOKEN_BYTES} bytes.")
    try:
        header = _header_decoder.decode(urlsafe_b64decode(token.partition(".")[0].encode()))
    except msgspec.ValidationError:
        raise _refused("The token's header holds more than plain values.") from None
    except (msgspec.DecodeError, ValueError):
        raise _refused("The token is no signed JWT.") from None
    if _FOREIGN_KEY_HEADERS & header.keys():
        raise _refused("The token brings its own key.")
    if _EXTENSION_HEADERS & header.keys():
        raise _refused("The token needs an extension that is not supported.")
    algorithm = ALGORITHMS.get(str(header.get("alg")))
    if algorithm is None:
        raise _refused("The token's algorithm is not accepted here.")
    kid = header.get("kid")
    if not isinstance(kid, str | None):
        raise _refused("The token's kid is no string.")
    return algorithm, kid


def _signed_payload(token: str, keys: list[VerificationKey]) -> bytes | None:
    """Return what the token says if one of the keys signed it."""
    for key in keys:
        try:
            return jws.deserialize_compact(token, key.key, registry=_PinnedAlgorithm(key.algorithm)).payload
        except (JoseError, ValueError):
            continue
    return None


def _user_id_fault(user_id: str) -> str | None:
    if not user_id.strip():
        return "is empty"
    if len(user_id) > MAX_USER_ID_CHARS:
        return f"is longer than {MAX_USER_ID_CHARS} characters"
    if not user_id.isprintable():
        return "holds characters that cannot be printed"
    return None
