"""Tools that are HTTP endpoints: one signed POST a call, to addresses that were checked."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from urllib.parse import quote

import httpx
import msgspec
from msgspec import Struct

from antiphon import __version__
from antiphon.tools.call import (
    FAILED,
    MAX_RESULT_BYTES,
    UNREACHABLE,
    UNUSABLE,
    Call,
    HttpTool,
    ToolboxError,
    ToolFailed,
    read_result,
    result_of,
    sign,
)
from antiphon.tools.slots import Slots

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a host, best first, as text; raises OSError or UnicodeError."""

MAX_ADDRESSES: Final = 4
"""Addresses of a host that are tried one after another."""

_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_SIX_TO_FOUR: Final = ipaddress.IPv6Network("2002::/16")
_AZURE_HOST: Final = ipaddress.IPv4Address("168.63.129.16")
"""The machine beneath a virtual one at Azure: an address that looks public and is not."""

_log = logging.getLogger(__name__)


class _Body(Struct, rename="camel"):
    call_id: str
    name: str
    args: dict[str, Any]
    session_id: str
    user_id: str
    timestamp: int


class HttpWorker:
    """Calls one endpoint.

    A call is sent at most once: it is not retried, follows no redirect, and has a connection of its own,
    since one that was kept might turn out to be closed only after the request was written. The host is
    resolved here, each of its addresses is checked, and the connection goes to one of these, so that no
    second look-up can lead elsewhere; TLS is verified for the host's name. Proxies are not used.

    Raises:
        ToolboxError: the URL cannot be used, or is one that no call would be allowed to reach.
    """

    def __init__(
        self,
        name: str,
        tool: HttpTool,
        secret: str,
        networks: Sequence[Network],
        tls: ssl.SSLContext,
        resolve: Resolve,
    ) -> None:
        self._name = name
        self._secret = secret
        self._networks = networks
        self._tls = tls
        self._resolve = resolve
        self._url = _checked_url(name, tool.url, networks)
        self._host = self._url.raw_host.decode("ascii")
        self._slots = Slots()

    async def run(self, call: Call) -> dict[str, Any]:
        """Return the endpoint's answer as a result for the model.

        Raises:
            ToolFailed: it cannot be reached, or its answer is an error or cannot be used.
        """
        await self._slots.take()
        try:
            return await self._post(call)
        finally:
            self._slots.give_back()

    async def _post(self, call: Call) -> dict[str, Any]:
        addresses = await self._addresses()
        now = time.time()
        try:
            body = msgspec.json.encode(
                _Body(call.call_id, call.name, call.args, call.session_id, call.user_id, int(now))
            )
        except UnicodeEncodeError as error:
            raise self._failed(f"the call cannot be written as JSON: {error}", FAILED) from None
        headers = {
            "Host": self._url.netloc.decode("ascii"),
            "User-Agent": f"antiphon/{__version__}",
            "Content-Type": "application/json",
            "Accept": "application/json, text/plain",
            "Accept-Encoding": "identity",
            "Connection": "close",
            "Idempotency-Key": quote(f"{call.session_id}.{call.call_id}", safe=""),
            "Antiphon-Signature": sign(self._secret, body, now),
        }
        connect_s = call.deadline_s / len(addresses)
        for address in addresses:
            url = self._url.copy_with(host=str(address))
            try:
                async with (
                    httpx.AsyncClient(
                        verify=self._tls,
                        trust_env=False,
                        follow_redirects=False,
                        timeout=httpx.Timeout(None, connect=connect_s),
                    ) as client,
                    client.stream(
                        *("POST", url),
                        content=body,
                        headers=headers,
                        extensions={"sni_hostname": self._host.rstrip(".")},
                    ) as response,
                ):
                    return await self._result(response)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                # Nothing of the request is out yet: at another address it is still sent once.
                _log.warning("The tool %s: cannot connect to %s: %s", self._name, address, _told(error))
            except httpx.HTTPError as error:
                raise self._failed(f"the exchange with {address} broke off: {_told(error)}", FAILED) from None
        raise ToolFailed(UNREACHABLE)

    async def _addresses(self) -> list[Address]:
        literal = _literal(self._host)
        if literal is not None:
            return [literal]  # checked at the start
        try:
            found = await self._resolve(self._host, self._url.port or _port(self._url))
        except (OSError, UnicodeError) as error:
            raise self._failed(f"{self._host} cannot be resolved: {error}", UNREACHABLE) from None
        addresses = [ipaddress.ip_address(text) for text in dict.fromkeys(found)]
        # One that is refused condemns all: an honest name has none.
        for address in addresses:
            refusal = _refusal(address, self._url.scheme, self._networks)
            if refusal:
                raise self._failed(f"{self._host} has the address {address}, {refusal}", UNREACHABLE)
        if not addresses:
            raise self._failed(f"{self._host} has no address", UNREACHABLE)
        return addresses[:MAX_ADDRESSES]

    async def _result(self, response: httpx.Response) -> dict[str, Any]:
        if not response.is_success:
            raise self._failed(f"the answer has status {response.status_code}", FAILED)
        body = bytearray()
        async for piece in response.aiter_raw():  # raw: nothing of theirs is decompressed
            body += piece
            if len(body) > MAX_RESULT_BYTES:
                raise self._failed(f"the answer is larger than {MAX_RESULT_BYTES} bytes", UNUSABLE)
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        try:
            if not body:
                return result_of("done")
            if kind == "application/json" or kind.endswith("+json"):
                return read_result(bytes(body))
            if kind == "text/plain":
                return result_of(body.decode())
        except UnicodeDecodeError:
            raise self._failed("the answer is no UTF-8", UNUSABLE) from None
        except ValueError as error:
            raise self._failed(f"the answer cannot be used: {error}", UNUSABLE) from None
        raise self._failed(f"the answer is of the type {kind!r}", UNUSABLE)

    def _failed(self, reason: str, sentence: str) -> ToolFailed:
        """Log the reason, which is the operator's alone, and return what the model is told."""
        _log.warning("The tool %s failed: %s", self._name, reason)
        return ToolFailed(sentence)


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses that the system's resolver gives, in its order."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in found]


def parse_networks(texts: Sequence[str]) -> list[Network]:
    """Return networks from their CIDR form.

    Raises:
        ToolboxError: a text is none.
    """
    networks: list[Network] = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise ToolboxError(
                f"The setting tool_networks cannot hold {text!r}: {error}. "
                "Networks are written like 10.1.0.0/16 or 127.0.0.1/32."
            ) from None
    return networks


def is_public(address: Address) -> bool:
    """Whether an address is one of a machine on the public internet.

    Addresses that carry another one within them (mapped, 6to4, NAT64) are not: where they lead is not
    theirs to say. `is_global` alone takes multicast and unassigned ranges for public.
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address not in _GLOBAL_UNICAST or address in _SIX_TO_FOUR:
            return False
    elif address == _AZURE_HOST:
        return False
    return address.is_global and not address.is_multicast


def _refusal(address: Address, scheme: str, networks: Sequence[Network]) -> str | None:
    """Return why an address may not be spoken to, as the end of a sentence; None if it may."""
    public = is_public(address)
    if not public and not any(address in network for network in networks):
        return "which is not public and in none of the tool_networks"
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
        return "which is good on one link only"
    if scheme == "http" and public:
        return "which is public and needs https://"
    return None


def _checked_url(name: str, text: str, networks: Sequence[Network]) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ToolboxError(f"The URL of the tool {name} is not valid: {error}.") from None
    if url.userinfo or url.fragment:
        raise ToolboxError(f"The URL of the tool {name} must hold no user name, password or fragment.")
    if not url.host or url.port == 0 or (url.port or 0) > 65535:
        raise ToolboxError(f"The URL of the tool {name} needs a host, and a port up to 65535 if any.")
    if url.scheme == "http" and not networks:
        raise ToolboxError(
            f"The tool {name} is spoken to in plaintext, which is for loopback and private networks only: "
            "name its network in tool_networks (ANTIPHON_TOOL_NETWORKS), or use https://."
        )
    literal = _literal(url.raw_host.decode("ascii"))
    refusal = _refusal(literal, url.scheme, networks) if literal is not None else None
    if refusal:
        raise ToolboxError(f"The tool {name} has the address {literal}, {refusal}.")
    return url


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _port(url: httpx.URL) -> int:
    return 443 if url.scheme == "https" else 80


def _told(error: Exception) -> str:
    return str(error) or type(error).__name__
