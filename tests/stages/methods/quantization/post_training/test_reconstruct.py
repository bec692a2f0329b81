"""Weights rounded segment by segment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from mcomp.model.model import Model
from mcomp.stage import Checkpoint, at_once
from mcomp_stages.methods.quantization.calibrate import calibrated
from mcomp_stages.methods.quantization.config import Scheme
from mcomp_stages.methods.quantization.observers.config import MinMax
from mcomp_stages.methods.quantization.post_training.config import AdaRound
from mcomp_stages.methods.quantization.post_training.pipeline import with_weights
from mcomp_stages.methods.quantization.post_training.reconstruct import Reconstruction
from mcomp_stages.methods.quantization.post_training.rounding import Training
from mcomp_stages.methods.quantization.post_training.weight_ranges import with_stored_scales
from mcomp_stages.methods.quantization.scheme import quantizers_for
from tests.architectures import TiedNet
from tests.mcomp.training.checkpoints import Memory, terminated_in
from tests.mcomp.training.setting import make_context, same
from tests.stages.methods.quantization.nets import ChainNet, ResidualNet, float_model, pictures

EXAMPLE = pictures(2)
BATCHES = [pictures(16), {"image": pictures(24)["image"][16:]}]
FEW = Scheme.model_validate({"weights": {"bits": 3}})


def generator(purpose: str) -> Generator:
    return torch.Generator().manual_seed(len(purpose))


def reconstruction(steps: int = 100, **fields: object) -> Reconstruction:
    settings = AdaRound.model_validate({"steps": steps, "lr": 0.05, "batch_size": 8, **fields})
    return Reconstruction(settings, at_once, make_context().steps, generator)


def quantized(net: type[nn.Module] = ResidualNet) -> Model:
    model = float_model(net)
    edit = with_stored_scales(quantizers_for(model.module, EXAMPLE, FEW))
    return calibrated(model.edited(edit), EXAMPLE, BATCHES, MinMax())


def output_error(model: Model, exact: Model) -> float:
    with torch.no_grad():
        found = model.training_module(EXAMPLE)(**pictures(24))
        return float((found - exact.module(**pictures(24))).square().mean())


@pytest.mark.parametrize("per", ["layer", "block"])
@pytest.mark.parametrize("net", [ResidualNet, ChainNet])
def test_the_output_comes_nearer_and_every_segment_loses_less(net: type[nn.Module], per: str) -> None:
    model = quantized(net)
    weights, done = reconstruction(per=per).apply(model, EXAMPLE, BATCHES)
    assert all(each.chosen <= each.nearest for each in done)
    assert any(each.chosen < 0.9 * each.nearest for each in done)
    rounded = with_weights(model, weights)
    assert output_error(rounded, float_model(net)) < 0.8 * output_error(model, float_model(net))
    assert [name for name in weights if not name.endswith("weight")] == []


def test_weights_are_on_their_grids_next_to_where_they_were() -> None:
    model = quantized()
    weights, _ = reconstruction().apply(model, EXAMPLE, BATCHES)
    assert list(weights) == ["stem.weight", "conv.weight", "shortcut.weight", "fc.weight"]
    for name, weight in weights.items():
        scale = model.state[f"quantizers.{name}.scale"].reshape(-1, *[1] * (weight.ndim - 1))
        steps = weight / scale
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-4)
        assert ((weight - model.module.get_parameter(name)).abs() <= scale * 1.001).all()


def test_the_model_itself_is_not_changed() -> None:
    model = quantized()
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    reconstruction(steps=5).apply(model, EXAMPLE, BATCHES)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.module.state_dict().items())


def test_a_weight_of_two_layers_is_rounded_once() -> None:
    weights, done = reconstruction(steps=5).apply(quantized(TiedNet), EXAMPLE, BATCHES)
    assert len(weights) == len(set(weights))
    assert sum(len(weight) > 0 for weight in weights.values()) >= len(done)


def test_the_same_seed_gives_the_same_and_what_is_kept_is_not_done_again() -> None:
    kept: dict[str, Checkpoint] = {}

    def keep(label: str, compute: Callable[[], Checkpoint]) -> Checkpoint:
        if label not in kept:
            kept[label] = compute()
        return kept[label]

    model = quantized()
    settings = AdaRound(steps=5, batch_size=8)
    steps = make_context().steps
    first, done = Reconstruction(settings, keep, steps, generator).apply(model, EXAMPLE, BATCHES)
    again, _ = Reconstruction(settings, at_once, steps, generator).apply(model, EXAMPLE, BATCHES)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert len(kept) == len(done) == 4

    def refuse(purpose: str) -> Generator:
        raise AssertionError(purpose)

    resumed, facts = Reconstruction(settings, keep, steps, refuse).apply(model, EXAMPLE, BATCHES)
    assert facts == done
    assert all(torch.equal(first[name], resumed[name]) for name in first)


@pytest.mark.parametrize("update", [0, 7, 19])
def test_a_segment_goes_on_from_the_update_in_which_it_was_stopped(update: int) -> None:
    model, settings = quantized(), AdaRound(steps=5, batch_size=8)
    context = replace(make_context(), checkpoints=Memory())

    def rounded() -> Any:
        return Reconstruction(settings, context.unit, context.steps, generator).apply(model, EXAMPLE, BATCHES)

    whole, done = Reconstruction(settings, at_once, make_context().steps, generator).apply(
        model, EXAMPLE, BATCHES
    )
    assert terminated_in(Training, "advance", update, rounded) is None
    left = 4 * 5 - 1 - update
    resumed, facts = terminated_in(Training, "advance", left, rounded)  # there are no more
    assert facts == done
    assert same(resumed, whole)


def test_pruned_weights_stay_zero() -> None:
    model = quantized()
    mask: Tensor = torch.arange(model.module.get_parameter("conv.weight").numel()) % 2 == 0
    mask = mask.reshape(model.module.get_parameter("conv.weight").shape)
    with torch.no_grad():
        model.module.get_parameter("conv.weight").mul_(mask)
    model.state["masks.conv.weight"] = mask
    weights, _ = reconstruction(steps=30).apply(model, EXAMPLE, BATCHES)
    assert not weights["conv.weight"][~mask].any()
