"""auth.py: which tokens verify, and which are refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from antiphon.auth import AuthConfig, Principal, TokenVerifier, mint
from unit.signing import (
    ASYMMETRIC,
    CLAIMS,
    ED25519,
    NOW,
    OTHER_RSA,
    P256,
    RSA,
    SECRET,
    at_once,
    b64,
    jwk,
    key_file,
    pem,
    refusal,
    token,
    token_of,
)


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> TokenVerifier:
    """Trusts the secret and the RSA key."""
    return TokenVerifier(
        AuthConfig(secret=SECRET, public_key=key_file(tmp_path_factory.mktemp("rsa"), RSA.public_key()))
    )


# ---- tokens that are good


def test_a_minted_token_verifies(verifier: TokenVerifier) -> None:
    assert at_once(verifier, mint(SECRET, "alice", 60, NOW)) == Principal("alice", NOW + 60)


def test_a_minted_token_carries_issuer_and_audience() -> None:
    strict = TokenVerifier(AuthConfig(secret=SECRET, issuer="us", audience="antiphon"))
    assert at_once(strict, mint(SECRET, "alice", 0.5, NOW, "us", "antiphon")) == Principal("alice", NOW + 0.5)
    refusal(strict, mint(SECRET, "alice", 60, NOW, "us"))
    refusal(strict, mint(SECRET, "alice", 60, NOW, audience="antiphon"))


@pytest.mark.parametrize(
    ("secret", "user", "ttl_s"),
    [
        ("", "alice", 60),
        (SECRET, "", 60),
        (SECRET, "a\nb", 60),
        (SECRET, "alice", 0),
        (SECRET, "alice", float("nan")),
    ],
)
def test_mint_refuses_what_would_not_verify(secret: str, user: str, ttl_s: float) -> None:
    with pytest.raises(ValueError, match=r"^[A-Z].*\.$"):
        mint(secret, user, ttl_s, NOW)


@pytest.mark.parametrize("alg", ASYMMETRIC)
def test_a_public_key_file_verifies_its_algorithm(alg: str, tmp_path: Path) -> None:
    verifier = TokenVerifier(AuthConfig(public_key=key_file(tmp_path, ASYMMETRIC[alg].public_key())))
    assert at_once(verifier, token(alg, ASYMMETRIC[alg])) == Principal("alice", NOW + 60)
    # A file's key has no id of its own: whatever the token calls it is fine.
    assert at_once(verifier, token(alg, ASYMMETRIC[alg], kid="2026-11")).user_id == "alice"
    for other in ASYMMETRIC.keys() - {alg}:
        refusal(verifier, token(other, ASYMMETRIC[other]))
    refusal(verifier, token("HS256", SECRET))


def test_ed25519_goes_by_its_newer_name_too(tmp_path: Path) -> None:
    verifier = TokenVerifier(AuthConfig(public_key=key_file(tmp_path, ED25519.public_key())))
    assert at_once(verifier, token("Ed25519", ED25519)).user_id == "alice"


def test_each_configured_key_verifies_beside_the_others(verifier: TokenVerifier) -> None:
    assert at_once(verifier, token("HS256", SECRET)).user_id == "alice"
    assert at_once(verifier, token("RS256", RSA)).user_id == "alice"


def test_headers_without_a_meaning_here_are_ignored(verifier: TokenVerifier) -> None:
    text = token("HS256", SECRET, typ="at+jwt", x5t="abc", cat="vendor", version=2, kid="k" * 300)
    assert at_once(verifier, text).user_id == "alice"


@pytest.mark.parametrize("user", ["ålice", "auth0|5f7", "a b", "李", "x" * 255, "alice@example.org"])
def test_user_ids(verifier: TokenVerifier, user: str) -> None:
    assert at_once(verifier, mint(SECRET, user, 60, NOW)).user_id == user


def test_a_secret_may_be_bytes_that_are_no_utf8() -> None:
    raw = bytes(range(0x80, 0xA0))
    secret = raw.decode(errors="surrogateescape")
    assert at_once(TokenVerifier(AuthConfig(secret=secret)), token("HS256", raw)).user_id == "alice"


# ---- forged tokens

FORGED: dict[str, Callable[[], str]] = {
    "alg none": lambda: token("none", SECRET).rpartition(".")[0] + ".",
    "alg None": lambda: token("None", SECRET).rpartition(".")[0] + ".",
    "alg none, but signed": lambda: token("none", SECRET),
    "no alg": lambda: token_of(b"{}", json.dumps(CLAIMS).encode(), SECRET),
    "alg is a number": lambda: token_of(b'{"alg":256}', json.dumps(CLAIMS).encode(), SECRET),
    "alg is null": lambda: token_of(b'{"alg":null}', json.dumps(CLAIMS).encode(), SECRET),
    "HS256 with the public key": lambda: token("HS256", pem(RSA.public_key())),
    "HS256 with the public key, stripped": lambda: token("HS256", pem(RSA.public_key()).strip()),
    "HS256 with the empty secret": lambda: token("HS256", ""),
    "HS256 with another secret": lambda: token("HS256", SECRET + "!"),
    "HS512": lambda: token("HS512", SECRET),
    "RS256 with another key": lambda: token("RS256", OTHER_RSA),
    "RS512 with the right key": lambda: token("RS512", RSA),
    "PS256 with the right key": lambda: token("PS256", RSA),
    "RS256 signed with the secret": lambda: token("RS256", SECRET),
    "ES256 where no P-256 key is": lambda: token("ES256", P256),
    "ES256 with a signature of zeros": lambda: f"{token('ES256', P256).rpartition('.')[0]}.{b64(bytes(64))}",
    "unknown crit": lambda: token("HS256", SECRET, crit=["exp2"], exp2=1),
    "crit of a known header": lambda: token("HS256", SECRET, crit=["alg"]),
    "crit is no array": lambda: token("HS256", SECRET, crit="exp2"),
    "crit is empty": lambda: token("HS256", SECRET, crit=[]),
    "unencoded payload": lambda: token("HS256", SECRET, crit=["b64"], b64=False),
    "b64, though it changes nothing": lambda: token("HS256", SECRET, b64=True),
    "b64 without crit": lambda: token("HS256", SECRET, b64=False),
    "embedded jwk": lambda: token("RS256", OTHER_RSA, jwk=jwk(OTHER_RSA)),
    "embedded jwk, though the key is right": lambda: token("RS256", RSA, jwk=jwk(RSA)),
    "jwk is text": lambda: token("RS256", RSA, jwk="{}"),
    "jku": lambda: token("RS256", RSA, jku="https://evil.example/jwks"),
    "x5u": lambda: token("RS256", RSA, x5u="https://evil.example/cert"),
    "x5c": lambda: token("RS256", RSA, x5c=["MII"]),
    "nested header": lambda: token("HS256", SECRET, more={"a": {"b": 1}}),
    "header nested 3,000 deep": lambda: token_of(b'{"alg":"HS256","a":' + b"[" * 3000, b"{}", SECRET),
    "payload nested 5,000 deep": lambda: token_of(b'{"alg":"HS256"}', b'{"a":' + b"[" * 5000, SECRET),
    "kid is a number": lambda: token("HS256", SECRET, kid=1),
    "typ is a number": lambda: token("HS256", SECRET, typ=1),
    "header is an array": lambda: token_of(b'["alg"]', b"{}", SECRET),
    "header is a string": lambda: token_of(b'"alg"', b"{}", SECRET),
    "header is no UTF-8": lambda: token_of(b'{"alg":"HS256","x":"\xff"}', b"{}", SECRET),
    "header too long": lambda: token("HS256", SECRET, kid="k" * 2000),
    "payload is an array": lambda: token("HS256", SECRET, [CLAIMS]),
    "payload is a token": lambda: token_of(b'{"alg":"HS256"}', token("HS256", SECRET).encode(), SECRET),
    "payload is a JSON string": lambda: token("HS256", SECRET, token("HS256", SECRET)),
    "payload is no UTF-8": lambda: token_of(b'{"alg":"HS256"}', b'{"sub":"\xff","exp":1e10}', SECRET),
    "payload is empty": lambda: token_of(b'{"alg":"HS256"}', b"", SECRET),
    "two parts": lambda: token("HS256", SECRET).rpartition(".")[0],
    "four parts": lambda: token("HS256", SECRET) + ".x",
    "five parts": lambda: token("HS256", SECRET) + ".x.y",
    "no signature": lambda: token("HS256", SECRET).rpartition(".")[0] + ".",
    "signature cut short": lambda: token("HS256", SECRET)[:-4],
    "padded": lambda: token("HS256", SECRET) + "=",
    "space before": lambda: " " + token("HS256", SECRET),
    "newline after": lambda: token("HS256", SECRET) + "\n",
    "Bearer": lambda: "Bearer " + token("HS256", SECRET),
    "empty": lambda: "",
    "dots": lambda: "..",
    "not ASCII": lambda: "é.é.é",
    "surrogate": lambda: "\ud800.a.b",
    "JSON serialization": lambda: json.dumps({"payload": "e30", "protected": "e30", "signature": "e30"}),
    "a little too long": lambda: token("HS256", SECRET, {**CLAIMS, "x": "y" * 4900}, kid="k" * 1400),
    "far too long": lambda: token("HS256", SECRET, {**CLAIMS, "x": "y" * 8192}),
}


@pytest.mark.parametrize("make", FORGED.values(), ids=FORGED)
def test_forged_tokens_are_refused(verifier: TokenVerifier, make: Callable[[], str]) -> None:
    text = make()
    message = refusal(verifier, text)
    assert message[0].isupper()
    assert message.endswith(".")
    assert not text or text not in message


CLAIMS_REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "no exp": ({"exp": ...}, "exp"),
    "exp is null": ({"exp": None}, "exp"),
    "exp is text": ({"exp": str(NOW + 60)}, "exp"),
    "exp is true": ({"exp": True}, "exp"),
    "exp is a list": ({"exp": [NOW + 60]}, "exp"),
    "exp is infinite": ({"exp": float("inf")}, "JSON"),
    "exp is no number": ({"exp": float("nan")}, "JSON"),
    "exp has 400 digits": ({"exp": 10**400}, "exp"),
    "exp in milliseconds": ({"exp": (NOW + 60) * 1000}, "seconds"),
    "expired": ({"exp": NOW - 1}, "expired"),
    "expires now": ({"exp": NOW}, "expired"),
    "negative exp": ({"exp": -1}, "expired"),
    "no sub": ({"sub": ...}, "sub"),
    "sub is empty": ({"sub": ""}, "sub is empty"),
    "sub is blank": ({"sub": " \t"}, "sub is empty"),
    "sub is a number": ({"sub": 7}, "sub"),
    "sub is null": ({"sub": None}, "sub"),
    "sub has a newline": ({"sub": "a\nb"}, "printed"),
    "sub has a NUL": ({"sub": "a\0b"}, "printed"),
    "sub turns the text round": ({"sub": "a\u202eb"}, "printed"),
    "sub is too long": ({"sub": "x" * 256}, "longer"),
    "not valid yet": ({"nbf": NOW + 6}, "yet"),
    "nbf is text": ({"nbf": "soon"}, "nbf"),
    "another iss": ({"iss": "them"}, "issuer"),
    "no iss": ({"iss": ...}, "issuer"),
    "iss is null": ({"iss": None}, "issuer"),
    "iss is a list": ({"iss": ["us"]}, "iss"),
    "another aud": ({"aud": "another"}, "audience"),
    "aud in another case": ({"aud": "Antiphon"}, "audience"),
    "aud is a prefix": ({"aud": "anti"}, "audience"),
    "aud has a prefix": ({"aud": "antiphon-staging"}, "audience"),
    "other auds": ({"aud": ["a", "b"]}, "audience"),
    "no aud": ({"aud": ...}, "audience"),
    "empty aud": ({"aud": []}, "audience"),
    "aud is a list of numbers": ({"aud": [1]}, "aud"),
    "aud is an object": ({"aud": {"antiphon": True}}, "aud"),
}
"""What is changed in good claims (an ellipsis: left out), and what the refusal speaks of."""


@pytest.mark.parametrize(("changes", "said"), CLAIMS_REFUSED.values(), ids=CLAIMS_REFUSED)
def test_claims_that_are_refused(changes: dict[str, object], said: str) -> None:
    verifier = TokenVerifier(AuthConfig(secret=SECRET, issuer="us", audience="antiphon"))
    good: dict[str, object] = {**CLAIMS, "iss": "us", "aud": "antiphon"}
    assert at_once(verifier, token("HS256", SECRET, good)).user_id == "alice"
    claims = {name: value for name, value in (good | changes).items() if value is not ...}
    assert said in refusal(verifier, token("HS256", SECRET, claims))


@pytest.mark.parametrize("aud", ["antiphon", ["antiphon"], ["other", "antiphon"]])
def test_the_audience_may_be_one_or_several(aud: object) -> None:
    verifier = TokenVerifier(AuthConfig(secret=SECRET, audience="antiphon"))
    assert at_once(verifier, token("HS256", SECRET, {**CLAIMS, "aud": aud})).user_id == "alice"


async def test_closing_without_a_jwks_is_nothing(verifier: TokenVerifier) -> None:
    await verifier.aclose()


def test_issuer_and_audience_count_only_where_configured(verifier: TokenVerifier) -> None:
    assert at_once(verifier, token("HS256", SECRET, {**CLAIMS, "iss": "x", "aud": "y"})).user_id == "alice"


def test_the_leeway_eases_nbf_but_not_exp(verifier: TokenVerifier) -> None:
    assert at_once(verifier, token("HS256", SECRET, {**CLAIMS, "nbf": NOW + 5})).user_id == "alice"
    exact = TokenVerifier(AuthConfig(secret=SECRET, leeway_s=0))
    assert at_once(exact, token("HS256", SECRET, {**CLAIMS, "nbf": NOW})).user_id == "alice"
    refusal(exact, token("HS256", SECRET, {**CLAIMS, "nbf": NOW + 0.1}))
    lax = TokenVerifier(AuthConfig(secret=SECRET, leeway_s=60))
    refusal(lax, token("HS256", SECRET, {**CLAIMS, "exp": NOW - 1}))


GOOD = [token("HS256", SECRET), token("RS256", RSA), token("EdDSA", ED25519), token("ES256", P256)]
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n\0é"


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> list[TokenVerifier]:
    folder = tmp_path_factory.mktemp("keys")
    files = [key_file(folder, key.public_key()) for key in (RSA, ED25519, P256)]
    configs = [AuthConfig(secret=SECRET), *(AuthConfig(public_key=file) for file in files)]
    verifiers = [TokenVerifier(config) for config in configs]
    for verifier, text in zip(verifiers, GOOD, strict=True):
        assert at_once(verifier, text).user_id == "alice"
    return verifiers


@given(st.data())
def test_no_mutation_of_a_good_token_verifies(trusting: list[TokenVerifier], data: st.DataObject) -> None:
    which = data.draw(st.integers(0, len(GOOD) - 1))
    text = list(GOOD[which])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.one_of(st.integers(0, len(text) - 1), st.just(len(text) - 1)))
        match data.draw(st.sampled_from(["replace", "insert", "delete"])):
            case "replace":
                text[at] = data.draw(st.sampled_from(ALPHABET))
            case "insert":
                text.insert(at, data.draw(st.sampled_from(ALPHABET)))
            case _:
                del text[at]
    mutated = "".join(text)
    assume(mutated != GOOD[which])
    refusal(trusting[which], mutated)


@pytest.mark.parametrize("which", range(len(GOOD)))
def test_no_other_last_character_verifies(trusting: list[TokenVerifier], which: int) -> None:
    """The last character of base64 has unused bits: a token must have one spelling only."""
    for character in ALPHABET:
        if character != GOOD[which][-1]:
            refusal(trusting[which], GOOD[which][:-1] + character)


@given(st.text())
def test_any_text_is_refused(verifier: TokenVerifier, text: str) -> None:
    refusal(verifier, text)


@given(header=st.binary(), payload=st.binary())
def test_any_signed_bytes_are_refused(verifier: TokenVerifier, header: bytes, payload: bytes) -> None:
    refusal(verifier, token_of(header, payload, SECRET))
    refusal(verifier, token_of(b'{"alg":"HS256"}', payload, SECRET))


def test_no_token_and_no_secret_is_shown_anywhere(
    verifier: TokenVerifier, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    good = token("HS256", SECRET)
    at_once(verifier, good)
    message = refusal(verifier, good[:-3] + "AAA")
    for shown in (message, caplog.text, repr(AuthConfig(secret=SECRET)), repr(verifier)):
        assert good[:20] not in shown
        assert SECRET not in shown
    assert "secret=..." in repr(AuthConfig(secret=SECRET))
    assert "secret=None" in repr(AuthConfig(jwks_url="https://x"))
