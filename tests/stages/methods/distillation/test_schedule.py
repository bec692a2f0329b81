from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcomp_stages.methods.distillation.schedule import value_at
from mcomp_stages.methods.distillation.terms import Ramp


@given(st.floats(0, 1))
def test_a_number_stays_what_it_is(progress: float) -> None:
    assert value_at(4.0, progress) == 4.0


@given(st.floats(0, 1), st.floats(0.1, 1))
def test_a_ramp_goes_in_a_line_from_start_to_end(progress: float, until: float) -> None:
    done = min(1.0, progress / until)
    assert value_at(Ramp(start=8, end=2, until=until), progress) == pytest.approx(8 - 6 * done)


def test_a_cosine_ramp_is_half_way_at_half_time_and_slow_at_the_ends() -> None:
    ramp = Ramp(start=1, end=0, shape="cosine")
    assert [value_at(ramp, at) for at in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert value_at(ramp, 0.1) == pytest.approx((1 + math.cos(0.1 * math.pi)) / 2)
