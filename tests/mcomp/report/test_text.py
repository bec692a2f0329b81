from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcomp.report import text


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (text.size(0), "0 B"),
        (text.size(999), "999 B"),
        (text.size(999_800), "1.00 MB"),
        (text.size(1_180_000), "1.18 MB"),
        (text.size(17_300_000), "17.3 MB"),
        (text.count(4_330_000), "4.33 M"),
        (text.count(270), "270"),
        (text.count(999_499), "999 k"),
        (text.ratio(10.31), "10.3×"),
        (text.ratio(0.914), "0.91×"),
        (text.ratio(137.4), "137×"),
        (text.milliseconds(0.2114), "0.211 ms"),
        (text.milliseconds(12.34), "12.3 ms"),
        (text.metric(0.992), "0.9920"),
        (text.metric(1234.56), "1235"),
        (text.change(-0.0042), "−0.0042"),
        (text.change(0.002), "+0.0020"),
        (text.change(-0.00001), "±0"),
        (text.seconds(0.04), "0.0 s"),
        (text.seconds(59.7), "1 min 00 s"),
        (text.seconds(156), "2 min 36 s"),
        (text.seconds(3725), "1 h 02 min"),
        (text.figure("best"), "best"),
    ],
)
def test_figures_read_like_a_persons(shown: str, expected: str) -> None:
    assert shown == expected


@pytest.mark.parametrize(
    "show", [text.size, text.count, text.ratio, text.milliseconds, text.metric, text.change]
)
def test_a_figure_that_is_not_known_is_a_dash(show) -> None:
    assert show(None) == text.NONE


@given(st.floats(1, 1e11))
def test_scaling_keeps_three_digits_of_the_number(value: float) -> None:
    number, _, unit = text.count(value).partition(" ")
    factor = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[unit]
    assert float(number) * factor == pytest.approx(value, rel=0.0051, abs=0.5)


@given(st.text())
def test_nothing_cleaned_can_steer_a_terminal(name: str) -> None:
    cleaned = text.clean(name)
    assert len(cleaned) == len(name)
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in cleaned)


def test_the_writing_direction_cannot_be_turned() -> None:
    assert text.clean("a\u202egnp.exe") == "a�gnp.exe"
