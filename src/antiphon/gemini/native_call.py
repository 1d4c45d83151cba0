"""One call by the client of gRPC that is our own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from antiphon.gemini.probe import Probe
from antiphon.live import Answered
from antiphon.rpc.call import Call

Begin = Callable[[], Awaitable[tuple[Call, Probe]]]
"""Make the call, and say who asks after its connection. Raises `RpcError`."""


class NativeCall:
    """See `calls.Call`."""

    _call: Call
    _probe: Probe

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    async def connected(self) -> None:
        self._call, self._probe = await self._begin()

    def write(self, message: bytes) -> bool:
        return self._call.write(message)

    async def drain(self) -> None:
        await self._call.drained()

    async def read(self) -> bytes:
        message = await self._call.read()
        self._probe.heard += 1
        return message

    async def listen(self, take: Callable[[bytes], bool], room: Callable[[], Awaitable[None]]) -> None:
        probe = self._probe

        def heard_and_taken(message: bytes) -> bool:
            probe.heard += 1
            return take(message)

        await self._call.listen(heard_and_taken, room)

    def ask(self, answered: Answered) -> None:
        self._probe.ask(answered)

    def distrust(self) -> None:
        """Nothing: how many calls the server allows is known."""
