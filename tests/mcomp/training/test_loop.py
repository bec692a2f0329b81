from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from mcomp.data.contract import Batch
from mcomp.data.splits import Splits
from mcomp.errors import StageError
from mcomp.model.edits import Masks
from mcomp.model.model import Model
from mcomp.recipe.schema import Compute
from mcomp.training.config import SGD, AdamW, Constant, EarlyStop, Training
from mcomp.training.loop import Fit, fit
from mcomp_stages.tasks.classification import ClassificationConfig
from tests.mcomp.training.setting import (
    Quiet,
    label_loss,
    make_context,
    same,
    small_data,
    small_model,
    weights,
)

TRAINING = Training(epochs=3)


def trained(model: Model, training: Training = TRAINING, **context: Any) -> Fit:
    return fit(model, training, make_context(**context), label="train", loss=label_loss)


def test_training_learns() -> None:
    result = trained(small_model(), Training(epochs=12, optimizer=AdamW(lr=0.03)))
    assert result.kept.metric > 0.9
    assert result.history[-1].train_loss < result.history[0].train_loss


def test_input_model_stays_as_it_was() -> None:
    model = small_model()
    before = weights(model)
    trained(model)
    assert same(weights(model), before)


def test_same_seed_gives_same_weights_and_another_seed_others() -> None:
    first, again, other = (trained(small_model(), seed=seed) for seed in (0, 0, 1))
    assert same(weights(first.model), weights(again.model))
    assert not same(weights(first.model), weights(other.model))


def digest_of_training() -> str:
    tensors = weights(trained(small_model()).model)
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors.values())).hexdigest()


def test_two_processes_give_the_same_bytes() -> None:
    code = "from tests.mcomp.training.test_loop import digest_of_training; print(digest_of_training())"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[3]
    elsewhere = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=root, check=True, capture_output=True, text=True
    )
    assert elsewhere.stdout.strip() == digest_of_training()
    assert elsewhere.stderr == ""


def test_global_generator_and_threads_are_given_back() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trained(small_model_without_reseeding(), compute=Compute(threads=2))
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == 1


def small_model_without_reseeding() -> Model:
    with torch.random.fork_rng():
        return small_model()


def test_global_generator_does_not_matter() -> None:
    torch.manual_seed(1)
    first = trained(small_model_without_reseeding())
    torch.manual_seed(2)
    assert same(weights(trained(small_model_without_reseeding()).model), weights(first.model))


def test_masked_weights_stay_zero() -> None:
    model = small_model().edited(Masks(names=("conv.weight", "fc.weight")))
    mask = torch.rand(4, 1, 3, 3) > 0.5
    model.state["masks.conv.weight"] = mask
    result = trained(model, Training(epochs=2, optimizer=SGD(momentum=0.9))).model
    weight = result.module.get_parameter("conv.weight")
    assert bool((weight[~mask] == 0).all())
    assert bool((weight[mask] != 0).all())
    assert torch.equal(result.state["masks.conv.weight"], mask)


class LowerIsBetter(ClassificationConfig):
    @property
    def direction(self) -> Literal["higher", "lower"]:
        return "lower"


def validation_that_says(metrics: list[float], monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> None:
    from mcomp.measure.accuracy import Evaluation
    from mcomp.training import loop

    answers = iter([Evaluation(*pair) for pair in zip(metrics, losses, strict=True)])
    monkeypatch.setattr(loop, "evaluate", lambda *arguments, **options: next(answers))


def test_best_epoch_is_kept_and_ties_go_to_the_lower_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    validation_that_says([0.5, 0.9, 0.9, 0.9], monkeypatch, losses=[0.1, 0.5, 0.4, 0.6])
    training = Training(epochs=4, schedule=Constant())
    best = trained(small_model(), training)
    assert best.kept.number == 3
    last_of_three = trained_without_validation(3, monkeypatch)
    assert same(weights(best.model), weights(last_of_three.model))


def trained_without_validation(epochs: int, monkeypatch: pytest.MonkeyPatch) -> Fit:
    validation_that_says([0.0] * epochs, monkeypatch, losses=[0.0] * epochs)
    return trained(small_model(), Training(epochs=epochs, schedule=Constant(), keep="last"))


def test_last_epoch_is_kept_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    validation_that_says([0.9, 0.5], monkeypatch, losses=[0.1, 0.5])
    result = trained(small_model(), Training(epochs=2, schedule=Constant(), keep="last"))
    assert result.kept.number == 2
    assert same(weights(result.model), weights(trained_without_validation(2, monkeypatch).model))


def test_a_metric_that_is_better_when_lower_is_followed_downwards(monkeypatch: pytest.MonkeyPatch) -> None:
    validation_that_says([3.0, 1.0, 2.0], monkeypatch, losses=[0.0] * 3)
    context = make_context()
    context = replace(context, task=LowerIsBetter(num_classes=3))
    result = fit(small_model(), TRAINING, context, label="train", loss=label_loss)
    assert result.kept.number == 2


def test_early_stop_waits_for_its_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    validation_that_says([0.5, 0.6, 0.6, 0.6, 0.7], monkeypatch, losses=[1.0] * 5)
    result = trained(small_model(), Training(epochs=5, early_stop=EarlyStop(patience=2)))
    assert [epoch.number for epoch in result.history] == [1, 2, 3, 4]


def test_every_sample_is_seen_once_an_epoch() -> None:
    seen: list[int] = []

    def watching(batch: Batch, output: Tensor) -> Tensor:
        seen.extend(batch.indices.tolist())
        return label_loss(batch, output)

    fit(small_model(), Training(epochs=2), make_context(), label="train", loss=watching)
    first, second = seen[:49], seen[49:]
    assert sorted(first) == sorted(second) == list(range(49))
    assert first != second


def test_history_holds_the_mean_loss_over_samples() -> None:
    losses: list[tuple[float, int]] = []

    def watching(batch: Batch, output: Tensor) -> Tensor:
        loss = label_loss(batch, output)
        losses.append((loss.item(), len(batch.indices)))
        return loss

    result = fit(small_model(), Training(epochs=1), make_context(), label="train", loss=watching)
    expected = sum(loss * size for loss, size in losses) / 49
    assert result.history[0].train_loss == pytest.approx(expected)


def test_progress_counts_updates() -> None:
    context = make_context()
    fit(small_model(), TRAINING, context, label="recover", loss=label_loss)
    reporter = context.reporter
    assert isinstance(reporter, Quiet)
    assert reporter.totals == {"recover": 3 * 3}  # 49 samples: 16, 16, 17
    assert reporter.steps == 9
    assert reporter.figures.keys() == {"loss", "accuracy"}


def test_loss_that_is_not_finite_stops_before_the_update() -> None:
    updates = 0

    def poisoned(batch: Batch, output: Tensor) -> Tensor:
        nonlocal updates
        updates += 1
        return label_loss(batch, output) * (math.nan if updates == 5 else 1.0)

    with pytest.raises(StageError, match="epoch 2, batch 2 of 3: the loss is nan"):
        fit(small_model(), TRAINING, make_context(), label="train", loss=poisoned)
    assert updates == 5


def test_module_with_the_first_output_that_is_not_finite_is_named() -> None:
    model = small_model()
    model.module.get_parameter("fc.weight").data.fill_(3e38)
    with pytest.raises(StageError) as raised:
        trained(model)
    assert raised.value.module == "fc"


def test_weight_that_is_not_finite_is_named() -> None:
    model = small_model()
    model.module.get_parameter("norm.bias").data[1] = math.nan
    with pytest.raises(StageError, match=r"epoch 1, batch 1 of 3: norm\.bias is not finite") as raised:
        trained(model)
    assert raised.value.module == "norm"


class InfiniteGradient(torch.autograd.Function):
    """The identity, with a gradient that is not finite."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * math.inf


def test_gradient_that_is_not_finite_is_named_and_stops_before_the_update() -> None:
    model = small_model()
    convolution = model.module.get_submodule("conv")
    convolution.register_forward_hook(lambda part, inputs, output: InfiniteGradient.apply(output))
    with pytest.raises(StageError, match=r"epoch 1, batch 1 of 3: the gradient of conv\.weight") as raised:
        trained(model)
    assert raised.value.module == "conv"


def test_buffer_that_is_not_finite_is_found_after_the_epoch() -> None:
    model = small_model()
    model.module.get_buffer("norm.running_var")[0] = math.inf
    with pytest.raises(StageError, match=r"after epoch 1: norm\.running_var is not finite"):
        trained(model)


def test_clipping_bounds_the_step() -> None:
    training = Training(
        epochs=1, optimizer=SGD(lr=1.0, momentum=0, weight_decay=0), schedule=Constant(), clip_norm=1e-3
    )
    model = small_model()
    result = trained(model, training, batch_size=49).model
    pairs = zip(model.module.parameters(), result.module.parameters(), strict=True)
    moved = torch.cat([(old - new).detach().flatten() for old, new in pairs]).norm()
    assert float(moved) == pytest.approx(1e-3, rel=1e-2)


def test_training_that_changes_nothing_fails() -> None:
    model = small_model()
    for parameter in model.module.parameters():
        parameter.requires_grad_(False)
    model.module.get_parameter("fc.bias").requires_grad_(True)
    training = Training(epochs=1, optimizer=SGD(lr=1e-30))
    with pytest.raises(StageError, match="left every weight as it was"):
        trained(model, training)


def test_half_precision_without_a_gpu_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(StageError, match="16-mixed needs a GPU"):
        trained(small_model(), compute=Compute(precision="16-mixed"))
    with pytest.raises(StageError, match="torch finds no GPU"):
        trained(small_model(), compute=Compute(device="cuda"))


def test_mixed_precision_trains_weights_in_float32() -> None:
    result = trained(small_model(), compute=Compute(precision="bf16-mixed", threads=1))
    assert {parameter.dtype for parameter in result.model.module.parameters()} == {torch.float32}
    assert not same(weights(result.model), weights(trained(small_model()).model))


def test_result_is_contiguous_and_in_inference_mode() -> None:
    module = trained(small_model()).model.module
    assert not any(part.training for part in module.modules())
    assert all(parameter.is_contiguous() for parameter in module.parameters())


def test_frozen_parameters_do_not_train() -> None:
    model = small_model()
    model.module.get_parameter("conv.weight").requires_grad_(False)
    result = trained(model)
    assert torch.equal(
        result.model.module.get_parameter("conv.weight"), model.module.get_parameter("conv.weight")
    )


def test_a_single_sample_left_over_does_not_break_batch_norm() -> None:
    deep = small_data().split("train")
    one_pixel = replace(deep, inputs={"image": deep.inputs["image"][:, :, :1, :1]})
    data = Splits(dict.fromkeys(("train", "calibration", "validation", "test"), one_pixel))
    assert trained(small_model(), data=data, batch_size=48).history
