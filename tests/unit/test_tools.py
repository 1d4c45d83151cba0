"""Results of tools, and the signature of requests."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct as ProtobufStruct
from hypothesis import given
from hypothesis import strategies as st

from antiphon.tools import verify
from antiphon.tools.call import (
    MAX_RESULT_BYTES,
    MAX_RESULT_DEPTH,
    HttpTool,
    PythonTool,
    read_result,
    result_of,
    sign,
)

SECRET = "a secret of more than thirty-two bytes"
NOW = 1_800_000_000.9
BODY = b'{"callId":"c1"}'


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


# ---- results


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ({"a": [1, None, True]}, {"a": [1, None, True]}),
        ("text", {"output": "text"}),
        (None, {"output": None}),
        ((1, 2), {"output": [1, 2]}),
        ({}, {}),
        ({"a": float("nan")}, {"a": None}),
        ({1: "one"}, {"1": "one"}),
    ],
)
def test_what_becomes_of_a_value(value: Any, result: dict[str, Any]) -> None:
    assert result_of(value) == result


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (object(), "is no JSON"),
        ({(1, 2): 3}, "is no JSON"),
        ("\ud800", "is no JSON"),
        (CIRCLE, "is no JSON"),
        ("x" * (MAX_RESULT_BYTES - 1), "larger than"),
        (nested(MAX_RESULT_DEPTH + 1), "deeper"),
        (10**400, "too large"),
        ([10**6000], "is no JSON"),
    ],
)
def test_values_that_are_no_result(value: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        result_of(value)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "is no JSON"),
        (b"{", "is no JSON"),
        (b"{} {}", "is no JSON"),
        (b"NaN", "is no JSON"),
        (b'"\xff"', "is no JSON"),
        (b'"\\ud800"', "is no JSON"),
        (b"1e999", "is no JSON"),
        (b"[" * 60_000, "is no JSON"),
        (b"[" * 17 + b"]" * 17, "deeper"),
        (b" " * (MAX_RESULT_BYTES + 1), "larger than"),
    ],
)
def test_bodies_that_are_no_result(body: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_result(body)


def test_the_largest_result() -> None:
    text = "x" * (MAX_RESULT_BYTES - 2)
    assert result_of(text) == {"output": text}


@pytest.mark.parametrize("value", [nested(MAX_RESULT_DEPTH), {"n": 10**300}, {"n": -(10**307)}])
def test_a_result_fits_a_protobuf_struct(value: Any) -> None:
    struct = ProtobufStruct()
    struct.update(result_of(value))
    assert ProtobufStruct.FromString(struct.SerializeToString()) == struct


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_taken_as_it_is(value: Any) -> None:
    result = result_of(value)
    assert result == (value if isinstance(value, dict) else {"output": value})
    ProtobufStruct().update(result)


@given(st.binary())
def test_any_bytes_are_a_result_or_refused_in_words(body: bytes) -> None:
    try:
        result = read_result(body)
    except ValueError:
        return
    assert isinstance(result, dict)


# ---- signatures


def test_the_signature_is_what_the_reference_says() -> None:
    expected = hmac.new(SECRET.encode(), b"1800000000." + BODY, hashlib.sha256).hexdigest()
    assert sign(SECRET, BODY, NOW) == f"t=1800000000,v1={expected}"


@given(st.text(min_size=1), st.binary(), st.integers(0, 9_999_999_999), st.floats(-300, 300))
def test_what_was_signed_is_verified_and_nothing_else(
    secret: str, body: bytes, time: int, later: float
) -> None:
    signature = sign(secret, body, time)
    assert verify(secret, signature, body, time + later)
    assert not verify(secret, signature, body + b" ", time + later)
    assert not verify(secret + "x", signature, body, time + later)
    assert not verify(secret, signature.replace("t=", "t=1"), body, time + later)


def test_old_and_future_signatures_are_refused() -> None:
    signature = sign(SECRET, BODY, NOW)
    assert verify(SECRET, signature, BODY, int(NOW) + 300)
    assert not verify(SECRET, signature, BODY, int(NOW) + 301)
    assert not verify(SECRET, signature, BODY, int(NOW) - 301)
    assert verify(SECRET, signature, BODY, int(NOW) + 301, tolerance_s=400)


def test_one_of_several_digests_is_enough() -> None:
    time, digest = sign(SECRET, BODY, NOW).split(",")
    assert verify(SECRET, f"{time}, v1={'0' * 64}, {digest}", BODY, NOW)
    assert verify(SECRET, f"{time},{digest},v2=later", BODY, NOW)
    assert not verify(SECRET, f"{time},v1={'0' * 64}", BODY, NOW)


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "t=1800000000",
        "t=1800000000,v1=",
        "t=1800000000,v1=ä\ud800",
        "v1=DIGEST",
        "t=,v1=DIGEST",
        "t=1800000000,t=1800000000,v1=DIGEST",
        "t=+1800000000,v1=DIGEST",
        "t=1800000000.0,v1=DIGEST",
        "t=" + "1" * 5000 + ",v1=DIGEST",
        "t=1800000000;v1=DIGEST",
        "t=1800000000,v2=DIGEST",
    ],
)
def test_malformed_signatures_are_refused(signature: str) -> None:
    digest = sign(SECRET, BODY, NOW).partition("v1=")[2]
    assert verify(SECRET, f"t=1800000000,v1={digest}", BODY, NOW)
    assert not verify(SECRET, signature.replace("DIGEST", digest), BODY, NOW)


def test_a_secret_that_is_no_utf_8_is_a_secret_like_any() -> None:
    assert verify("\udcff" * 32, sign("\udcff" * 32, BODY, NOW), BODY, NOW)


# ---- configuration


@pytest.mark.parametrize("url", ["", "orders", "ftp://orders/", "//orders/", "HTTPS//x"])
def test_urls_that_no_http_tool_has(url: str) -> None:
    with pytest.raises(ValueError, match="begins with https://"):
        HttpTool(url)


@pytest.mark.parametrize(
    "function", ["", "order", "shop:", ":order", "shop.:order", "shop:a.b", "shop:1", "a b:c"]
)
def test_names_that_are_no_function(function: str) -> None:
    with pytest.raises(ValueError, match=r"package\.module:name"):
        PythonTool(function)
