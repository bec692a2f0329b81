"""What is interrupted anywhere and goes on gives the bytes of what was never interrupted."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load
from safetensors.torch import save as saved
from torch import Tensor

from mcomp.data.contract import Batch
from mcomp.fingerprint import effective
from mcomp.model.checkpoint import save_model
from mcomp.model.edits import Masks
from mcomp.model.model import Model
from mcomp.recipe.schema import RecipeRef
from mcomp.signals import raising
from mcomp.stage import Context
from mcomp.training import loop
from mcomp.training.config import (
    SGD,
    AdamW,
    Checkpointing,
    EarlyStop,
    Gradients,
    OneCycle,
    Step,
    Training,
)
from mcomp.training.loop import fit
from mcomp_stages.methods.distillation.config import DistilledTraining
from mcomp_stages.methods.distillation.training import fit_with_teachers
from mcomp_stages.quantize.qat import QuantizeQat
from tests.mcomp.training.checkpoints import Memory, crash, interrupted_at, terminate
from tests.mcomp.training.setting import Quiet, label_loss, make_context, small_model

TEACHER = RecipeRef(recipe="teacher.yaml")
SGD_STEP = torch.optim.SGD.step
NUM_UPDATES = 9  # three epochs of three batches
OFTEN = Checkpointing(every_steps=2)
NEVER = Checkpointing()

Run = Callable[[Context, Checkpointing], tuple[Model, Any]]


class Talking(Quiet):
    """A reporter that keeps what it was told, and how far it was advanced each time."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.advances: list[int] = []

    def log(self, message: str) -> None:
        self.said.append(message)

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        self.advances.append(steps)


def with_momentum(context: Context, often: Checkpointing) -> tuple[Model, Any]:
    training = Training(epochs=3, optimizer=SGD(lr=0.3), schedule=OneCycle(), clip_norm=0.5, checkpoint=often)
    result = fit(small_model(), training, context, label="train", loss=label_loss)
    return result.model, result.facts()


def with_early_stop(context: Context, often: Checkpointing) -> tuple[Model, Any]:
    training = Training(
        epochs=9,
        optimizer=AdamW(lr=10),
        schedule=Step(milestones=(0.2,)),
        early_stop=EarlyStop(patience=1),
        checkpoint=often,
    )
    result = fit(small_model(), training, context, label="train", loss=label_loss)
    return result.model, result.facts()


def with_masks(context: Context, often: Checkpointing) -> tuple[Model, Any]:
    model = small_model().edited(Masks(names=("conv.weight",)))
    model.state["masks.conv.weight"] = torch.arange(36).reshape(4, 1, 3, 3) % 3 > 0
    training = Training(epochs=3, keep="last", checkpoint=often)
    result = fit(model, training, context, label="train", loss=label_loss)
    return result.model, result.facts()


def with_rounded_gradients(context: Context, often: Checkpointing) -> tuple[Model, Any]:
    training = Training(epochs=3, gradients=Gradients(bits=4), checkpoint=often)
    result = fit(small_model(), training, context, label="train", loss=label_loss)
    return result.model, result.facts()


def with_other_generators(context: Context, often: Checkpointing) -> tuple[Model, Any]:
    def loss(batch: Batch, output: Tensor) -> Tensor:
        return label_loss(batch, output) * (1 + random.random() + np.random.rand())

    result = fit(small_model(), Training(epochs=3, checkpoint=often), context, label="train", loss=loss)
    return result.model, result.facts()


def with_teachers(context: Context, often: Checkpointing) -> tuple[Model, Any]:
    context = replace(context, models={TEACHER: small_model(seed=5)})
    training = DistilledTraining(epochs=3, teachers=(TEACHER,), checkpoint=often)
    result = fit_with_teachers(small_model(), training, context, "distill")
    return result.model, result.facts()


def with_features(context: Context, often: Checkpointing) -> tuple[Model, Any]:
    """Adapters are trained beside the student, and a weight depends on how far the training is."""
    context = replace(context, models={TEACHER: small_model(seed=5)})
    terms = ({"type": "kd", "weight": {"start": 0.1, "end": 0.9}}, {"type": "crd"})
    training = DistilledTraining.model_validate(
        {"epochs": 3, "teachers": (TEACHER,), "checkpoint": often, "loss": terms}
    )
    result = fit_with_teachers(small_model(), training, context, "distill")
    return result.model, result.facts()


def with_quantizers(context: Context, often: Checkpointing) -> tuple[Model, Any]:
    stage = QuantizeQat(training=DistilledTraining(epochs=3, optimizer=SGD(lr=0.05), checkpoint=often))
    result = stage.run(small_model(), context)
    assert result.model is not None
    return result.model, result.facts


def with_learned_scales(context: Context, often: Checkpointing) -> tuple[Model, Any]:
    asked = {"weights": {"bits": 3}, "activations": {"bits": 3}, "moving_statistics": 0.5}
    stage = QuantizeQat.model_validate(
        {**asked, "method": {"type": "lsq+", "lr": 0.01}, "training": {"epochs": 3}}
    )
    training = stage.training.model_copy(update={"checkpoint": often})
    result = stage.model_copy(update={"training": training}).run(small_model(), context)
    assert result.model is not None
    return result.model, result.facts


RUNS: tuple[Run, ...] = (
    with_momentum,
    with_early_stop,
    with_masks,
    with_rounded_gradients,
    with_other_generators,
    with_teachers,
    with_features,
    with_quantizers,
    with_learned_scales,
)


@pytest.fixture(scope="module", params=RUNS, ids=lambda run: str(run.__name__))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Any]:
    run: Run = request.param
    torch.set_num_threads(1)
    return run, written(run(context(), NEVER), tmp_path_factory.mktemp("whole"))


def context(checkpoints: Memory | None = None) -> Context:
    return replace(make_context(), checkpoints=checkpoints or Memory(), reporter=Talking())


def written(result: tuple[Model, Any], folder: Path) -> tuple[dict[str, bytes], str]:
    """Return a model as the bytes of its files, and what the report says of it."""
    model, facts = result
    save_model(model, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}, json.dumps(facts, sort_keys=True)


def test_stopped_by_a_signal_at_any_update_it_gives_the_same_bytes(
    case: tuple[Run, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, whole = case
    for update in range(NUM_UPDATES):
        kept, reporter = context(Memory()), Talking()
        assert interrupted_at(update, terminate, partial(run, kept, NEVER), monkeypatch) is None
        again = replace(kept, reporter=reporter)
        assert written(run(again, NEVER), tmp_path / str(update)) == whole, update
        assert reporter.advances[0] == update + 1


@pytest.mark.parametrize("update", [0, 3, 6])
def test_after_a_crash_it_goes_on_from_the_last_state_and_gives_the_same_bytes(
    update: int, case: tuple[Run, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, whole = case
    kept, reporter = context(Memory()), Talking()
    assert interrupted_at(update, crash, partial(run, kept, OFTEN), monkeypatch) is None
    assert written(run(replace(kept, reporter=reporter), OFTEN), tmp_path) == whole
    assert reporter.advances[0] == update // 2 * 2


def test_interrupted_again_and_again_it_gives_the_same_bytes(
    case: tuple[Run, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, whole = case
    kept = context(Memory())
    for _ in range(NUM_UPDATES):  # one update a try
        assert interrupted_at(0, terminate, lambda: run(kept, NEVER), monkeypatch) is None
    assert written(run(kept, NEVER), tmp_path) == whole


def interrupt_validation(stopped: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt one validation, and let all of them draw from the generator that training draws from."""
    numbers, evaluate = iter(range(1000)), loop.evaluate

    def drawing(*arguments: Any, **options: Any) -> Any:
        torch.rand(1)
        if next(numbers) == stopped:
            raise KeyboardInterrupt
        return evaluate(*arguments, **options)

    monkeypatch.setattr(loop, "evaluate", drawing)


@pytest.mark.parametrize("epoch", range(3))
def test_interrupted_while_it_validates_it_trains_on_no_batch_again(
    epoch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = written(with_momentum(context(), NEVER), tmp_path / "whole")
    kept = context(Memory())
    interrupt_validation(epoch, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        with_momentum(kept, NEVER)
    reporter = Talking()
    assert written(with_momentum(replace(kept, reporter=reporter), NEVER), tmp_path / "resumed") == whole
    updates = 3 * (epoch + 1)
    assert reporter.advances == [updates, *[1] * (NUM_UPDATES - updates)]


def test_a_state_that_is_half_changed_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second signal does not wait: the weights are new, and the schedule is not."""
    whole = written(with_momentum(context(), OFTEN), tmp_path / "whole")
    kept, step = Memory(), SGD_STEP
    calls = iter(range(1000))

    def interrupted(*arguments: Any, **options: Any) -> Any:
        result = step(*arguments, **options)
        if next(calls) == 4:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(torch.optim.SGD, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        with_momentum(context(kept), OFTEN)
    monkeypatch.undo()
    assert len(kept.kept["train"]) == 2
    assert written(with_momentum(context(kept), OFTEN), tmp_path / "resumed") == whole


class Deaf(Talking):
    """A reporter that is told of a signal after the second update, and swallows it."""

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        super().advance(steps, **figures)
        if sum(self.advances) == 2:
            with suppress(KeyboardInterrupt):
                terminate()


def test_a_signal_that_something_swallowed_stops_before_the_next_batch(tmp_path: Path) -> None:
    whole, kept = written(with_momentum(context(), NEVER), tmp_path / "whole"), context(Memory())
    with raising(), pytest.raises(KeyboardInterrupt):
        with_momentum(replace(kept, reporter=Deaf()), NEVER)
    reporter = Talking()
    assert written(with_momentum(replace(kept, reporter=reporter), NEVER), tmp_path / "resumed") == whole
    assert reporter.advances[0] == 2


def test_the_best_epoch_is_not_the_last_where_training_stops_early() -> None:
    assert len(with_early_stop(context(), NEVER)[1]["history"]) == 3
    assert with_early_stop(context(), NEVER)[1]["best_epoch"] == 2


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    kept = context(Memory())
    whole = written(with_momentum(kept, NEVER), tmp_path / "whole")
    reporter = Talking()
    assert written(with_momentum(replace(kept, reporter=reporter), NEVER), tmp_path / "again") == whole
    assert reporter.advances == [NUM_UPDATES]
    assert reporter.said == ["train goes on after update 9"]


@pytest.mark.parametrize(
    ("often", "expected"),
    [
        (Checkpointing(every_steps=2), [2, 4, 6, 8, 9]),
        (Checkpointing(every_steps=9), [9, 9]),
        (Checkpointing(every_seconds=1e-9), [*range(1, 10), 9]),
        (NEVER, [9]),
    ],
)
def test_a_state_is_kept_as_often_as_asked_and_at_the_end(often: Checkpointing, expected: list[int]) -> None:
    kept = Memory()
    with_momentum(context(kept), often)
    places = [json.loads(numbers)["place"] for _, numbers in kept.kept["train"]]
    assert [3 * place["epoch"] + place["position"] for place in places] == expected


def test_two_trainings_of_a_stage_have_states_of_their_own(tmp_path: Path) -> None:
    def both(context: Context) -> tuple[Model, Any]:
        first = fit(small_model(), Training(epochs=1), context, label="first", loss=label_loss)
        second = fit(first.model, Training(epochs=2), context, label="second", loss=label_loss)
        return second.model, second.facts()

    kept = Memory()
    whole = written(both(context(kept)), tmp_path / "whole")
    assert kept.kept.keys() == {"first", "second"}
    del kept.kept["second"]
    assert written(both(context(kept)), tmp_path / "resumed") == whole


def test_how_often_states_are_kept_is_no_part_of_what_a_result_depends_on() -> None:
    plain, often = Training(epochs=1), Training(epochs=1, checkpoint=OFTEN)
    assert effective(plain) == effective(often)


PARTS = ("module", "optimizer", "best", "random", "groups", "schedule", "place", "loss_sum", "history")


@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_a_state_is_needed(part: str, tmp_path: Path) -> None:
    """A state with one part of an earlier one gives another result."""
    kept = Memory()
    whole = written(with_early_stop(context(kept), Checkpointing(every_steps=1)), tmp_path / "whole")
    early, late = kept.kept["train"][0], kept.kept["train"][7]  # the second of three epochs is the best
    mixed = Memory({"train": [mixture(late, early, part)]})
    assert written(with_early_stop(context(mixed), NEVER), tmp_path / "mixed") != whole
    unmixed = Memory({"train": [late]})
    assert written(with_early_stop(context(unmixed), NEVER), tmp_path / "late") == whole


def mixture(late: tuple[bytes, str], early: tuple[bytes, str], part: str) -> tuple[bytes, str]:
    """Return a late state with one part, some tensors or a number, of an early one."""
    tensors, old_tensors = load(late[0]), load(early[0])
    numbers, old_numbers = json.loads(late[1]), json.loads(early[1])
    inside = numbers["optimizer"] if part == "groups" else numbers
    old_inside = old_numbers["optimizer"] if part == "groups" else old_numbers
    if part in inside:
        inside[part] = old_inside[part]
    others = {name: each for name, each in tensors.items() if not name.startswith(f"{part}/")}
    own = {name: each for name, each in old_tensors.items() if name.startswith(f"{part}/")}
    if part == "optimizer":
        numbers[part] = old_numbers[part]
    return saved({**others, **own}), json.dumps(numbers)
