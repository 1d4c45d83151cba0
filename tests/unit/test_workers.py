"""How limits are divided among workers, how connections are counted over all, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from antiphon import siblings, workers
from antiphon.config import Config, ConfigError
from antiphon.workers import Roll, share


@given(st.integers(0, 10_000), st.integers(1, 64))
def test_shares_are_the_total_and_as_good_as_equal(total: int, count: int) -> None:
    shares = [share(total, number, count) for number in range(count)]
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1


def test_each_worker_has_its_part_of_the_sessions_and_the_whole_of_the_rest() -> None:
    config = Config(workers=3, max_sessions=10, max_connections_per_user=7, port=0)
    parts = [workers.settings_of(config, number, 4711) for number in range(3)]
    assert [part.max_sessions for part in parts] == [4, 3, 3]
    assert {replace(part, max_sessions=0) for part in parts} == {
        replace(config, max_sessions=0, workers=1, port=4711)
    }


def test_no_worker_without_a_session() -> None:
    with pytest.raises(ConfigError, match=r"max_sessions \(2\) is divided among the workers \(3\)"):
        workers.settings_of(Config(workers=3, max_sessions=2), 0, 1)


def test_settings_and_secrets_arrive_as_they_are() -> None:
    config = Config(
        jwt_secret="a secret", tls_cert=Path("a.pem"), origins=("https://a", "https://b"), drain_s=0.5
    )
    orders = workers.Orders(1, 2, workers.written(config), ["/x"], "/tmp/y", None)
    arrived = workers.orders(workers.line_of(orders))
    assert workers.read(arrived.config) == config
    assert b"\n" not in workers.line_of(orders)[:-1]


class TestRoll:
    def test_a_user_has_so_many_connections_over_all_workers(self) -> None:
        roll = Roll(2)
        assert roll.admit(0, "alice", "a")
        assert roll.admit(1, "alice", "b")
        assert not roll.admit(1, "alice", "c")
        assert roll.admit(1, "bob", "c")
        roll.leave("alice", "a")
        assert roll.admit(1, "alice", "c")

    def test_the_same_session_is_no_other(self) -> None:
        roll = Roll(1)
        assert roll.admit(0, "alice", "a")
        assert roll.admit(0, "alice", "a")
        roll.leave("alice", "a")
        assert roll.admit(0, "alice", "b")

    def test_who_was_not_counted_is_not_counted_out(self) -> None:
        roll = Roll(1)
        roll.admit(0, "alice", "a")
        assert not roll.admit(0, "alice", "b")
        roll.leave("alice", "b")
        assert not roll.admit(0, "alice", "b")

    def test_what_a_worker_had_ends_with_it(self) -> None:
        roll = Roll(1)
        roll.admit(0, "alice", "a")
        roll.admit(1, "bob", "b")
        roll.ended(0)
        assert roll.admit(1, "alice", "c")
        assert not roll.admit(0, "bob", "d")
        roll.ended(1)
        assert len(roll) == 0


@given(st.integers(0, 9999))
def test_an_id_tells_whose_session_it_is(number: int) -> None:
    assert siblings.owner(siblings.prefix(number) + "Zm9v-_") == number


@pytest.mark.parametrize(
    "session_id", ["", "w1", "w.x", "wx.y", "1.x", "w99999.x", "w-1.x", "w²0.x", "no such"]
)
def test_other_ids_are_nobodys(session_id: str) -> None:
    assert siblings.owner(session_id) is None
