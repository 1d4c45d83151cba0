"""http_tool.py over real sockets: what is sent, what is taken for an answer, and where no connection goes."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from antiphon import __version__
from antiphon.tools import ToolFailed, slots
from antiphon.tools import http_worker as http_tool
from antiphon.tools.call import Call, HttpTool
from antiphon.tools.http_worker import is_public
from antiphon.tools.toolbox import Toolbox, ToolboxError, verify
from unit.authority import Authority, pem
from unit.http_endpoint import SECRET, Endpoint, answer, json_answer

HOST = "orders.example.com"
"""A name that only the tests' resolver knows."""
LOOPBACK = ("127.0.0.0/8",)


@pytest.fixture(scope="module")
def trusted() -> Authority:
    return Authority()


@pytest.fixture(autouse=True)
def _trust(trusted: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have one authority trusted, in the way an operator's own is; and a short list is read fast."""
    (tmp_path / "ca.pem").write_bytes(pem(trusted.certificate))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    await endpoint.start()
    yield endpoint
    await endpoint.stop()


class Names:
    """A resolver that gives the addresses of the test's saying, in turn, and keeps what it was asked."""

    def __init__(self, *answers: list[str] | OSError | UnicodeError) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append((host, port))
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(found, Exception):
            raise found
        return found


@asynccontextmanager
async def toolbox(
    url: str, names: Names | None = None, networks: tuple[str, ...] = LOOPBACK
) -> AsyncIterator[Toolbox]:
    resolve = names or Names(["127.0.0.1"])
    tools = Toolbox({"order": HttpTool(url)}, secret=SECRET, networks=networks, resolve=resolve)
    yield tools
    await tools.aclose()


def call(deadline_s: float = 10, call_id: str = "c1", **args: Any) -> Call:
    return Call(call_id, "order", args, "s1", "alice", deadline_s)


async def failure(tools: Toolbox, deadline_s: float = 10) -> str:
    with pytest.raises(ToolFailed) as failed:
        await tools.run(call(deadline_s))
    return str(failed.value)


# ---- the request


async def test_the_request(endpoint: Endpoint) -> None:
    names = Names(["127.0.0.1"])
    async with toolbox(f"http://{HOST}:{endpoint.port}/order?shop=1", names) as tools:
        assert await tools.run(call(item="tea", count=2.5)) == {"ok": True}
    (request,) = endpoint.requests
    assert names.asked == [(HOST, endpoint.port)]
    assert request.head.startswith("POST /order?shop=1 HTTP/1.1\r\n")
    headers = request.headers
    assert headers["host"] == f"{HOST}:{endpoint.port}"
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"] == f"antiphon/{__version__}"
    assert headers["idempotency-key"] == "s1.c1"
    timestamp = request.json.pop("timestamp")
    assert request.json == {
        "callId": "c1",
        "name": "order",
        "args": {"item": "tea", "count": 2.5},
        "sessionId": "s1",
        "userId": "alice",
        "timestamp": timestamp,
    }
    assert headers["antiphon-signature"].startswith(f"t={timestamp},v1=")
    assert verify(SECRET, headers["antiphon-signature"], request.body, time.time())
    assert not verify(SECRET, headers["antiphon-signature"], request.body + b" ", time.time())


async def test_ids_that_are_no_header(endpoint: Endpoint) -> None:
    async with toolbox(f"http://127.0.0.1:{endpoint.port}/") as tools:
        await tools.run(call(call_id="ä 1\r\nX: y/"))
    assert endpoint.requests[0].headers["idempotency-key"] == "s1.%C3%A4%201%0D%0AX%3A%20y%2F"
    assert endpoint.requests[0].json["callId"] == "ä 1\r\nX: y/"


async def test_a_call_that_is_no_json(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    async with toolbox(f"http://127.0.0.1:{endpoint.port}/") as tools:
        with pytest.raises(ToolFailed, match="The tool failed"):
            await tools.run(call(item="\ud800"))
    assert "cannot be written as JSON" in caplog.text
    assert endpoint.connections == 0


async def test_calls_share_neither_connections_nor_cookies(endpoint: Endpoint) -> None:
    endpoint.answer = answer(headers="Set-Cookie: user=alice\r\nConnection: keep-alive\r\n")
    async with toolbox(f"http://127.0.0.1:{endpoint.port}/") as tools:
        for _ in range(2):
            await tools.run(call())
    assert endpoint.connections == 2
    assert "cookie" not in endpoint.requests[1].headers


async def test_proxies_are_not_used(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    async with toolbox(f"http://{HOST}:{endpoint.port}/") as tools:
        assert await tools.run(call()) == {"ok": True}


# ---- the answer


@pytest.mark.parametrize(
    ("given", "result"),
    [
        (json_answer({"a": [1, {"b": None}]}), {"a": [1, {"b": None}]}),
        (json_answer([1, 2]), {"output": [1, 2]}),
        (json_answer(None), {"output": None}),
        (answer(b'{"a":1}', "application/vnd.shop+json; charset=utf-8"), {"a": 1}),
        (answer("süß".encode(), "text/plain; charset=utf-8"), {"output": "süß"}),
        (answer(b"", status="204 No Content"), {"output": "done"}),
        (answer(b"", ""), {"output": "done"}),
        (answer(b'{"a":1}', status="201 Created"), {"a": 1}),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nuntil the end", None),
    ],
)
async def test_answers(endpoint: Endpoint, given: bytes, result: dict[str, Any] | None) -> None:
    endpoint.answer = given
    async with toolbox(f"http://127.0.0.1:{endpoint.port}/") as tools:
        assert await tools.run(call()) == (result or {"output": "until the end"})


FAILED, UNUSABLE = "The tool failed.", "The tool's answer cannot be used."


@pytest.mark.parametrize(
    ("given", "says", "logged"),
    [
        (answer(b"", status="302 Found", headers="Location: /\r\n"), FAILED, "has status 302"),
        (answer(b"", status="307 Temporary Redirect", headers="Location: /\r\n"), FAILED, "has status 307"),
        (answer(b"secrets", status="500 Internal Server Error"), FAILED, "has status 500"),
        (answer(b"{}", status="404 Not Found"), FAILED, "has status 404"),
        (answer(b"<html>", "text/html"), UNUSABLE, "of the type 'text/html'"),
        (answer(b"{}", ""), UNUSABLE, "of the type ''"),
        (answer(b"{"), UNUSABLE, "is no JSON"),
        (answer(b"\xff", "text/plain"), UNUSABLE, "is no UTF-8"),
        (answer(b"[" * 20 + b"]" * 20), UNUSABLE, "nested deeper"),
        (json_answer("x" * 70_000), UNUSABLE, "larger than 65536 bytes"),
        (answer(b"[1,", length=1000), FAILED, "broke off"),
        (b"", FAILED, "broke off"),
        (b"SSH-2.0-OpenSSH\r\n", FAILED, "broke off"),
    ],
)
async def test_answers_that_are_none(
    endpoint: Endpoint, given: bytes, says: str, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.answer = given
    async with toolbox(f"http://127.0.0.1:{endpoint.port}/?key=hidden") as tools:
        assert await failure(tools) == says
    assert endpoint.connections == len(endpoint.requests) == 1  # it is never sent again
    assert logged in caplog.text
    assert "hidden" not in caplog.text


async def test_an_answer_without_an_end_is_cut_off(endpoint: Endpoint) -> None:
    endpoint.answer = answer(b" " * (32 * 1024 * 1024))
    async with toolbox(f"http://127.0.0.1:{endpoint.port}/") as tools:
        assert await failure(tools) == UNUSABLE
    async with asyncio.timeout(10):
        await endpoint.hung_up.wait()


# ---- deadlines and cancellation


async def test_a_slow_endpoint_is_hung_up_on(endpoint: Endpoint) -> None:
    endpoint.gate.clear()
    async with toolbox(f"http://127.0.0.1:{endpoint.port}/") as tools:
        assert await failure(tools, 0.4) == "The tool did not answer in time."
        async with asyncio.timeout(10):
            await endpoint.hung_up.wait()


async def test_a_cancellation_hangs_up(endpoint: Endpoint) -> None:
    endpoint.gate.clear()
    async with toolbox(f"http://127.0.0.1:{endpoint.port}/") as tools, asyncio.timeout(10):
        task = asyncio.create_task(tools.run(call()))
        await endpoint.asked.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()
        await endpoint.hung_up.wait()
        endpoint.gate.set()
        assert await tools.run(call()) == {"ok": True}


async def test_so_many_calls_at_once_and_no_more(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "PARALLEL", 1)
    endpoint.gate.clear()
    async with toolbox(f"http://127.0.0.1:{endpoint.port}/") as tools, asyncio.timeout(10):
        first = asyncio.create_task(tools.run(call()))
        await endpoint.asked.wait()
        assert await failure(tools, 0.02) == "The tool did not answer in time."
        assert endpoint.connections == 1
        endpoint.gate.set()
        assert await first == await tools.run(call()) == {"ok": True}


# ---- addresses


async def test_only_what_was_looked_up_and_checked_is_connected_to(endpoint: Endpoint) -> None:
    names = Names(["127.0.0.1"], ["169.254.169.254"], ["127.0.0.1"])
    async with toolbox(f"http://{HOST}:{endpoint.port}/", names) as tools:
        assert await tools.run(call()) == {"ok": True}
        assert len(names.asked) == 1
        assert await failure(tools) == "The tool cannot be reached."
        assert await tools.run(call()) == {"ok": True}
    assert len(names.asked) == 3


REFUSED = (  # noqa: SIM905 (a line each would be longer than the tests)
    "127.0.0.1 10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 100.100.100.200 168.63.129.16 0.0.0.0 "
    "224.0.1.1 239.1.1.1 255.255.255.255 240.0.0.1 192.0.2.1 198.18.0.1 ::1 :: fe80::1 fe80::1%1 fec0::1 "
    "fd00:ec2::254 ff0e::1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b:1::1 "
    "2002:7f00:1::1 2001:0:1::1 2001:db8::1 4000::1 5f00::1"
).split()


@pytest.mark.parametrize("address", REFUSED)
async def test_addresses_that_are_refused_unless_named(
    endpoint: Endpoint, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    names = Names([address], ["8.8.8.8", address], [address, "8.8.8.8"])
    async with toolbox(f"https://{HOST}:{endpoint.port}/?key=hidden", names, ()) as tools:
        for _ in range(3):
            assert await failure(tools) == "The tool cannot be reached."
    shown = ipaddress.ip_address(address)
    assert f"The tool order failed: {HOST} has the address {shown}, which is not public" in caplog.text
    assert "hidden" not in caplog.text
    assert endpoint.connections == 0
    with pytest.raises(
        ToolboxError, match=r"which is not public and in none of the tool_networks|is not valid"
    ):
        Toolbox({"order": HttpTool(f"https://{_in_url(address)}/")}, secret=SECRET)


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001:82a::200e"]
)
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))
    Toolbox({"order": HttpTool(f"https://{_in_url(address)}/")}, secret=SECRET)


async def test_public_addresses_stay_allowed_but_not_in_plaintext(caplog: pytest.LogCaptureFixture) -> None:
    async with toolbox(f"http://{HOST}/", Names(["8.8.8.8"]), ("127.0.0.0/8", "8.0.0.0/8")) as tools:
        assert await failure(tools) == "The tool cannot be reached."
    assert "which is public and needs https://" in caplog.text
    with pytest.raises(ToolboxError, match="needs https://"):
        Toolbox({"order": HttpTool("http://8.8.8.8/")}, secret=SECRET, networks=LOOPBACK)


async def test_addresses_of_one_link_are_refused_even_when_named(caplog: pytest.LogCaptureFixture) -> None:
    async with toolbox(f"http://{HOST}/", Names(["fe80::1%1"]), ("fe80::/10",)) as tools:
        assert await failure(tools) == "The tool cannot be reached."
    assert "good on one link only" in caplog.text


@pytest.mark.parametrize("found", [[], OSError("no such name"), UnicodeError("label too long")])
async def test_names_without_an_address(
    found: list[str] | OSError | UnicodeError, caplog: pytest.LogCaptureFixture
) -> None:
    async with toolbox(f"http://{HOST}/", Names(found)) as tools:
        assert await failure(tools) == "The tool cannot be reached."
    assert HOST in caplog.text


async def test_the_systems_resolver(endpoint: Endpoint) -> None:
    tools = Toolbox(
        {"order": HttpTool(f"http://localhost:{endpoint.port}/")},
        secret=SECRET,
        networks=("127.0.0.0/8", "::1/128"),
    )
    assert await tools.run(call()) == {"ok": True}
    assert await http_tool.resolve("127.0.0.1", 80) == ["127.0.0.1"]
    for name in ("x" * 70 + ".invalid", "a..b"):
        with pytest.raises((OSError, UnicodeError)):
            await http_tool.resolve(name, 80)


async def test_the_next_address_is_tried_when_none_listens_at_the_first(endpoint: Endpoint) -> None:
    names = Names(["127.0.0.2"] * 4 + ["127.0.0.1"])
    async with toolbox(f"http://{HOST}:{endpoint.port}/", names) as tools:
        assert await tools.run(call()) == {"ok": True}
    assert len(endpoint.requests) == 1


async def test_an_address_where_none_listens(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    async with toolbox(f"http://{HOST}:{endpoint.port}/", Names(["127.0.0.2"])) as tools:
        assert await failure(tools) == "The tool cannot be reached."
    assert "cannot connect to 127.0.0.2" in caplog.text


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://", "needs a host"),
        ("http:///order", "needs a host"),
        ("https://example.com:99999/", "a port up to 65535"),
        ("https://example.com:0/", "a port up to 65535"),
        ("https://example.com:port/", "is not valid"),
        ("https://[::1/", "is not valid"),
        ("https://exam\nple.com/", "is not valid"),
        ("https://user:hidden@example.com/", "no user name"),
        ("https://example.com/#part", "or fragment"),
        ("http://shop/order", "name its network in tool_networks"),
        ("http://127.0.0.1/order", "name its network in tool_networks"),
        ("https://127.0.0.1/order", "which is not public"),
    ],
)
def test_urls_that_are_refused(url: str, says: str) -> None:
    with pytest.raises(ToolboxError, match=says) as refused:
        Toolbox({"order": HttpTool(url)}, secret=SECRET)
    assert "hidden" not in str(refused.value)
    assert str(refused.value).endswith(".")


@pytest.mark.parametrize("network", ["10.1.0.1/16", "ten", "127.0.0.1/33", ""])
def test_networks_that_are_none(network: str) -> None:
    with pytest.raises(ToolboxError, match=r"^The setting tool_networks cannot hold .*\.$"):
        Toolbox({}, networks=(network,))


# ---- TLS


@asynccontextmanager
async def tls_endpoint(folder: Path, authority: Authority, *names: str) -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    await endpoint.start(authority.server(folder, names))
    yield endpoint
    await endpoint.stop()


@pytest.mark.parametrize(
    ("host", "certified"), [(HOST, HOST), (f"{HOST}.", HOST), (HOST, "*.example.com"), ("127.0.0.1",) * 2]
)
async def test_tls_is_verified_for_the_name(
    tmp_path: Path, trusted: Authority, host: str, certified: str
) -> None:
    async with (
        tls_endpoint(tmp_path, trusted, certified) as endpoint,
        toolbox(f"https://{host}:{endpoint.port}/") as tools,
    ):
        assert await tools.run(call()) == {"ok": True}
        assert endpoint.requests[0].headers["host"] == f"{host}:{endpoint.port}"


@pytest.mark.parametrize("certified", ["127.0.0.1", "other.example.com", "example.com"])
async def test_a_certificate_for_another_name_is_refused(
    tmp_path: Path, trusted: Authority, certified: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        tls_endpoint(tmp_path, trusted, certified) as endpoint,
        toolbox(f"https://{HOST}:{endpoint.port}/") as tools,
    ):
        assert await failure(tools) == "The tool cannot be reached."
        assert endpoint.requests == []
    assert "certificate is not valid for" in caplog.text


async def test_a_certificate_of_an_unknown_authority_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        tls_endpoint(tmp_path, Authority(), HOST) as endpoint,
        toolbox(f"https://{HOST}:{endpoint.port}/") as tools,
    ):
        assert await failure(tools) == "The tool cannot be reached."
        assert endpoint.requests == []
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text


async def test_a_cancellation_hangs_up_on_tls_too(tmp_path: Path, trusted: Authority) -> None:
    async with (
        tls_endpoint(tmp_path, trusted, HOST) as endpoint,
        toolbox(f"https://{HOST}:{endpoint.port}/") as tools,
        asyncio.timeout(10),
    ):
        endpoint.gate.clear()
        task = asyncio.create_task(tools.run(call()))
        await endpoint.asked.wait()
        task.cancel()
        await endpoint.hung_up.wait()
        await asyncio.wait({task})
        assert task.cancelled()
