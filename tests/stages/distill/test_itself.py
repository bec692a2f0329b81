from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from mcomp.data.contract import Batch
from mcomp.data.splits import Splits
from mcomp.errors import StageError
from mcomp.model.checkpoint import save_model
from mcomp.model.edits import Masks
from mcomp.training.config import AdamW, Training
from mcomp.training.loop import fit
from mcomp_stages.distill import itself
from mcomp_stages.distill.itself import DistillSelf
from mcomp_stages.methods.distillation.exits import OwnTeaching, WithExits
from mcomp_stages.methods.distillation.losses import kd
from mcomp_stages.methods.distillation.past import PastTeaching, Remembering, softened_loss
from mcomp_stages.methods.distillation.self_config import OwnTeacher, PastSelf
from tests.mcomp.training.checkpoints import Memory, interrupted_at, terminate
from tests.mcomp.training.setting import (
    Quiet,
    label_loss,
    make_context,
    same,
    small_data,
    small_model,
    weights,
)
from tests.stages.samples import sample_of

BYOT = {"type": "byot", "heads": ["conv"]}
METHODS: list[dict[str, Any]] = [BYOT, {"type": "ps_kd"}, {"type": "born_again"}]


class Telling(Quiet):
    def log(self, message: str) -> None: ...


def stage(method: Mapping[str, Any], **training: Any) -> DistillSelf:
    fields = {"epochs": 3, "optimizer": AdamW(lr=0.01), **training}
    return DistillSelf.model_validate({"method": method, "training": fields})


def test_sample_in_the_manual_is_valid() -> None:
    assert DistillSelf.model_validate(sample_of(itself)).method == PastSelf(weight=0.8)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_student_without_companions_is_left(method: dict[str, Any], tmp_path: Path) -> None:
    model = small_model()
    result = stage(method).run(model, make_context())
    assert result.model is not None
    save_model(result.model, tmp_path)
    assert load_file(tmp_path / "weights.safetensors").keys() == model.module.state_dict().keys()
    assert not any(part._forward_hooks for part in result.model.module.modules())
    assert json.loads(json.dumps(result.facts))["history"]


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_interrupted_anywhere_it_gives_the_same_weights(
    method: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = stage(method).run(small_model(), make_context())
    for update in (1, 4):
        kept = replace(make_context(), checkpoints=Memory(), reporter=Telling())
        run = lambda kept=kept: stage(method).run(small_model(), kept)  # noqa: E731
        assert interrupted_at(update, terminate, run, monkeypatch) is None
        resumed = run()
        assert same(weights(resumed.model), weights(whole.model))
        assert resumed.facts == whole.facts


# Past predictions


def test_targets_are_mixed_with_what_was_said_an_epoch_ago() -> None:
    output = torch.tensor([[1.0, 2.0, 0.0]])
    past = torch.tensor([[0.2, 0.3, 0.5]])
    target = [0.25 * p + 0.75 * hard for p, hard in zip((0.2, 0.3, 0.5), (0, 1, 0), strict=True)]
    expected = -sum(t * float(l) for t, l in zip(target, output.log_softmax(1)[0], strict=True))  # noqa: E741
    assert softened_loss(output, torch.tensor([1]), past, 0.25).item() == pytest.approx(expected)


def test_the_share_of_the_past_grows_in_a_line_from_the_second_epoch_on() -> None:
    teaching = PastTeaching(PastSelf(weight=0.8), 4)
    assert [teaching.share(epoch) for epoch in range(4)] == pytest.approx([0, 0.4, 0.6, 0.8])


def test_each_sample_is_followed_by_its_own_past() -> None:
    indices = torch.tensor([40, 7, 300])
    student = torch.nn.Linear(1, 2)
    remembering = Remembering(student, indices, 2, 6, 3)
    said = torch.tensor([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    first = remembering.exchanged(Batch(indices, {}, indices), said)
    assert not first.any()
    again = torch.tensor([300, 40])
    assert torch.equal(remembering.exchanged(Batch(again, {}, again), torch.zeros(2, 2)), said[[2, 0]])


def test_epochs_are_counted_by_updates() -> None:
    remembering = Remembering(torch.nn.Linear(1, 2), torch.arange(3), 2, 6, 3).train()
    epochs = []
    for _ in range(6):
        remembering(input=torch.zeros(1, 1))
        epochs.append(remembering.epoch)
    assert epochs == [0, 0, 1, 1, 2, 2]


def test_one_epoch_of_past_targets_is_an_epoch_of_labels() -> None:
    past = stage({"type": "ps_kd"}, epochs=1).run(small_model(), make_context())
    training = Training(epochs=1, optimizer=AdamW(lr=0.01))
    plain = fit(small_model(), training, make_context(), label="train", loss=label_loss)
    assert past.model is not None
    for name, tensor in weights(plain.model).items():
        assert torch.allclose(weights(past.model)[name], tensor, atol=1e-5)


# Heads


def test_every_head_learns_from_labels_and_from_the_last_layer() -> None:
    output, first = torch.randn(2, 3), torch.randn(2, 3)
    batch = Batch(torch.arange(2), {}, torch.tensor([0, 2]))
    config = OwnTeacher(temperature=2, weight=0.4, hint=0.5)
    found = OwnTeaching(config, make_context())(batch, (output, [(first, torch.tensor(3.0))]))
    expected = label_loss(batch, output) + 0.6 * label_loss(batch, first)
    expected = expected + 0.4 * kd(first, output, 2).mean() + 0.5 * 3
    assert torch.isclose(found, expected)


def test_heads_follow_the_last_features_and_nothing_flows_back_into_them() -> None:
    student = small_model().module
    example = dict(make_context().example)
    taught = WithExits(student, ["conv", "norm"], example, 5).train()
    _, [(logits, difference)] = taught(**example)
    assert logits.shape == (2, 3)
    (logits.sum() + difference).backward()
    assert student.get_parameter("conv.weight").grad is not None
    assert student.get_parameter("norm.weight").grad is None


def test_heads_are_proposed_where_the_size_changes() -> None:
    from tests.stages.distill.test_online import big_data, lenet

    facts = stage({"type": "byot"}, epochs=1).run(lenet(), make_context(big_data())).facts
    assert facts["heads"]
    assert facts["last"] not in facts["heads"]


# Generations


def test_generations_begin_anew_and_the_best_goes_on() -> None:
    result = stage({"type": "born_again", "generations": 3}).run(small_model(), make_context())
    generations = result.facts["generations"]
    assert list(generations) == ["0", "1", "2"]
    best = max(generations, key=lambda each: (generations[each]["validation"], -generations[each]["loss"]))
    assert result.facts["chosen"] == int(best)
    assert len({each["loss"] for each in generations.values()}) == 3


def test_the_first_generation_has_labels_alone() -> None:
    result = stage({"type": "born_again"}).run(small_model(), make_context())
    training = Training(epochs=3, optimizer=AdamW(lr=0.01))
    plain = fit(small_model(), training, make_context(), label="train", loss=label_loss)
    assert result.facts["generations"]["0"]["loss"] == plain.kept.validation_loss


# Bad input


@pytest.mark.parametrize("method", METHODS[:2], ids=str)
def test_data_without_labels_is_refused(method: dict[str, Any]) -> None:
    data = small_data()
    train = replace(data.split("train"), target=torch.zeros(49, 0))
    with pytest.raises(StageError, match="needs the class of each sample"):
        stage(method).run(small_model(), make_context(Splits({**data.by_name, "train": train})))


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ({"type": "byot", "heads": ["cnv"]}, "did you mean 'conv'"),
        ({"type": "byot", "heads": ["norm"]}, "there is no head before norm"),
        ({"type": "byot"}, "there is no head before norm"),
    ],
)
def test_heads_that_cannot_be_are_told_before_training(method: dict[str, Any], told: str) -> None:
    context = make_context()
    with pytest.raises(StageError, match=told):
        stage(method).run(small_model(), context)
    assert isinstance(context.reporter, Quiet)
    assert context.reporter.steps == 0


def test_a_changed_model_has_no_generations() -> None:
    model = small_model().edited(Masks(names=("conv.weight",)))
    with pytest.raises(StageError, match="born_again starts networks with fresh weights"):
        stage({"type": "born_again"}).run(model, make_context())


@pytest.mark.parametrize(
    "method",
    [
        {"type": "ps_kd", "weight": 1},
        {"type": "byot", "temperature": 0},
        {"type": "byot", "heads": []},
        {"type": "born_again", "generations": 1},
        {"type": "born_again", "loss": []},
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(method: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        stage(method)
