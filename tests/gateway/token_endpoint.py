"""What a service account needs to log in: its file, and the endpoint that gives it tokens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


@asynccontextmanager
async def token_endpoint(folder: Path, *, refuses: bool = False) -> AsyncIterator[tuple[Path, list[str]]]:
    """Serve tokens on loopback; yields the file of an account that asks there, and the tokens issued."""
    issued: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = next(line for line in head.splitlines() if line.startswith("content-length:"))
        await reader.readexactly(int(length.partition(":")[2]))
        if refuses:
            status = "400 Bad Request"
            body: dict[str, str | int] = {"error": "invalid_grant", "error_description": "no account"}
        else:
            issued.append(f"token-{len(issued) + 1}")
            status = "200 OK"
            body = {"access_token": issued[-1], "expires_in": 3600, "token_type": "Bearer"}
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode() + data)
        await writer.drain()
        writer.close()

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        account = {
            "type": "service_account",
            "project_id": "a-project",
            "private_key_id": "1",
            "private_key": private.decode(),
            "client_email": "antiphon@a-project.test",
            "client_id": "1",
            "token_uri": f"http://127.0.0.1:{port}/token",
        }
        path = folder / "account.json"
        path.write_text(json.dumps(account))
        yield path, issued
