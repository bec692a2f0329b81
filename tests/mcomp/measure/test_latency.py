from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcomp.measure import latency as timing
from mcomp.measure.latency import interleaved, latency, speedup


class Clock:
    """Time that passes only when a session runs."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class FakeSession:
    """Takes `seconds` a call, and more on a machine that slows down as time passes."""

    def __init__(self, clock: Clock, name: str, seconds: float, log: list[str], drift: float = 0.0) -> None:
        self.clock, self.name, self.seconds, self.log, self.drift = clock, name, seconds, log, drift

    def run(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        self.clock.now += self.seconds * (1 + self.drift * self.clock.now)
        self.log.append(self.name)
        return np.zeros(1)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def test_a_turn_is_long_and_a_slow_file_gets_one_call(clock: Clock) -> None:
    log: list[str] = []
    sessions = {"fast": FakeSession(clock, "f", 0.0011, log), "slow": FakeSession(clock, "s", 0.05, log)}
    turns = interleaved(sessions, {}, rounds=4, warmup=2)
    assert log[:4] == ["f", "f", "s", "s"]
    rounds = "".join(log[4:])
    assert rounds == "ffffffffffs" + "sffffffffff" + "ffffffffffs" + "sffffffffff"
    assert turns["fast"] == pytest.approx([1.1] * 4)
    assert turns["slow"] == pytest.approx([50] * 4)


def test_a_machine_that_slows_down_does_not_change_the_ratio(clock: Clock) -> None:
    log: list[str] = []
    sessions = {"a": FakeSession(clock, "a", 0.03, log, 0.1), "b": FakeSession(clock, "b", 0.01, log, 0.1)}
    turns = interleaved(sessions, {}, rounds=40)
    assert turns["a"][-1] > 1.1 * turns["a"][0]
    assert speedup(turns["a"], turns["b"]) == pytest.approx(3, rel=0.01)


def test_latency_is_the_median_and_the_spread_of_the_turns() -> None:
    measured = latency([5.0, 1.0, 2.0, 3.0, 4.0, 100.0, 6.0, 7.0, 8.0, 9.0, 10.0])
    assert (measured.p10_ms, measured.median_ms, measured.p90_ms, measured.rounds) == (2.0, 6.0, 10.0, 11)


@given(st.lists(st.tuples(st.floats(0.1, 100), st.floats(0.1, 100)), min_size=1, max_size=9))
def test_exchanging_the_two_inverts_the_speedup_of_an_odd_number_of_rounds(pairs) -> None:
    baseline, candidate = zip(*(pairs if len(pairs) % 2 else pairs[:-1] or pairs), strict=True)
    if len(baseline) % 2:
        assert speedup(baseline, candidate) == pytest.approx(1 / speedup(candidate, baseline))


def test_one_disturbed_round_does_not_move_the_speedup() -> None:
    assert speedup([4.0, 4.0, 400.0], [2.0, 2.0, 2.0]) == 2.0
