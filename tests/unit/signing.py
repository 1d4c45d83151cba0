"""Signs tokens and builds JWKs, apart from the library that the verifier uses."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from antiphon.auth import Principal, TokenVerifier
from antiphon.errors import ErrorCode, GatewayError

NOW = 1_790_000_000.0
SECRET = "a secret of at least thirty-two bytes"
CLAIMS = {"sub": "alice", "exp": NOW + 60}

RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
ASYMMETRIC: dict[str, Private] = {"RS256": RSA, "ES256": P256, "EdDSA": ED25519}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def signature(key: str | bytes | Private, data: bytes) -> bytes:
    match key:
        case str():
            return hmac.digest(key.encode(), data, hashlib.sha256)
        case bytes():
            return hmac.digest(key, data, hashlib.sha256)
        case rsa.RSAPrivateKey():
            return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        case ec.EllipticCurvePrivateKey():
            r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        case _:
            return key.sign(data)


def token_of(header: bytes, payload: bytes, key: str | bytes | Private) -> str:
    data = f"{b64(header)}.{b64(payload)}"
    return f"{data}.{b64(signature(key, data.encode()))}"


def token(alg: str, key: str | bytes | Private, claims: object = CLAIMS, **header: object) -> str:
    return token_of(json.dumps({"alg": alg, **header}).encode(), json.dumps(claims).encode(), key)


def pem(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwk(key: Private, **more: object) -> dict[str, Any]:
    match key:
        case rsa.RSAPrivateKey():
            n, e = key.public_key().public_numbers().n, key.public_key().public_numbers().e
            fields = {
                "kty": "RSA",
                "n": b64(n.to_bytes((n.bit_length() + 7) // 8, "big")),
                "e": b64(e.to_bytes(3, "big")),
            }
        case ec.EllipticCurvePrivateKey():
            point = key.public_key().public_numbers()
            x, y = point.x.to_bytes(32, "big"), point.y.to_bytes(32, "big")
            fields = {"kty": "EC", "crv": "P-256", "x": b64(x), "y": b64(y)}
        case _:
            raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
            fields = {"kty": "OKP", "crv": "Ed25519", "x": b64(raw)}
    return {**fields, **more}


def key_file(folder: Path, key: PublicKeyTypes) -> Path:
    path = folder / f"{type(key).__name__}.pem"
    path.write_bytes(pem(key))
    return path


def at_once(verifier: TokenVerifier, text: str, now: float = NOW) -> Principal:
    """Verify without an event loop, which shows that nothing suspends."""
    with pytest.raises(StopIteration) as done:
        verifier.verify(text, now).send(None)
    principal = done.value.value
    assert isinstance(principal, Principal)
    return principal


def refusal(verifier: TokenVerifier, text: str, now: float = NOW) -> str:
    with pytest.raises(GatewayError) as caught:
        at_once(verifier, text, now)
    assert caught.value.code is ErrorCode.AUTH_TOKEN_INVALID
    assert caught.value.details == {}
    return caught.value.message
