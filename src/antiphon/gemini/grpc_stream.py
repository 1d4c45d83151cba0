"""A conversation with the model that is a call of gRPC."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from antiphon.errors import ErrorCode, GatewayError
from antiphon.gemini import codec
from antiphon.gemini.calls import Call
from antiphon.gemini.grpc_errors import gateway_error, gateway_errors
from antiphon.gemini.profiles import Profile
from antiphon.gemini.stream import ModelStream
from antiphon.gemini.upstream import Opening
from antiphon.live import Answered, Full, LiveEvent, LiveInput, Room, Take
from antiphon.rpc import RpcError


class GrpcStream(ModelStream):
    """A call."""

    def __init__(self, call: Call, profile: Profile) -> None:
        self._call = call
        self._profile = profile

    async def open(self, opening: Opening) -> None:
        """Send the set-up and wait until it is acknowledged; tell the history, if there is one."""
        with gateway_errors():
            await self._call.connected()
        await self._send(opening.setup)
        while not (await self._message()).HasField("setup_complete"):
            pass
        if opening.history is not None:
            await self._send(opening.history)

    def write(self, item: LiveInput) -> bool:
        message = codec.input_bytes(item, self._profile)
        if message is None:
            return True
        try:
            return self._call.write(message)
        except RpcError as error:
            raise gateway_error(error) from error

    async def drain(self) -> None:
        with gateway_errors():
            await self._call.drain()

    async def read(self) -> list[LiveEvent]:
        with gateway_errors():
            return _events(await self._call.read())

    async def listen(self, take: Take, full: Full, room: Room) -> None:
        def taken(message: bytes) -> bool:
            for event in _events(message):
                take(event)
            return not full()

        with gateway_errors():
            await self._call.listen(taken, room)

    def ask(self, answered: Answered) -> None:
        self._call.ask(answered)

    async def _message(self) -> Any:
        with gateway_errors():
            return _parsed(await self._call.read())

    async def _send(self, message: Any) -> None:
        with gateway_errors():
            if not self._call.write(message.SerializeToString()):
                await self._call.drain()


def _parsed(message: bytes) -> Any:
    try:
        return codec.ServerMessage.FromString(message)
    except DecodeError as error:
        raise GatewayError(ErrorCode.UPSTREAM_INTERNAL) from error


def _events(message: bytes) -> list[LiveEvent]:
    try:
        return codec.events_of(message)
    except DecodeError as error:
        raise GatewayError(ErrorCode.UPSTREAM_INTERNAL) from error
