"""What is recognised next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.engine.schedule import BURST_S, DELAY_HALVES_S, Schedule, Work


def test_finals_go_by_when_somebody_waits_for_them() -> None:
    schedule = Schedule(1)
    pause, end, later = schedule.final(10.3), schedule.final(10.0), schedule.final(11.0)
    begun = []
    for _ in range(3):
        work = schedule.begin(10.0)
        assert work
        begun.append(work)
        assert schedule.begin(10.0) is None
        schedule.end(work, 10.0)
    assert begun == [end, pause, later]


def test_what_is_taken_back_is_not_begun() -> None:
    schedule = Schedule(1)
    assert schedule.begin(1.0) is None
    final = schedule.final(1.0)
    assert schedule.withdraw(final)
    assert not schedule.withdraw(final)
    assert schedule.begin(1.0) is None


def test_partials_go_after_finals_and_by_when_they_are_due() -> None:
    schedule = Schedule(1)
    shown, _ = schedule.partial("shown", 3.0)
    new, _ = schedule.partial("new", 1.0)
    final = schedule.final(9.0)
    assert [work_off(schedule, 1.0) for _ in range(3)] == [final, new, shown]


def test_the_newest_partial_takes_the_place_of_the_stale_one() -> None:
    schedule = Schedule(1)
    first, before = schedule.partial("me", 1.0)
    assert before is None
    schedule.partial("you", 2.0)
    second, before = schedule.partial("me", 5.0)
    assert before is first
    assert not schedule.withdraw(first)
    # It keeps the place, or who asks often would never have a turn.
    assert work_off(schedule, 5.0) is second
    # One that runs is nobody's to replace.
    running, _ = schedule.partial("me", 6.0)
    other = schedule.begin(6.0)
    assert other
    assert other.owner == "you"
    schedule.end(other, 6.0)
    assert schedule.begin(6.0) is running
    waiting, before = schedule.partial("me", 7.0)
    assert before is None
    assert schedule.withdraw(waiting)


def test_partials_give_way_one_for_each_final_the_latest_first() -> None:
    schedule = Schedule(3)
    partials = [schedule.partial(owner, 0.0)[0] for owner in range(3)]
    for now in range(3):
        schedule.begin(float(now))
    first = schedule.final(3.0)
    assert schedule.begin(3.0) is None
    assert schedule.give_way() == [partials[2]]
    assert schedule.give_way() == []
    schedule.final(3.0)
    assert schedule.give_way() == [partials[1]]
    schedule.end(partials[2], 3.0)
    assert schedule.begin(3.0) is first
    assert schedule.give_way() == []


def test_partials_have_a_share_of_the_time() -> None:
    schedule = Schedule(1, partials_share=0.25)
    now, spent_s = 0.0, 0.0
    while now < 100:
        schedule.partial("me", now)
        work = schedule.begin(now)
        if work:
            now += 0.5
            spent_s += 0.5
            schedule.end(work, now)
        else:
            assert schedule.wake_at() > now
            now = schedule.wake_at()
    assert 24 <= spent_s <= 25 + BURST_S + 0.5
    # Finals have all of it.
    final = schedule.final(now)
    assert schedule.begin(now) is final


def test_what_is_due_has_a_reserve() -> None:
    schedule = Schedule(1, partials_share=0.5)
    now = 100.0
    while True:
        shown, _ = schedule.partial("shown", now + 3.0)
        if schedule.begin(now) is not shown:
            break
        now += 0.1
        schedule.end(shown, now)
    # The shown one waits, and one that is due does not.
    assert now < schedule.wake_at() < now + 3.0
    new, _ = schedule.partial("new", now)
    assert schedule.wake_at() <= now + 0.01
    assert schedule.begin(now) is new
    schedule.end(new, now)
    # It is its turn when it is due, or there is enough for all.
    assert schedule.begin(now + 3.0) is shown


def test_nothing_is_to_be_woken_for_where_no_partial_waits_for_its_share() -> None:
    schedule = Schedule(1)
    assert schedule.wake_at() == float("inf")
    schedule.partial("me", 0.0)
    work = schedule.begin(0.0)
    assert work
    schedule.partial("me", 1.0)
    assert schedule.wake_at() == float("inf")  # for a worker
    schedule.end(work, 10.0)
    assert 10 < schedule.wake_at() < 40


def test_how_long_finals_wait_is_told_and_forgotten() -> None:
    schedule = Schedule(1)
    assert schedule.delay_s(0.0) == 0
    early = schedule.final(5.0)
    assert schedule.begin(4.0) is early
    assert schedule.delay_s(5.0) == 0
    late = schedule.final(5.0)
    assert schedule.delay_s(7.0) == 2.0
    schedule.end(early, 7.0)
    assert schedule.begin(7.0) is late
    told = schedule.delay_s(7.0)
    assert 0 < told < 2
    assert schedule.delay_s(7.0 + DELAY_HALVES_S) == pytest.approx(told / 2)


def work_off(schedule: Schedule, now: float) -> Work | None:
    work = schedule.begin(now)
    if work:
        schedule.end(work, now)
    return work


# ---- whatever happens

owners = st.integers(0, 3)
steps = st.one_of(
    st.tuples(st.just("final"), st.floats(0, 2)),
    st.tuples(st.just("partial"), owners),
    st.tuples(st.just("end"), st.integers(0, 9)),
    st.tuples(st.just("withdraw"), st.integers(0, 9)),
    st.tuples(st.just("wait"), st.floats(0, 3)),
)


@given(st.integers(1, 3), st.lists(steps, max_size=60))
def test_any_order_of_events(workers: int, events: list[tuple[str, float]]) -> None:
    schedule = Schedule(workers)
    now = 0.0
    finals: list[Work] = []
    partials: dict[object, Work] = {}
    running: list[Work] = []
    for kind, value in events:
        match kind:
            case "final":
                finals.append(schedule.final(now + value))
            case "partial":
                work, before = schedule.partial(value, now)
                assert before is partials.get(value)
                partials[value] = work
            case "end" if running:
                schedule.end(running.pop(int(value) % len(running)), now)
            case "withdraw" if finals or partials:
                waiting = [*finals, *partials.values()]
                work = waiting[int(value) % len(waiting)]
                assert schedule.withdraw(work)
                assert not schedule.withdraw(work)
                finals = [one for one in finals if one is not work]
                partials = {owner: one for owner, one in partials.items() if one is not work}
            case "wait":
                now += value
            case _:
                pass
        while work_now := schedule.begin(now):
            if work_now.is_final:
                assert work_now.due == min(one.due for one in finals)
                finals.remove(work_now)
            else:
                # No partial before a final, and the one that is due first.
                assert not finals
                assert work_now is partials.pop(work_now.owner)
                assert all(work_now.due <= one.due for one in partials.values())
            running.append(work_now)
        # No worker is idle while a final waits, and none does more than one thing.
        assert len(running) <= workers
        assert not finals or len(running) == workers
        assert all(one in running and not one.is_final for one in schedule.give_way())
    # Nobody waits for ever: when what runs ends, all has its turn.
    left = len(finals) + len(partials)
    for work in running:
        schedule.end(work, now)
    for _ in range(left):
        while not (last := work_off(schedule, now)):
            assert now < schedule.wake_at() < float("inf")
            now = schedule.wake_at()
        assert last in finals or last in partials.values()
    assert work_off(schedule, now) is None


@given(st.lists(st.floats(0.01, 0.5), min_size=4, max_size=30))
def test_a_final_is_not_overtaken_for_ever(gaps: list[float]) -> None:
    schedule = Schedule(1)
    waits = schedule.final(1.0)
    now = 0.0
    for gap in gaps:
        now += gap
        schedule.final(now + 0.3)
        if work_off(schedule, now) is waits:
            assert now + 0.3 >= 1.0
            return
        assert now + 0.3 <= 1.0
