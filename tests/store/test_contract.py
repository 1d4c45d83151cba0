"""What every store does, in memory and on a server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from antiphon.memory_store import MemoryStore
from antiphon.store import Change, Log, NotResumable, Record, SessionStore, StoreAway, Verdict
from store.conftest import World
from store.sessions import NOTHING, change, new_id
from tries import tries

SAVED, FENCED, INCOMPLETE = Verdict.SAVED, Verdict.FENCED, Verdict.INCOMPLETE


async def save(world: World, store: SessionStore, *changes: Change, node: str = "a") -> list[Verdict]:
    return await store.save(changes, node, world.now)


async def claim(
    world: World, store: SessionStore, session_id: str, digest: str = "digest", user_id: str = "alice"
) -> Record:
    return await store.claim(session_id, user_id, digest, "b", world.now)


async def is_resumable(world: World, store: SessionStore, session_id: str, digest: str = "digest") -> bool:
    try:
        await claim(world, store, session_id, digest)
    except NotResumable:
        return False
    return True


class TestRecords:
    async def test_what_was_saved_is_claimed(self, world: World) -> None:
        store, name = world.store(), new_id()
        logs = (
            Log(7, 2, (b"\x00\xff\r\n", b""), whole=True),
            Log(0, 0, whole=True),
            Log(2**40, 1, (b"one",), whole=True),
        )
        saved = Change(name, "alice", 1, ("d1", "d2"), b"\x00state\xff", logs)
        assert await save(world, store, saved) == [SAVED]
        record = await claim(world, store, name, "d2")
        assert record == Record(
            name, "alice", 2, b"\x00state\xff", ((7, (b"\x00\xff\r\n", b"")), (0, ()), (2**40, (b"one",)))
        )

    async def test_ids_and_users_of_any_text(self, world: World) -> None:
        store, name, user = world.store(), new_id() + " }{:ü\n*", "us er}{ü\n"
        assert await save(world, store, change(name, user_id=user, digests=("d",))) == [SAVED]
        record = await claim(world, store, name, "d", user)
        assert (record.session_id, record.user_id) == (name, user)

    async def test_logs_grow_and_shrink(self, world: World) -> None:
        store, name = world.store(), new_id()
        assert await save(world, store, change(name, log=Log(0, 3, (b"0", b"1", b"2"), whole=True))) == [
            SAVED
        ]
        assert await save(world, store, change(name, log=Log(2, 3, (b"3", b"4")), state=b"later")) == [SAVED]
        assert await save(world, store, change(name, log=Log(2, 3), state=b"last")) == [SAVED]
        record = await claim(world, store, name)
        assert record.state == b"last"
        assert record.logs[0] == (2, (b"2", b"3", b"4"))

    async def test_a_log_that_shrank_beyond_what_was_saved(self, world: World) -> None:
        store, name = world.store(), new_id()
        await save(world, store, change(name, log=Log(0, 2, (b"0", b"1"), whole=True)))
        assert await save(world, store, change(name, log=Log(5, 1, (b"5",)))) == [SAVED]
        assert await save(world, store, change(name, log=Log(9, 0))) == [SAVED]
        assert (await claim(world, store, name)).logs[0] == (9, ())

    async def test_what_was_added_before_may_be_added_again(self, world: World) -> None:
        store, name = world.store(), new_id()
        await save(world, store, change(name, log=Log(0, 1, (b"0",), whole=True)))
        await save(world, store, change(name, log=Log(0, 3, (b"1", b"2"))))
        assert await save(world, store, change(name, log=Log(0, 4, (b"1", b"2", b"3")))) == [SAVED]
        assert (await claim(world, store, name)).logs[0] == (0, (b"0", b"1", b"2", b"3"))

    async def test_thousands_of_entries(self, world: World) -> None:
        store, name = world.store(), new_id()
        entries = tuple(b"%d" % number for number in range(12_345))
        assert await save(world, store, change(name, log=Log(0, len(entries), entries, whole=True))) == [
            SAVED
        ]
        added = tuple(b"%d" % number for number in range(12_345, 22_345))
        assert await save(world, store, change(name, log=Log(10, 22_335, added))) == [SAVED]
        assert (await claim(world, store, name)).logs[0] == (10, (*entries, *added)[10:])

    async def test_many_sessions_at_once_each_for_itself(self, world: World) -> None:
        store, names = world.store(), [new_id() for _ in range(20)]
        assert await save(world, store) == []
        assert (
            await save(world, store, *(change(name, state=name.encode()) for name in names)) == [SAVED] * 20
        )
        await claim(world, store, names[3])
        later = [change(name, log=Log(0, 0), state=b"later") for name in names]
        later[5] = change(names[5], log=Log(7, 4, (b"10",)))
        verdicts = await save(world, store, *later)
        assert verdicts == [SAVED] * 3 + [FENCED, SAVED, INCOMPLETE] + [SAVED] * 14
        assert (await claim(world, store, names[5])).state == names[5].encode()
        assert (await claim(world, store, names[6])).state == b"later"

    async def test_a_record_expires_unless_it_is_changed(self, world: World) -> None:
        store = world.store(record_ttl_s=0.4)
        kept, lost = new_id(), new_id()
        await save(world, store, change(kept, log=Log(0, 1, (b"0",), whole=True)), change(lost))
        for _ in range(3):
            await world.pass_time(0.2)
            await save(world, store, change(kept, log=Log(0, 1)))
        assert not await is_resumable(world, store, lost)
        assert (await claim(world, store, kept)).logs[0] == (0, (b"0",))

    async def test_a_claim_is_a_change(self, world: World) -> None:
        store, name = world.store(record_ttl_s=0.4), new_id()
        await save(world, store, change(name))
        await world.pass_time(0.25)
        await claim(world, store, name)
        await world.pass_time(0.25)
        assert await save(world, store, change(name, 2, log=Log(0, 0))) == [SAVED]

    async def test_the_owner_may_save_an_expired_record_anew(self, world: World) -> None:
        store, name = world.store(record_ttl_s=0.1), new_id()
        await save(world, store, change(name))
        await world.pass_time(0.2)
        assert await save(world, store, change(name, log=Log(0, 0))) == [INCOMPLETE]
        assert await save(world, store, change(name)) == [SAVED]


class TestFences:
    async def test_a_stale_save_writes_nothing(self, world: World) -> None:
        store, name = world.store(), new_id()
        await save(world, store, change(name, log=Log(0, 2, (b"0", b"1"), whole=True)))
        record = await claim(world, store, name)
        await save(
            world, store, change(name, record.fence, log=Log(1, 2, (b"2",)), digests=("new",)), node="b"
        )
        before = world.dump()
        assert await save(world, store, change(name, 1, log=Log(1, 2, (b"other",)), state=b"x")) == [FENCED]
        assert await save(world, store, change(name, 1, state=b"x")) == [FENCED]
        await store.delete(name, 1)
        assert world.dump() == before
        assert (await claim(world, store, name, "new")).logs[0] == (1, (b"1", b"2"))

    async def test_the_new_owner_goes_on_from_the_record(self, world: World) -> None:
        store, name = world.store(), new_id()
        await save(world, store, change(name, log=Log(3, 2, (b"3", b"4"), whole=True)))
        fence = (await claim(world, store, name)).fence
        assert await save(world, store, change(name, fence, log=Log(4, 2, (b"5",)), digests=("e",))) == [
            SAVED
        ]
        record = await claim(world, store, name, "e")
        assert record.fence > fence
        assert record.logs[0] == (4, (b"4", b"5"))

    async def test_a_higher_token_does_not_go_on_from_anothers_record(self, world: World) -> None:
        store, name = world.store(), new_id()
        await save(world, store, change(name, 1, log=Log(0, 1, (b"0",), whole=True)))
        before = world.dump()
        assert await save(world, store, change(name, 5, log=Log(0, 2, (b"1",)))) == [INCOMPLETE]
        assert world.dump() == before
        assert await save(world, store, change(name, 5)) == [SAVED]
        assert await save(world, store, change(name, 1)) == [FENCED]

    async def test_nothing_that_was_deleted_comes_again(self, world: World) -> None:
        store, name = world.store(), new_id()
        await save(world, store, change(name, log=Log(0, 1, (b"0",), whole=True)))
        await store.delete(name, 1)
        assert not await is_resumable(world, store, name)
        before = world.dump()
        assert await save(world, store, change(name, log=Log(0, 1))) == [FENCED]
        assert await save(world, store, change(name)) == [FENCED]
        assert world.dump() == before

    async def test_nothing_that_was_taken_and_expired_comes_again(self, world: World) -> None:
        store, name = world.store(record_ttl_s=0.1), new_id()
        await save(world, store, change(name))
        await claim(world, store, name)
        await world.pass_time(0.2)
        assert await save(world, store, change(name, 1)) == [FENCED]

    @pytest.mark.parametrize(
        "log",
        [
            Log(0, 3, (b"2",)),  # what is before it was not saved
            Log(5, 3, (b"7",)),
            Log(0, 1, (b"0", b"1")),  # more than there is
        ],
    )
    async def test_a_gap_is_not_written_over(self, world: World, log: Log) -> None:
        store, name = world.store(), new_id()
        assert await save(world, store, change(name, log=log)) == [INCOMPLETE]
        assert await save(world, store, change(name, log=Log(0, 1, (b"0",), whole=True))) == [SAVED]
        before = world.dump()
        assert await save(world, store, change(name, log=log, state=b"other")) == [INCOMPLETE]
        assert world.dump() == before

    async def test_what_was_dropped_is_not_gone_on_from(self, world: World) -> None:
        store, name = world.store(), new_id()
        await save(world, store, change(name, log=Log(2, 1, (b"2",), whole=True)))
        assert await save(world, store, change(name, log=Log(1, 3, (b"3",)))) == [INCOMPLETE]

    async def test_only_one_of_three_logs_fits(self, world: World) -> None:
        store, name = world.store(), new_id()
        await save(world, store, change(name, log=Log(0, 1, (b"0",), whole=True)))
        before = world.dump()
        torn = Change(name, "alice", 1, ("digest",), b"x", (Log(0, 2, (b"1",)), NOTHING, Log(3, 2, (b"4",))))
        assert await save(world, store, torn) == [INCOMPLETE]
        assert world.dump() == before


class TestClaims:
    async def test_a_digest_is_good_until_it_is_saved_that_it_is_spent(self, world: World) -> None:
        store, name = world.store(), new_id()
        await save(world, store, change(name, digests=("old", "new")))
        assert await is_resumable(world, store, name, "old")
        assert not await is_resumable(world, store, name, "new")
        again = await claim(world, store, name, "old")
        await save(world, store, change(name, again.fence, digests=("next",), log=Log(0, 0, whole=True)))
        assert not await is_resumable(world, store, name, "old")
        assert await is_resumable(world, store, name, "next")

    async def test_of_many_at_once_exactly_one_can_save(self, world: World) -> None:
        stores, name = [world.store() for _ in range(3)], new_id()
        await save(world, stores[0], change(name, digests=("d",)))
        taken = await asyncio.gather(*(claim(world, store, name, "d") for store in stores for _ in range(3)))
        assert len({record.fence for record in taken}) == 9
        saves = [
            await save(world, stores[0], change(name, record.fence, log=Log(0, 0, whole=True)))
            for record in taken
        ]
        assert [verdict for (verdict,) in saves].count(SAVED) == 1

    @pytest.mark.parametrize(
        ("user_id", "digest"), [("bob", "d"), ("alice", "x"), ("alice", ""), ("alice", "d e"), ("", "d")]
    )
    async def test_what_is_not_resumable(self, world: World, user_id: str, digest: str) -> None:
        store, name = world.store(), new_id()
        await save(world, store, change(name, digests=("d", "e")))
        before = world.dump()
        with pytest.raises(NotResumable):
            await claim(world, store, name, digest, user_id)
        with pytest.raises(NotResumable):
            await claim(world, store, new_id(), "d")
        assert world.dump() == before
        assert await is_resumable(world, store, name, "d")

    async def test_the_node_that_had_it_is_told(self, world: World) -> None:
        store, other, first, second = world.store(), world.store(), new_id(), new_id()
        told = asyncio.create_task(store.evicted("a"))
        await world.subscribed("a")
        await save(world, store, change(first), change(second), node="a")
        taken = await claim(world, other, first)
        assert await asyncio.wait_for(told, 5) == (first, taken.fence)
        # It is the node's that saved last, and what was told while nobody waited is not lost.
        await save(world, other, change(first, taken.fence, digests=("again",)), node="b")
        await save(world, store, change(second, log=Log(0, 0)), node="c")
        await claim(world, other, first, "again")
        await claim(world, other, second)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(store.evicted("a"), 0.1)

    async def test_a_wait_that_is_given_up_loses_nothing(self, world: World) -> None:
        store, other, names = world.store(), world.store(), [new_id() for _ in range(30)]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(store.evicted("a"), 0.2)
        await world.subscribed("a")
        await save(world, store, *(change(name) for name in names), node="a")
        told = []
        for number, name in enumerate(names):
            waiting = asyncio.create_task(store.evicted("a"))
            await claim(world, other, name)
            await asyncio.sleep(0.0005 * (number % 3))
            waiting.cancel()
            await asyncio.wait([waiting])
            if not waiting.cancelled():
                told.append(waiting.result())
        while len(told) < len(names):
            told.append(await asyncio.wait_for(store.evicted("a"), 5))
        assert told == [(name, 2) for name in names]


class TestMembers:
    async def test_limits_count_over_all_stores(self, world: World) -> None:
        one, other = world.store(), world.store()
        assert await one.admit("alice", "s1", 2, world.now)
        assert await other.admit("alice", "s2", 2, world.now)
        assert not await one.admit("alice", "s3", 2, world.now)
        assert not await other.admit("alice", "s3", 2, world.now)
        assert await other.admit("alice", "s1", 2, world.now)
        assert await other.admit("bob", "s3", 2, world.now)
        await other.leave("alice", "s1")
        await other.leave("alice", "s1")
        await other.leave("carol", "s1")
        assert await one.admit("alice", "s3", 2, world.now)
        assert not await one.admit("alice", "s1", 2, world.now)

    async def test_a_limit_of_none(self, world: World) -> None:
        assert not await world.store().admit("alice", "s1", 0, world.now)

    async def test_of_many_at_once_as_many_as_may(self, world: World) -> None:
        stores = [world.store() for _ in range(3)]
        tries = [stores[n % 3].admit("alice", f"s{n}", 4, world.now) for n in range(12)]
        assert (await asyncio.gather(*tries)).count(True) == 4

    async def test_members_expire_unless_refreshed(self, world: World) -> None:
        store = world.store(member_ttl_s=0.4)
        assert await store.admit("alice", "s1", 2, world.now)
        assert await store.admit("alice", "s2", 2, world.now)
        await store.refresh([], world.now)
        for _ in range(3):
            await world.pass_time(0.2)
            await store.refresh([("alice", "s2"), ("bob", "t1")], world.now)
        assert await store.admit("alice", "s3", 2, world.now)
        assert not await store.admit("alice", "s1", 2, world.now)
        assert not await store.admit("bob", "t2", 1, world.now)


class Step(Struct, frozen=True):
    """Something that happens to a session."""

    kind: Literal["append", "trim", "save", "save_unheard", "save_whole", "claim", "stale_save"]
    log: int = 0
    count: int = 0


STEPS = st.one_of(
    st.builds(Step, st.sampled_from(["append", "trim"]), st.integers(0, 2), st.integers(1, 5)),
    st.builds(Step, st.sampled_from(["save", "save_unheard", "save_whole", "claim", "stale_save"])),
)


class Model:
    """A session: what its logs are, what is stored of them, and up to where its node knows of that."""

    def __init__(self) -> None:
        self.fence = 1
        self.saves = 0
        self.logs: list[tuple[int, list[bytes]]] = [(0, []), (0, []), (0, [])]
        self.known_until = [0, 0, 0]

    def append(self, place: int, count: int) -> None:
        first, entries = self.logs[place]
        end = first + len(entries)
        entries += [b"%d in %d under %d" % (end + number, place, self.fence) for number in range(count)]

    def trim(self, place: int, count: int) -> None:
        first, entries = self.logs[place]
        self.logs[place] = (first + min(count, len(entries)), entries[count:])

    def change(self, session_id: str, *, whole: bool) -> Change:
        self.saves += 1
        logs = []
        for (first, entries), known_until in zip(self.logs, self.known_until, strict=True):
            added = entries if whole else entries[max(0, known_until - first) :]
            logs.append(Log(first, len(entries), tuple(added), whole))
        one, two, three = logs
        return Change(
            *(session_id, "alice", self.fence, (f"d{self.saves}",), b"%d" % self.saves, (one, two, three))
        )

    def heard(self) -> None:
        self.known_until = [first + len(entries) for first, entries in self.logs]

    def stored(self) -> list[tuple[int, tuple[bytes, ...]]]:
        return [(first, tuple(entries)) for first, entries in self.logs]


@settings(
    max_examples=tries(60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(STEPS, max_size=30))
async def test_any_sequence_is_kept(world: World, steps: Sequence[Step]) -> None:
    store, name, model = world.store(), new_id(), Model()
    assert await save(world, store, model.change(name, whole=True)) == [SAVED]
    stored, state = model.stored(), model.saves
    for step in [*steps, Step("claim")]:
        match step.kind:
            case "append":
                model.append(step.log, step.count)
            case "trim":
                model.trim(step.log, step.count)
            case "save" | "save_unheard" | "save_whole":
                saved = model.change(name, whole=step.kind == "save_whole")
                assert await save(world, store, saved) == [SAVED]
                stored, state = model.stored(), model.saves
                if step.kind != "save_unheard":
                    model.heard()
            case "claim":
                record = await claim(world, store, name, f"d{state}")
                assert record == Record(name, "alice", model.fence + 1, b"%d" % state, (*stored,))  # type: ignore[arg-type]
                model.fence = record.fence
                model.logs = [(first, [*entries]) for first, entries in record.logs]
                model.heard()
                assert await save(world, store, model.change(name, whole=False)) == [SAVED]
                state = model.saves
            case "stale_save":
                assert await save(world, store, change(name, model.fence - 1)) == [FENCED]


async def test_a_closed_store_is_away(world: World) -> None:
    store = world.store()
    await store.ping()
    waiting = [asyncio.create_task(store.evicted("a")) for _ in range(2)]
    await world.subscribed("a")
    await store.aclose()
    for call in (*waiting, store.evicted("a"), save(world, store, change(new_id())), store.ping()):
        with pytest.raises(StoreAway):
            await asyncio.wait_for(call, 5)
    await store.aclose()


async def test_memory_is_bounded() -> None:
    store, now = MemoryStore(record_ttl_s=10), 0.0
    for number in range(100):
        now = number * 1.0
        await store.save([change(f"s{number}")], "a", now)
        await store.admit(f"user {number}", "s", 1, now)
    assert len(store._records) == 10
    await store.delete("s99", 1)
    now += 4_000
    await store.refresh([], now)
    assert (len(store._records), len(store._fences), len(store._members)) == (0, 0, 0)
