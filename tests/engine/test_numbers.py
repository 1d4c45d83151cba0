"""English numbers as words."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.engine import numbers


@settings(deadline=None)
@given(st.integers(0, 9_999))
def test_every_cardinal_is_read_back(value: int) -> None:
    assert numbers.parse(numbers.cardinal(value).replace("-", " ").split()) == value


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("12", 12),
        ("-3", -3),
        ("1.5", 1.5),
        ("two point five", 2.5),
        ("point five", 0.5),
        ("3 point 1 4", 3.14),
        ("minus four", -4),
        ("negative two point five", -2.5),
        ("a hundred and five", 105),
        ("a thousand", 1_000),
        ("two thousand and twenty six", 2_026),
        ("one million two thousand", 1_002_000),
        ("to", 2),
        ("for", 4),
    ],
)
def test_says(said: str, value: float) -> None:
    assert numbers.parse(said.split()) == value


@pytest.mark.parametrize(
    "said",
    [
        *(
            "",
            "go",
            "two three",
            "hundred",
            "zero five",
            "and",
            "five and",
            "twenty ten",
            "minus",
            "minus go",
        ),
        *("thousand", "two thousand one million", "a", "an hundred", "five point", "five point ten", "go to"),
        *(
            "two point five point one",
            "point",
            "1.5 point 2",
            "9" * 16,
            "to two",
            "five a hundred",
            "twenty hundred",
        ),
    ],
)
def test_says_no_number(said: str) -> None:
    assert numbers.parse(said.split()) is None


def test_ordinals() -> None:
    said = " ".join(numbers.ordinal(day) for day in (1, 2, 3, 4, 5, 8, 9, 12, 15, 20, 21, 30, 31, 40))
    assert said == (
        "first second third fourth fifth eighth ninth twelfth fifteenth twentieth twenty-first "
        "thirtieth thirty-first fortieth"
    )


def test_years() -> None:
    said = {year: numbers.year(year) for year in (1900, 1905, 1999, 2000, 2009, 2010, 2026, 2100)}
    assert said == {
        1900: "nineteen hundred",
        1905: "nineteen oh five",
        1999: "nineteen ninety-nine",
        2000: "two thousand",
        2009: "two thousand nine",
        2010: "twenty ten",
        2026: "twenty twenty-six",
        2100: "twenty-one hundred",
    }
