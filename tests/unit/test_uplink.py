"""The uplink's bounds."""

from __future__ import annotations

from antiphon import live
from antiphon.uplink import Uplink

SECOND = live.Audio(bytes(32_000))


def test_in_order_and_once() -> None:
    uplink = Uplink(10)
    items: list[live.LiveInput] = [SECOND, live.AudioEnd(), live.Text("hi"), live.ToolResult("1", "n", {})]
    for item in items:
        uplink.add(item, 0.0)
    assert [uplink.take(1.0) for _ in items] == items
    assert uplink.take(1.0) is None


def test_full_at_its_seconds_and_not_before() -> None:
    uplink = Uplink(2)
    uplink.add(SECOND, 0.0)
    full = [uplink.full]
    uplink.add(live.Text("counts as a second"), 0.0)
    full.append(uplink.full)
    uplink.take(0.0)
    assert [*full, uplink.full] == [False, True, False]


def test_many_tiny_items_fill_it_too() -> None:
    uplink = Uplink(1)
    for _ in range(500):
        uplink.add(live.Audio(b"\0\0"), 0.0)
        uplink.add(live.AudioEnd(), 0.0)
    assert uplink.full


def test_deadline_runs_from_the_last_movement() -> None:
    uplink = Uplink(10)
    assert uplink.deadline == float("inf")
    uplink.add(SECOND, 5.0)
    uplink.add(SECOND, 9.0)
    assert uplink.deadline == 15.0
    uplink.take(12.0)
    assert uplink.deadline == 22.0
    uplink.touch(13.0)
    assert uplink.deadline == 23.0
    uplink.take(14.0)
    assert uplink.deadline == float("inf")
