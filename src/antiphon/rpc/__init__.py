"""A client for gRPC over asyncio, for many long streams on few connections. It knows of no service."""

from antiphon.rpc.call import Call
from antiphon.rpc.channel import Channel
from antiphon.rpc.connection import Connection
from antiphon.rpc.status import RpcError, Status

__all__ = ["Call", "Channel", "Connection", "RpcError", "Status"]
