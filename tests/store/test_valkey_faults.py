"""A store whose server is stopped, killed, started again or was never there: bounds, and what comes after."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack

import psutil
import pytest

from antiphon import valkey_client
from antiphon.store import Log, NotResumable, StoreAway, StoreMisconfigured, Verdict
from antiphon.valkey_client import MAX_CONNECTIONS
from antiphon.valkey_scripts import CLAIM
from antiphon.valkey_store import ValkeyStore, _session_keys
from store.proxy import proxy, saying
from store.sessions import change, new_id
from valkey_server import HOST, ValkeyServer

BOUND_S = 1.0
"""Generous: 250 ms are meant, and the machine may be busy."""
SAVED, FENCED, INCOMPLETE = Verdict.SAVED, Verdict.FENCED, Verdict.INCOMPLETE
BIG = Log(0, 64, (bytes(65536),) * 64, whole=True)
"""More than the buffers of a connection take."""


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
async def store(server: ValkeyServer) -> AsyncIterator[ValkeyStore]:
    store = ValkeyStore(server.url, young_s=0, timeout_s=0.5)  # a busy machine is no fault of the store
    yield store
    await store.aclose()
    assert await settled(lambda: not connections_to(server.port)), "connections are left"
    assert asyncio.all_tasks() == {asyncio.current_task()}


def connections_to(port: int) -> int:
    """Return how many sockets of this process are connected to a port, or about to be."""
    return sum(
        bool(connection.raddr) and connection.raddr.port == port
        for connection in psutil.Process().net_connections("tcp")
    )


async def settled(is_so: Callable[[], bool]) -> bool:
    """Wait a little until something is so; return whether it is."""
    give_up_at = time.monotonic() + 5
    while not is_so() and time.monotonic() < give_up_at:
        await asyncio.sleep(0.01)
    return is_so()


async def is_away(call: Awaitable[object]) -> StoreAway:
    """Check that a call raises `StoreAway`, and in time; return it."""
    began = time.monotonic()
    with pytest.raises(StoreAway) as raised:
        await call
    assert time.monotonic() - began < BOUND_S
    return raised.value


async def returns_soon(call: Awaitable[object]) -> None:
    """Wait until a store that was away answers again."""
    async with asyncio.timeout(10):
        await call


def every_call(store: ValkeyStore, name: str) -> list[Awaitable[object]]:
    return [
        store.save([change(name)], "a", 0),
        store.save([change(name, log=BIG)], "a", 0),
        store.claim(name, "alice", "digest", "a", 0),
        store.delete(name, 1),
        store.admit("alice", "s", 1, 0),
        store.leave("alice", "s"),
        store.refresh([("alice", "s")], 0),
        store.ping(),
    ]


class TestStopped:
    async def test_every_call_is_in_time(self, server: ValkeyServer, store: ValkeyStore) -> None:
        await store.ping()
        server.pause()
        for call in every_call(store, new_id()):
            error = await is_away(call)
            assert not isinstance(error, StoreMisconfigured)
            assert isinstance(error.__cause__, TimeoutError)
        began = time.monotonic()
        results = await asyncio.gather(*every_call(store, new_id()) * 5, return_exceptions=True)
        assert time.monotonic() - began < BOUND_S
        assert {type(result) for result in results} == {StoreAway}

    async def test_nothing_is_left_open_meanwhile(self, server: ValkeyServer, store: ValkeyStore) -> None:
        await store.ping()
        server.pause()
        for _ in range(3):
            await asyncio.gather(*every_call(store, new_id()), return_exceptions=True)
        assert await settled(lambda: not connections_to(server.port))
        assert asyncio.all_tasks() == {asyncio.current_task()}
        server.resume()
        await asyncio.gather(*(store.admit("alice", f"s{number}", 100, 0) for number in range(50)))
        with server.client() as client:
            assert await settled(lambda: len(client.client_list()) <= MAX_CONNECTIONS + 1)

    async def test_answers_are_never_mixed_up(self, server: ValkeyServer, store: ValkeyStore) -> None:
        chance = random.Random(5)
        for turn in range(6):
            names = [new_id() for _ in range(20)]
            assert await store.save([change(name) for name in names], "a", 0) == [SAVED] * 20
            server.pause()
            late = [
                asyncio.create_task(call)
                for name in names[:10]
                for call in (
                    store.claim(name, "alice", "wrong", "b", 0),
                    store.admit(name, "s", 0, 0),
                    store.save([change(name, fence=0)] * 3, "a", 0),
                )
            ]
            await asyncio.sleep(chance.uniform(0, 0.1))
            for task in late[::2] if turn % 2 else []:
                task.cancel()
            if turn % 3:
                await asyncio.wait(late)
            server.resume()

            async def right(name: str, number: int) -> None:
                assert await store.admit(name, f"n{number}", 1, 0)
                going_on = change(name, state=name.encode(), log=Log(0, 0), digests=(name,))
                assert await store.save([going_on], "a", 0) == [SAVED]
                record = await store.claim(name, "alice", name, "b", 0)
                assert (record.session_id, record.state, record.fence) == (name, name.encode(), 2)
                assert not await store.admit(name, "other", 1, 0)

            for first in range(0, len(names), 5):  # not all at once: each has 250 ms
                await asyncio.gather(*(right(names[number], number) for number in range(first, first + 5)))
            results = await asyncio.gather(*late, return_exceptions=True)
            for number, result in enumerate(results):
                if not isinstance(result, StoreAway | asyncio.CancelledError):
                    assert repr(result) == ("NotResumable()", "False", repr([FENCED] * 3))[number % 3]

    async def test_a_call_that_is_cancelled_leaves_no_answer(self, store: ValkeyStore) -> None:
        await store.ping()
        for number in range(200):
            task = asyncio.create_task(store.admit("nobody", "s", 0, 0))
            await asyncio.sleep(0.00002 * (number % 40))
            task.cancel()
            assert await store.admit(f"user {number}", "s", 1, 0)
            await asyncio.wait([task])
        assert len(store._client._links) <= MAX_CONNECTIONS

    async def test_a_late_claim_does_not_spend_the_digest(
        self, server: ValkeyServer, store: ValkeyStore
    ) -> None:
        name, another = new_id(), new_id()
        await store.save([change(name), change(another)], "a", 0)
        await store.claim(another, "alice", "digest", "b", 0)  # the server knows the script
        server.pause()
        await is_away(store.claim(name, "alice", "digest", "b", 0))
        server.resume()
        await asyncio.sleep(0.05)
        assert (await store.claim(name, "alice", "digest", "b", 0)).fence == 2

    async def test_a_claim_that_is_done_too_late_is_not_done(
        self, server: ValkeyServer, store: ValkeyStore
    ) -> None:
        name = new_id()
        await store.save([change(name)], "a", 0)
        before = server.dump()
        with server.client() as client:
            long_ago_ms = int(time.time() * 1000) - 1
            arguments = (long_ago_ms, "alice", "digest", "b", 1000, 1000, "c", name)
            assert client.eval(CLAIM.text, 5, *_session_keys(name), *arguments) == b"late"
        assert server.dump() == before

    async def test_a_late_save_does_not_undo_a_later_one(
        self, server: ValkeyServer, store: ValkeyStore
    ) -> None:
        name = new_id()
        async with proxy(server.port) as between:
            held = ValkeyStore(f"valkey://{HOST}:{between.port}")
            await held.save([change(name, log=Log(0, 1, (b"0",), whole=True))], "a", 0)
            between.flowing.clear()
            await is_away(held.save([change(name, log=Log(0, 2, (b"1",)), state=b"old")], "a", 0))
            # Of one store, both: here another connection stands for the same.
            newer = change(name, log=Log(0, 2, (b"1",)), state=b"new")
            assert await store.save([newer], "a", 0) == [SAVED]
            before = server.dump()
            with server.client() as client:
                calls = client.info("commandstats")["cmdstat_evalsha"]["calls"]
                between.flowing.set()
                assert await settled(
                    lambda: client.info("commandstats")["cmdstat_evalsha"]["calls"] > calls
                ), "the late save did not come"
            assert server.dump() == before
            await held.aclose()


class TestKilled:
    async def test_every_call_is_in_time_and_the_first_one_after_is_right(
        self, server: ValkeyServer, store: ValkeyStore
    ) -> None:
        name = new_id()
        await store.save([change(name, log=Log(0, 1, (b"0",), whole=True))], "a", 0)
        await asyncio.gather(*(store.ping() for _ in range(10)))
        server.kill()
        for call in every_call(store, name):
            await is_away(call)
        server.start()
        assert await store.save([change(name, log=Log(0, 2, (b"1",)))], "a", 0) == [INCOMPLETE]
        assert server.dump() == {}
        whole = change(name, log=Log(0, 2, (b"0", b"1"), whole=True))
        assert await store.save([whole], "a", 0) == [SAVED]
        assert (await store.claim(name, "alice", "digest", "b", 0)).logs[0] == (0, (b"0", b"1"))

    async def test_connections_that_broke_while_idle_are_not_used(
        self, server: ValkeyServer, store: ValkeyStore
    ) -> None:
        await asyncio.gather(*(store.ping() for _ in range(10)))
        server.restart()
        await asyncio.sleep(0.05)
        await asyncio.gather(*(store.admit("alice", f"s{number}", 50, 0) for number in range(20)))

    async def test_while_calls_wait(self, server: ValkeyServer, store: ValkeyStore) -> None:
        await store.ping()
        server.pause()
        began = time.monotonic()
        calls = asyncio.gather(*every_call(store, new_id()), return_exceptions=True)
        await asyncio.sleep(0.05)
        server.restart()
        results = await calls
        assert time.monotonic() - began < BOUND_S
        assert all(type(result) is StoreAway for result in results[:MAX_CONNECTIONS])
        # The others waited for a connection, and may have got one to the new server.
        assert all(isinstance(result, StoreAway | None | bool) for result in results[MAX_CONNECTIONS:])
        await returns_soon(store.ping())

    async def test_a_server_that_lost_the_scripts_gets_them_again(
        self, server: ValkeyServer, store: ValkeyStore
    ) -> None:
        names = [new_id() for _ in range(30)]
        for _ in range(2):
            with server.client() as client:
                client.script_flush()
            assert await store.save([change(name) for name in names], "a", 0) == [SAVED] * 30
        with server.client() as client:
            client.script_flush()
        assert (await store.claim(names[0], "alice", "digest", "b", 0)).fence == 2

    async def test_a_session_taken_over_is_told_after_a_restart(
        self, server: ValkeyServer, store: ValkeyStore
    ) -> None:
        told = asyncio.create_task(store.evicted("a"))
        for turn in range(3):
            if turn:
                server.restart()
            with server.client() as client:
                assert await settled(lambda: client.pubsub_numsub("antiphon:evicted:a")[0][1] == 1)
                client.publish("antiphon:evicted:a", "what others say")
            name = new_id()
            await store.save([change(name)], "a", 0)
            await store.claim(name, "alice", "digest", "b", 0)
            assert await asyncio.wait_for(told, 5) == (name, 2)
            told = asyncio.create_task(store.evicted("a"))
        assert connections_to(server.port) <= MAX_CONNECTIONS + 1
        told.cancel()
        with pytest.raises(asyncio.CancelledError):
            await told

    async def test_a_subscription_that_fell_silent_is_made_anew(
        self, server: ValkeyServer, store: ValkeyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(valkey_client, "SILENCE_S", 0.1)
        told = asyncio.create_task(store.evicted("a"))
        await asyncio.sleep(0.5)  # asked, and answered, several times
        with server.client() as client:
            [first] = client.client_list("pubsub")
            server.pause()
            await asyncio.sleep(0.4)
            server.resume()
            assert await settled(
                lambda: [found["id"] for found in client.client_list("pubsub")] > [first["id"]]
            )
            client.publish("antiphon:evicted:a", "3 someone")
        assert await asyncio.wait_for(told, 5) == ("someone", 3)


class TestNeverThere:
    async def test_nothing_listens(self, server: ValkeyServer) -> None:
        server.kill()
        store = ValkeyStore(server.url)
        for call in every_call(store, new_id()):
            await is_away(call)
        await store.aclose()
        server.start()

    async def test_nothing_accepts(self) -> None:
        with socket.socket() as listener, ExitStack() as stack:
            listener.bind((HOST, 0))
            listener.listen(0)
            port = listener.getsockname()[1]
            for _ in range(4):  # the queue is full: what is sent to connect is dropped
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex((HOST, port))
            store = ValkeyStore(f"valkey://{HOST}:{port}")
            for call in every_call(store, new_id()):
                await is_away(call)
            await store.aclose()

    @pytest.mark.parametrize(
        "answer",
        [
            b"-LOADING Valkey is loading the dataset in memory\r\n",
            b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
            b"-READONLY You can't write against a read only replica.\r\n",
            b"-BUSY Valkey is busy running a script.\r\n",
            b"-MASTERDOWN Link with MASTER is down\r\n",
            b"-ERR max number of clients reached\r\n",
        ],
    )
    async def test_what_passes_is_no_fault_of_the_configuration(self, answer: bytes) -> None:
        async with saying(answer) as port:
            store = ValkeyStore(f"valkey://{HOST}:{port}")
            error = await is_away(store.ping())
            assert not isinstance(error, StoreMisconfigured)
            assert str(error).startswith(f"The store at {HOST}:{port}/0 is away: ")
            await store.aclose()

    async def test_closing_wakes_whoever_waits(self, server: ValkeyServer, store: ValkeyStore) -> None:
        await store.ping()
        server.pause()
        calls = asyncio.gather(*map(is_away, every_call(store, new_id())))
        await asyncio.sleep(0.02)
        await store.aclose()
        await calls
        await is_away(store.ping())


async def test_a_session_that_is_not_there_is_told_from_a_store_that_is_not(store: ValkeyStore) -> None:
    with pytest.raises(NotResumable):
        await store.claim(new_id(), "alice", "digest", "a", 0)


async def test_a_list_that_was_dropped_alone_is_noticed(server: ValkeyServer, store: ValkeyStore) -> None:
    name = new_id()
    await store.save([change(name, log=Log(0, 2, (b"0", b"1"), whole=True))], "a", 0)
    with server.client() as client:
        client.delete(_session_keys(name)[2])
    assert await store.save([change(name, log=Log(0, 3, (b"2",)))], "a", 0) == [INCOMPLETE]
    with pytest.raises(NotResumable):
        await store.claim(name, "alice", "digest", "b", 0)


async def test_everything_expires(server: ValkeyServer, store: ValkeyStore) -> None:
    name = new_id()
    await store.save([change(name, log=Log(0, 1, (b"0",), whole=True))], "a", 0)
    await store.admit("alice", "s", 1, 0)
    await store.refresh([("bob", "s")], 0)
    with server.client() as client:
        assert all(0 < client.ttl(key) <= 165 for key in client.scan_iter() if not key.endswith(b":fence"))
        assert client.ttl(_session_keys(name)[1]) > 3500
        await store.claim(name, "alice", "digest", "b", 0)
        await store.delete(name, 2)
        assert client.ttl(_session_keys(name)[1]) > 3500
        assert client.keys(f"*{name}*") == [_session_keys(name)[1].encode()]


async def test_a_server_that_came_back_empty_is_not_believed_at_once(server: ValkeyServer) -> None:
    store = ValkeyStore(server.url)
    try:
        server.restart()
        with pytest.raises(StoreAway, match="a moment ago"):
            await store.claim("unknown", "alice", "d", "b", 0.0)
        patient = ValkeyStore(server.url, young_s=0)
        with pytest.raises(NotResumable):
            await patient.claim("unknown", "alice", "d", "b", 0.0)
        await patient.aclose()
    finally:
        await store.aclose()
