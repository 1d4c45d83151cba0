"""The handshake and the plain requests: who may connect from where, and what the node tells of itself."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

import built_page
from antiphon import __version__, page
from gateway.raw_socket import UPGRADE, RawSocket, raw_socket, request
from gateway.running import Gateway, running_gateway
from gateway.talker import talking


async def get(gateway: Gateway, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    async with raw_socket(gateway.port) as raw:
        return await raw.request(path, method=method)


# ---- origins


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "gateway.test"),
        ("http://gateway.test", "gateway.test"),
        ("http://gateway.test", "gateway.test:80"),
        ("http://gateway.test:80", "gateway.test"),
        ("https://gateway.test", "gateway.test"),
        ("https://gateway.test", "gateway.test:443"),
        ("http://gateway.test:8080", "gateway.test:8080"),
        ("http://GATEWAY.test:8080", "gateway.TEST:8080"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("https://app.example", "gateway.test"),
        ("https://app.example:8443", "gateway.test"),
    ],
)
async def test_origins_that_may_connect(origin: str | None, host: str) -> None:
    allowed = frozenset({"https://app.example", "https://app.example:8443"})
    async with running_gateway(origins=allowed) as gateway, raw_socket(gateway.port) as raw:
        await raw.upgrade(**{"Host": host, **({"Origin": origin} if origin else {})})


FOREIGN = [
    ("https://evil.example", "gateway.test"),
    ("null", "gateway.test"),
    ("null", "null"),
    ("", "gateway.test"),
    ("http://gateway.test:8080", "gateway.test"),
    ("http://gateway.test", "gateway.test:8080"),
    ("https://gateway.test", "gateway.test:80"),
    ("http://gateway.test.evil.example", "gateway.test"),
    ("http://gateway.test@evil.example", "gateway.test"),
    ("https://app.example:8443", "gateway.test"),
    ("http://app.example", "gateway.test"),
    ("http://gateway.test:port", "gateway.test:port"),
    ("http://gateway.test:99999", "gateway.test:99999"),
    ("http://[", "gateway.test"),
    ("http://[", "["),
    ("http://gateway.test", "["),
    ("http://", ""),
]


async def test_origins_that_may_not() -> None:
    async with running_gateway(origins=frozenset({"https://app.example"})) as gateway:
        for origin, host in FOREIGN:
            async with raw_socket(gateway.port) as raw:
                response = await raw.request("/ws", {**UPGRADE, "Host": host, "Origin": origin})
            assert response.status == 403, (origin, host)
            assert response.headers["content-type"] == "application/json"
            assert response.json["code"] == "AUTH_ORIGIN_REFUSED"
            assert "ANTIPHON_ORIGINS" in response.json["message"]
    assert not gateway.bridges


async def test_any_origin_where_the_operator_says_so() -> None:
    async with running_gateway(origins=frozenset({"*"})) as gateway, raw_socket(gateway.port) as raw:
        await raw.upgrade(Origin="https://anything.example")


@pytest.mark.parametrize("name", ["Origin", "Host"])
async def test_a_header_given_twice_is_refused(gateway: Gateway, name: str) -> None:
    twice = f"\r\n{name}: http://gateway.test\r\n{name}: http://evil.example\r\n\r\n".encode()
    async with raw_socket(gateway.port) as raw:
        raw.send(
            request("/ws", {**UPGRADE, "Origin": "http://gateway.test"}).removesuffix(b"\r\n\r\n") + twice
        )
        assert (await raw.response()).status in (400, 403)


# ---- handshakes that are none


@pytest.mark.parametrize(
    ("headers", "method", "status"),
    [
        ({}, "GET", 426),
        ({**UPGRADE, "Sec-WebSocket-Version": "8"}, "GET", 400),
        ({**UPGRADE, "Sec-WebSocket-Key": "short"}, "GET", 400),
        pytest.param({**UPGRADE, "Upgrade": "h2c"}, "GET", 426, marks=pytest.mark.own_socket),
        (UPGRADE, "POST", 405),
    ],
)
async def test_a_bad_handshake_is_answered(
    gateway: Gateway, headers: dict[str, str], method: str, status: int
) -> None:
    async with raw_socket(gateway.port) as raw:
        response = await raw.request("/ws", headers, method)
    assert response.status == status
    assert not gateway.bridges


@pytest.mark.own_socket
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n", 414),
        (request("/", {"X-Long": "x" * 10_000}), 431),
        (request("/", {f"X-{number}": "" for number in range(200)}), 431),
    ],
)
async def test_a_request_without_end_is_refused(gateway: Gateway, sent: bytes, status: int) -> None:
    async with raw_socket(gateway.port) as raw:
        raw.send(sent)
        assert (await raw.response()).status == status


@pytest.mark.own_socket
@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"hello\r\n\r\n", b"\r\n"]
)
async def test_what_is_no_http_is_cut(gateway: Gateway, sent: bytes) -> None:
    async with raw_socket(gateway.port) as raw:
        raw.send(sent)
        await raw.ended()


@pytest.mark.interpreted
@pytest.mark.own_socket
async def test_a_handshake_that_does_not_come_is_cut(
    monkeypatch: pytest.MonkeyPatch, gateway: Gateway
) -> None:
    monkeypatch.setattr("antiphon.server.HANDSHAKE_TIMEOUT_S", 0.3)

    async def drip(raw: RawSocket) -> None:
        for byte in request("/ws", UPGRADE):
            raw.send(bytes([byte]))
            await asyncio.sleep(0.05)

    async with raw_socket(gateway.port) as silent, raw_socket(gateway.port) as slow:
        dripping = asyncio.create_task(drip(slow))
        await asyncio.gather(silent.ended(), slow.ended())
        dripping.cancel()


@pytest.mark.interpreted
@pytest.mark.own_socket
async def test_the_timeout_of_the_handshake_ends_with_it(
    monkeypatch: pytest.MonkeyPatch, gateway: Gateway
) -> None:
    monkeypatch.setattr("antiphon.server.HANDSHAKE_TIMEOUT_S", 0.2)
    async with talking(gateway) as talker:
        await asyncio.sleep(0.4)
        await talker.answered()


# ---- plain requests


async def test_the_page(console: Path) -> None:
    async with running_gateway() as gateway:
        for path, part in built_page.PARTS.items():
            for asked in (path, f"{path}?x=1"):
                status, headers, body = await get(gateway, asked)
                assert (status, headers["content-type"], body) == (200, part.content_type, part.body)
                assert "content-encoding" not in headers
                assert headers["cache-control"] == (page.FOR_EVER if part.kept else "no-cache")
                assert headers.get("vary") == ("Accept-Encoding" if part.gzipped else None)
                assert "default-src 'none'" in headers["content-security-policy"]
                assert headers["x-content-type-options"] == "nosniff"


async def test_the_page_comes_compressed_to_who_takes_it(console: Path) -> None:
    async with running_gateway() as gateway:
        for path, part in built_page.PARTS.items():
            async with raw_socket(gateway.port) as raw:
                status, headers, body = await raw.request(path, {"Accept-Encoding": "br, gzip"})
            assert (status, headers["content-length"]) == (200, str(len(body)))
            assert headers.get("content-encoding") == ("gzip" if part.gzipped else None)
            assert (gzip.decompress(body) if part.gzipped else body) == part.body
            assert headers.get("vary") == ("Accept-Encoding" if part.gzipped else None)


async def test_only_the_page_is_served_of_its_folder(console: Path) -> None:
    (console.parent / "secret.js").write_text("x")
    others = [*(f"/{name}" for name in built_page.NO_PARTS), "/index.html", "/assets", "/assets/"]
    outside = [
        "/../secret.js",
        "/assets/../../secret.js",
        "/%2e%2e/secret.js",
        "//secret.js",
        str(console / "index.html"),
    ]
    async with running_gateway() as gateway:
        for path in (*others, *outside):
            assert (await get(gateway, path))[0] == 404, path


async def test_a_gateway_without_its_page_says_how_it_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "FOLDER", tmp_path)
    async with running_gateway() as gateway:
        status, headers, body = await get(gateway, "/")
        assert (status, headers["content-type"]) == (404, "text/plain")
        assert b"not built" in body
        assert b"make setup" in body
        assert (await get(gateway, "/healthz"))[0] == 200
        async with talking(gateway) as talker:
            await talker.answered()


async def test_about_tells_the_upstream_and_the_version(gateway: Gateway) -> None:
    async with raw_socket(gateway.port) as raw:
        response = await raw.request("/about")
    assert response.json == {"upstream": "a fake", "name": "antiphon", "version": __version__}


@pytest.mark.parametrize("path", ["/nothing", "//", "/ws/", "/../conftest.py", "/about/"])
async def test_what_is_not_there(gateway: Gateway, path: str) -> None:
    assert (await get(gateway, path))[0] == 404


@pytest.mark.parametrize("accepted", ["", "gzip"])
async def test_head_has_the_length_and_no_body(console: Path, accepted: str) -> None:
    async with running_gateway() as gateway:
        for path in ("/", "/assets/index-D1gest.js", "/about", "/nothing"):
            async with raw_socket(gateway.port) as raw:
                found, headers, body = await raw.request(path, {"Accept-Encoding": accepted})
            async with raw_socket(gateway.port) as raw:
                status, head_headers, nothing = await raw.request(path, {"Accept-Encoding": accepted}, "HEAD")
            assert (status, head_headers, nothing) == (found, headers, b"")
            assert int(headers["content-length"]) == len(body)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_nothing_but_get_is_served(gateway: Gateway, method: str) -> None:
    assert (await get(gateway, "/", method))[0] == 405


# ---- health


async def until_readyz(gateway: Gateway, status: int) -> bytes:
    async with asyncio.timeout(10):
        while True:
            found, _, body = await get(gateway, "/readyz")
            if found == status:
                return body
            await asyncio.sleep(0.02)


async def test_ready_when_the_upstream_is_reached_and_not_when_it_is_gone(gateway: Gateway) -> None:
    await until_readyz(gateway, 200)
    port = int(gateway.upstream.target.rpartition(":")[2])
    await gateway.upstream.stop()
    assert b"upstream" in await until_readyz(gateway, 503)
    assert (await get(gateway, "/healthz"))[0] == 200
    await gateway.upstream.start(port)
    await until_readyz(gateway, 200)


async def test_not_ready_before_the_upstream_is_up() -> None:
    async with running_gateway(target="127.0.0.1:1") as gateway:
        assert (await get(gateway, "/readyz"))[0] == 503
        assert (await get(gateway, "/healthz"))[0] == 200


async def test_a_draining_node_is_not_ready_and_takes_nobody(gateway: Gateway) -> None:
    await until_readyz(gateway, 200)
    async with talking(gateway) as talker:
        draining = asyncio.create_task(gateway.server.drain(30))
        assert await until_readyz(gateway, 503) == b"stopping\n"
        async with raw_socket(gateway.port) as raw:
            response = await raw.request("/ws", {**UPGRADE, "X-Forwarded-For": "192.0.2.1"})
        # A balancer tries another node.
        assert (response.status, json.loads(response.body)["code"]) == (503, "SERVER_STOPPING")
        async with connect(gateway.url) as socket:
            assert json.loads(await socket.recv())["code"] == "SERVER_STOPPING"
            await socket.wait_closed()
            assert socket.close_code == 1013
        await talker.answered()
        draining.cancel()
