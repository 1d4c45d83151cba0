"""Usage: what every message says, added up, is what the session used."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from antiphon.extension import UsageUpdate
from antiphon.live import Metered
from antiphon.session.metering import Meter

NOW = 1000.0


def tokens(update: UsageUpdate | None) -> tuple[int, int, int]:
    assert update
    return update.turn.prompt_tokens, update.turn.response_tokens, update.turn.total_tokens


def test_nothing_used_is_nothing_to_tell() -> None:
    meter = Meter()
    assert meter.take(NOW) is None
    meter.count(Metered(0, 0, 0))
    assert meter.take(NOW) is None


def test_what_is_new_and_the_whole() -> None:
    meter = Meter()
    meter.audio_in_ms += 1500.5
    meter.count(Metered(10, 5, 15))
    first = meter.take(NOW)
    assert first
    assert first.turn == first.session
    assert (first.timestamp, first.turn.audio_in_ms, first.turn.audio_out_ms) == (1_000_000, 1500.5, 0)
    meter.audio_out_ms += 100
    meter.count(Metered(12, 9, 21))
    second = meter.take(NOW)
    assert tokens(second) == (2, 4, 6)
    assert second
    assert (second.turn.audio_in_ms, second.turn.audio_out_ms) == (0, 100)
    assert (second.session.audio_in_ms, second.session.total_tokens) == (1500.5, 21)
    assert meter.take(NOW) is None


def test_a_lower_count_gives_nothing_back() -> None:
    meter = Meter()
    meter.count(Metered(10, 5, 15))
    meter.take(NOW)
    meter.count(Metered(4, 2, 6))
    assert meter.take(NOW) is None
    meter.count(Metered(11, 5, 16))
    assert tokens(meter.take(NOW)) == (1, 0, 1)


def test_another_connection_counts_from_nothing() -> None:
    meter = Meter()
    meter.count(Metered(10, 5, 15))
    meter.begin_connection()
    meter.count(Metered(3, 1, 4))
    assert tokens(meter.take(NOW)) == (13, 6, 19)


counts = st.integers(0, 10_000)
STEPS = st.one_of(
    st.builds(Metered, counts, counts, counts),
    st.tuples(st.sampled_from(["in", "out"]), st.floats(0, 1e4)),
    st.sampled_from(["take", "connect"]),
)


@given(st.lists(STEPS, max_size=40))
def test_turns_add_up_to_the_session(steps: list[Metered | tuple[str, float] | str]) -> None:
    meter, told = Meter(), []
    for step in [*steps, "take"]:
        match step:
            case Metered():
                meter.count(step)
            case "connect":
                meter.begin_connection()
            case "take":
                told.append(meter.take(NOW))
            case "in", duration_ms:
                meter.audio_in_ms += float(duration_ms)
            case _, duration_ms:
                meter.audio_out_ms += float(duration_ms)
    updates = [update for update in told if update]
    for name in ("audio_in_ms", "audio_out_ms", "prompt_tokens", "response_tokens", "total_tokens"):
        turns = [getattr(update.turn, name) for update in updates]
        assert all(value >= 0 for value in turns)
        whole = getattr(updates[-1].session, name) if updates else 0
        assert abs(sum(turns) - whole) < 0.01
