"""What is written down comes back, of its own type; what is something else is refused."""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar

import msgspec
import pytest
from msgspec import Struct

from antiphon.session.kept import dump, load


class Point(Struct, frozen=True):
    x: int
    name: str = ""


class Inner:
    KEPT: ClassVar[dict[str, Any]] = {"points": list[Point], "last": Point | None}

    def __init__(self) -> None:
        self.points: deque[Point] = deque(maxlen=2)
        self.last: Point | None = None


class Outer:
    KEPT: ClassVar[dict[str, Any]] = {"count": int, "at": float, "pair": tuple[int, int], "inner": Inner}

    def __init__(self) -> None:
        self.count = 0
        self.at = float("inf")
        self.pair = (0, 0)
        self.inner = Inner()
        self.passing = "not kept"


def filled() -> Outer:
    part = Outer()
    part.count, part.at, part.pair, part.passing = 2**40, 1.5, (3, 4), "other"
    part.inner.points += [Point(1, "é"), Point(2)]
    part.inner.last = Point(3)
    return part


def test_all_that_is_named_comes_back() -> None:
    part = Outer()
    load(part, dump(filled()))
    assert (part.count, part.at, part.pair, part.passing) == (2**40, 1.5, (3, 4), "not kept")
    assert (list(part.inner.points), part.inner.last) == ([Point(1, "é"), Point(2)], Point(3))


def test_what_is_bounded_stays_so() -> None:
    part = Outer()
    load(part, dump(filled()))
    part.inner.points.append(Point(9))
    assert list(part.inner.points) == [Point(2), Point(9)]


def test_infinity_and_nothing_come_back() -> None:
    part = filled()
    load(part, dump(Outer()))
    assert (part.at, part.inner.last, list(part.inner.points)) == (float("inf"), None, [])


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"count": 1, "at": 1.0, "pair": [1, 2]},
        {"count": "1", "at": 1.0, "pair": [1, 2], "inner": {"points": [], "last": None}},
        {"count": 1, "at": 1.0, "pair": [1], "inner": {"points": [], "last": None}},
        {"count": 1, "at": 1.0, "pair": [1, 2], "inner": {"points": [{"name": ""}], "last": None}},
        {"count": 1, "at": 1.0, "pair": [1, 2], "inner": {"points": [], "last": 5}},
        [],
    ],
)
def test_another_form_is_refused(state: object) -> None:
    with pytest.raises(msgspec.DecodeError):
        load(Outer(), msgspec.msgpack.encode(state))


@pytest.mark.parametrize("state", [[1, 2], None, 5, "points"])
def test_so_is_a_part_that_is_none(state: object) -> None:
    whole = {"count": 1, "at": 1.0, "pair": [1, 2], "inner": state}
    with pytest.raises(msgspec.DecodeError):
        load(Outer(), msgspec.msgpack.encode(whole))


@pytest.mark.parametrize("data", [b"", b"\xc1", dump(filled())[:-1]])
def test_so_is_what_is_no_state_at_all(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        load(Outer(), data)


def test_what_cannot_be_written_down_is_an_error_of_the_program() -> None:
    part = Outer()
    part.count = object()  # type: ignore[assignment]
    with pytest.raises(TypeError, match="object cannot be kept"):
        dump(part)
