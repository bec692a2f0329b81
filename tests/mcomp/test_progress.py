"""A unit of many steps that is stopped goes on behind the last of them, and a kill costs it little."""

from __future__ import annotations

import signal
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest
import torch

from mcomp import progress
from mcomp.signals import Interrupted, raising
from mcomp.stage import Checkpoint, Context
from tests.mcomp.training.checkpoints import Crash, Memory
from tests.mcomp.training.setting import make_context

NUM_STEPS = 5


@dataclass
class Sum:
    """Adds up the numbers of its steps, each in two halves; something happens between them in one step."""

    signals: dict[int, int] = field(default_factory=dict)
    crash: int = -1
    total: torch.Tensor = field(default_factory=lambda: torch.zeros(1))
    steps: list[int] = field(default_factory=list)

    def advance(self, number: int) -> None:
        self.total += number / 2
        for _ in range(self.signals.get(number, 0)):
            signal.raise_signal(signal.SIGTERM)
        if number == self.crash:
            raise Crash
        self.total += number / 2
        self.steps.append(number)

    def state(self) -> Checkpoint:
        return Checkpoint({"total": self.total}, {"unit": ["m", 2]})

    def restore(self, state: Checkpoint, num_done: int) -> None:
        assert state.numbers == {"unit": ["m", 2]}
        assert num_done > 0
        self.total.copy_(state.tensors["total"])


@pytest.fixture
def kept() -> Memory:
    return Memory()


@pytest.fixture
def context(kept: Memory) -> Context:
    return replace(make_context(), checkpoints=kept)


def added(context: Context, process: Sum) -> float:
    def compute() -> Checkpoint:
        context.steps("sum", NUM_STEPS, process)
        return Checkpoint({"total": process.total})

    return float(context.unit("sum", compute).tensors["total"])


def test_a_signal_waits_for_the_end_of_the_step_that_it_comes_in(context: Context, kept: Memory) -> None:
    first, second = Sum(signals={2: 1}), Sum()
    with raising(), pytest.raises(Interrupted):
        added(context, first)
    assert first.steps == [0, 1, 2]
    assert added(context, second) == 10
    assert second.steps == [3, 4]
    assert list(kept.kept) == ["sum"]  # the steps are forgotten


def test_nothing_is_kept_of_a_step_that_is_cut_in_the_middle(context: Context, kept: Memory) -> None:
    """A second signal does not wait."""
    former = signal.signal(signal.SIGTERM, interrupt := raise_keyboard_interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            added(context, Sum(signals={2: 2}))
    finally:
        assert signal.signal(signal.SIGTERM, former) is interrupt
    assert kept.kept == {}
    assert added(context, Sum()) == 10


def raise_keyboard_interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def test_a_process_that_crashes_goes_on_from_what_was_kept_now_and_then(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 7))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(progress, "EVERY_SECONDS", 14)
    with pytest.raises(Crash):
        added(context, Sum(crash=3))
    second = Sum()
    assert added(context, second) == 10
    assert second.steps == [2, 3, 4]


def test_a_process_that_takes_less_than_that_keeps_nothing(context: Context, kept: Memory) -> None:
    assert added(context, Sum()) == 10
    assert {label: len(states) for label, states in kept.kept.items()} == {"sum": 1}


def test_a_signal_that_something_swallowed_stops_before_the_next_step(context: Context) -> None:
    process = Sum()
    with raising():
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted):
            context.steps("sum", NUM_STEPS, process)
    assert process.steps == []
