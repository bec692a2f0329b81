"""What each part bears, and which part costs most."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mcomp.sensitivity.record import USUAL_LIMIT, Cost, asked, borne

DROPS = st.lists(st.floats(-1, 1, allow_nan=False), min_size=1, max_size=5)


def costs_of(part: str, drops: list[float]) -> list[Cost]:
    return [Cost(part=part, level=float(at), value=0.0, cost=drop) for at, drop in enumerate(drops)]


def slow_borne(drops: list[float], limit: float) -> float | None:
    """Level after level, until the first that costs too much."""
    last = None
    for at, drop in enumerate(drops):
        if drop > limit:
            return last
        last = float(at)
    return last


@given(first=DROPS, second=DROPS, limit=st.floats(-1, 1))
def test_a_part_bears_the_levels_before_the_first_that_costs_too_much(
    first: list[float], second: list[float], limit: float
) -> None:
    found = borne([*costs_of("a", first), *costs_of("b", second)], limit)
    assert found == {"a": slow_borne(first, limit), "b": slow_borne(second, limit)}


def test_what_is_not_said_is_the_usual() -> None:
    assert asked("task", None, (), None).limit == USUAL_LIMIT["task"]
    assert asked("sqnr", None, (), None).samples == 128
    assert asked("task", 0.0, (4.0,), 7).limit == 0.0
