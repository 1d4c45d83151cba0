"""Ratios, goals and tables of the benchmark."""

from __future__ import annotations

from bench import tables
from bench.measuring import Rung
from bench.tables import Goal, Results


def results() -> Results:
    found = Results("up", 300)
    for number, (ours, theirs) in enumerate([(100.0, 300.0), (110.0, 250.0), (90.0, 310.0)]):
        found.add("antiphon", number, cpu_us=ours, sessions=1000 + number)
        found.add("fastapi", number, cpu_us=theirs, sessions=240)
    found.add("antiphon", 3, cpu_us=500.0)
    return found


def test_ratios_are_within_a_round() -> None:
    assert results().ratios("antiphon", "fastapi", "cpu_us") == [100 / 300, 110 / 250, 90 / 310]
    assert results().ratios("antiphon", "node", "cpu_us") == []


def test_goals_are_held_against_medians() -> None:
    goals = {row[1]: row[2:] for row in tables.goals_table(results())[1:]}
    assert goals == {
        "sessions a core / fastapi ≥ 4": ["4.17 (4.17–4.17)", "reached"],
        "µs a chunk / fastapi ≤ 0.4": ["0.33 (0.29–0.44)", "reached"],
    }
    assert tables.reached(results())


def test_a_goal_that_is_missed() -> None:
    found = results()
    for number in range(3):
        found.add("antiphon", number, sessions=900)
    assert tables.goals_table(found)[1][2:] == ["3.75 (3.75–3.75)", "MISSED"]
    assert not tables.reached(found)


def test_goals_of_the_other_mode_do_not_count() -> None:
    found = results()
    found.mode = "updown"
    assert [row[1] for row in tables.goals_table(found)[1:]] == ["sessions a core / fastapi ≥ 2"]


def test_limits_without_another_system() -> None:
    goal = Goal("load_kb", 40.0)
    assert goal.told() == "KB at load ≤ 40"
    assert goal.reached([50.0, 39.0, 40.0])
    assert not goal.reached([50.0, 41.0, 40.0])


def test_numbers_and_spreads() -> None:
    shown = [tables.number(value) for value in (0.0, 0.1234, 3.456, 45.67, 1234.5)]
    assert shown == ["0", "0.12", "3.46", "45.7", "1234"]
    assert tables.spread([], tables.number) == "–"
    assert tables.spread([2.0], tables.number) == "2.00"
    assert tables.spread([2.0, 1.0, 4.0], tables.number) == "2.00 (1.00–4.00)"


def test_the_tables() -> None:
    assert tables.markdown(tables.measured_table(results())) == (
        "| system | sessions a core | µs a chunk |\n"
        "| --- | --- | --- |\n"
        "| antiphon | 1001 (1000–1002) | 105 (90.0–500) |\n"
        "| fastapi | 240 (240–240) | 300 (250–310) |"
    )
    found = results()
    found.rungs["antiphon"] = [Rung(100, 2.0, True), Rung(200, 30.0, False), Rung(300, float("nan"), False)]
    page = tables.page([found], "a machine")
    assert page.count("<circle") == 2
    assert "reached" in page
