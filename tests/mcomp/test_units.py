"""Work that an interrupted step had finished is found again by the next try, and by nobody after that."""

from __future__ import annotations

import json
import signal
import struct
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import torch

from mcomp import plugins
from mcomp.model.model import Model
from mcomp.plan import Plan, make_plan
from mcomp.recipe.build import load_recipe
from mcomp.scheduler import Scheduler, set_aside
from mcomp.signals import Interrupted, raising
from mcomp.stage import Checkpoint, Context, Form, NoCheckpoints, StageConfig, StageResult
from mcomp.store.store import Store
from tests.mcomp.toys import RECIPE
from tests.mcomp.training.checkpoints import Memory
from tests.mcomp.training.setting import make_context
from tests.mcomp.voices import Quiet


@plugins.stage("toy.units")
class ToyUnits(StageConfig):
    """Adds a number that takes long to find, and stops before or after it while it is told to."""

    forms = {Form.FLOAT: Form.FLOAT}
    type: Literal["toy.units"] = "toy.units"
    found: ClassVar[int] = 0
    stops: ClassVar[bool] = False

    def run(self, model: Model, context: Context) -> StageResult:
        unit = context.unit("number", self.search)
        if self.stops:
            raise KeyboardInterrupt
        result = model.copy()
        with torch.no_grad():
            for parameter in result.module.parameters():
                parameter += unit.tensors["number"]
        return StageResult(result, facts=unit.numbers)

    def search(self) -> Checkpoint:
        type(self).found += 1
        return Checkpoint({"number": torch.tensor(0.1)}, {"where": "far", "tries": self.found})


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr(ToyUnits, "found", 0)
    path = tmp_path / "toy.yaml"
    path.write_text(RECIPE.replace("{type: toy.fit, by: 0.5}", "{type: toy.units}"))
    return make_plan(load_recipe(path, ()))


@pytest.fixture
def last_words() -> Quiet:
    """Hold what the run that is interrupted says."""
    return Quiet()


@pytest.fixture
def interrupted(plan: Plan, last_words: Quiet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return a store in which the step was interrupted after its unit."""
    store = Store(tmp_path / "store")
    monkeypatch.setattr(ToyUnits, "stops", True)
    with pytest.raises(KeyboardInterrupt):
        Scheduler(plan, store, last_words).execute()
    monkeypatch.setattr(ToyUnits, "stops", False)
    return store


def step_key(plan: Plan) -> str:
    return plan.pipeline["more"]


def test_a_finished_unit_is_not_done_again(plan: Plan, interrupted: Store, tmp_path: Path) -> None:
    resumed = Scheduler(plan, interrupted, Quiet()).execute()
    assert ToyUnits.found == 1
    whole = Scheduler(plan, Store(tmp_path / "whole"), Quiet()).execute()
    assert ToyUnits.found == 2
    weights = [
        (outcome_store.artifact_folder(step_key(plan)) / "model" / "weights.safetensors").read_bytes()
        for outcome_store in (interrupted, Store(tmp_path / "whole"))
    ]
    assert weights[0] == weights[1]
    assert resumed.ledger.rows[1].facts == {"where": "far", "tries": 1}
    assert whole.ledger.rows[1].facts == {"where": "far", "tries": 2}


def test_nothing_is_left_of_a_step_whose_result_is_there(plan: Plan, interrupted: Store) -> None:
    assert interrupted.checkpoints_folder(step_key(plan)).is_dir()
    Scheduler(plan, interrupted, Quiet()).execute()
    assert list((interrupted.root / "checkpoints").iterdir()) == []


def test_what_a_run_left_that_was_killed_after_publishing_goes_at_the_next_hit(
    plan: Plan, interrupted: Store
) -> None:
    Scheduler(plan, interrupted, Quiet()).execute()
    interrupted.checkpoints_folder(step_key(plan)).mkdir()
    Scheduler(plan, interrupted, Quiet()).execute()
    assert list((interrupted.root / "checkpoints").iterdir()) == []


def test_a_fresh_start_does_not_go_on_from_what_was_interrupted(plan: Plan, interrupted: Store) -> None:
    set_aside(plan, interrupted)
    Scheduler(plan, interrupted, Quiet()).execute()
    assert ToyUnits.found == 2


def test_other_threads_do_not_go_on_from_what_was_interrupted(plan: Plan, interrupted: Store) -> None:
    reporter = Quiet()
    torch.set_num_threads(2)
    Scheduler(plan, interrupted, reporter).execute()
    assert ToyUnits.found == 2
    assert "it was made elsewhere (threads 1, here 2)" in reporter.warned[0]


def test_who_interrupted_a_run_is_told_how_to_go_on(interrupted: Store, last_words: Quiet) -> None:
    assert last_words.said == ["what is done is kept: run the same command again to go on"]


def test_a_unit_is_the_same_whether_it_was_found_now_or_before() -> None:
    """What is made of it goes by the order of names, and numbers by that of memory."""
    weight = torch.arange(6.0).view(2, 3).mT
    found = Checkpoint({"b": weight, "a": torch.tensor([True])}, {"z": (1, 2), "y": {"k": 1, "j": 2.5}})
    context, kept = make_context(), Memory()
    now = context.unit("search", lambda: found)
    first, later = (replace(context, checkpoints=kept).unit("search", lambda: found) for _ in range(2))
    for each in (now, first, later):
        assert list(each.tensors) == ["a", "b"]
        assert each.tensors["b"].is_contiguous()
        assert torch.equal(each.tensors["b"], weight)
        assert json.dumps(each.numbers) == '{"y": {"j": 2.5, "k": 1}, "z": [1, 2]}'


@pytest.mark.parametrize("value", [0.1, -1e300, float("inf"), float("nan")])
def test_any_figure_is_kept_to_the_bit(value: float) -> None:
    context = replace(make_context(), checkpoints=Memory())
    first, later = context.figure("loss", lambda: value), context.figure("loss", lambda: 7.0)
    assert struct.pack("d", first) == struct.pack("d", later) == struct.pack("d", value)


def test_a_signal_that_something_swallowed_stops_before_the_next_unit() -> None:
    def compute() -> Checkpoint:
        raise AssertionError("begun after a signal")

    with raising():
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted):
            make_context().unit("search", compute)


def test_outside_of_a_store_nothing_is_kept() -> None:
    nowhere = NoCheckpoints()
    nowhere.save("number", Checkpoint())
    assert nowhere.load("number") is None
