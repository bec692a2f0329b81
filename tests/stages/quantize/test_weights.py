"""The stage quantize.weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from mcomp.errors import StageError
from mcomp.model.edits import Masks
from mcomp_stages.export.onnx import ExportOnnx
from mcomp_stages.quantize import weights as stage
from mcomp_stages.quantize.weights import QuantizeWeights
from tests.mcomp.training.setting import make_context, same, small_model, weights
from tests.stages.samples import sample_of

METHODS = ("rtn", "hqq", "gptq", "awq")


def quantize(**fields: Any) -> QuantizeWeights:
    return QuantizeWeights.model_validate({"group_size": None, "samples": 32, **fields})


def test_the_sample_in_the_manual_is_valid() -> None:
    assert QuantizeWeights.model_validate(sample_of(stage)).method == "gptq"


@pytest.mark.parametrize("method", METHODS)
def test_every_method_leaves_few_values_in_each_row_and_the_input_as_it_was(method: str) -> None:
    model, context = small_model(), make_context()
    before = weights(model)
    result = quantize(method=method, bits=3).run(model, context)
    assert result.model is not None
    assert same(before, weights(model))
    assert result.facts["bits"] == {"conv.weight": 3, "fc.weight": 3}
    assert result.facts["converted"]["output_error"] < 1e-5
    assert all(loss > 0 for loss in result.facts["sqnr_db"].values())
    rows = result.model.module.get_parameter("conv.weight").detach().flatten(1)
    assert max(len(row.unique()) for row in rows) <= 8


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_methods_with_samples_lose_less_than_rounding_in_the_outputs(method: str) -> None:
    losses = {
        name: quantize(method=name, bits=3).run(small_model(), make_context()).model
        for name in (method, "rtn")
    }
    inputs = make_context().data.split("calibration").batch(torch.arange(32)).inputs
    with torch.no_grad():
        expected = small_model().module.eval()(**inputs)
        errors = {
            name: (model.module.eval()(**inputs) - expected).square().sum().item()
            for name, model in losses.items()
            if model is not None
        }
    assert errors[method] < errors["rtn"]


def test_more_bits_lose_less() -> None:
    losses = [
        quantize(bits=bits).run(small_model(), make_context()).facts["sqnr_db"]["fc.weight"]
        for bits in (2, 4, 8)
    ]
    assert losses == sorted(losses)


def test_overrides_and_patterns_choose_layers() -> None:
    fields = {"overrides": [{"modules": "conv", "bits": 8}, {"modules": "fc", "keep_float": True}]}
    assert quantize(**fields).run(small_model(), make_context()).facts["bits"] == {"conv.weight": 8}
    with pytest.raises(StageError, match="no module matches 'cnv'; did you mean 'conv'"):
        quantize(keep_float=["cnv"]).run(small_model(), make_context())
    with pytest.raises(StageError, match="there is no linear, convolution or embedding left"):
        quantize(keep_float=["*"]).run(small_model(), make_context())


def test_the_result_is_the_same_every_time() -> None:
    first, second = (quantize().run(small_model(), make_context()).model for _ in range(2))
    assert first is not None
    assert second is not None
    assert same(first.state, second.state)
    assert same(weights(first), weights(second))


def test_zeros_of_a_mask_stay_zero() -> None:
    model = small_model().edited(Masks(names=("conv.weight",)))
    mask = torch.arange(9).reshape(3, 3).expand(4, 1, 3, 3) % 2 == 0
    model.state["masks.conv.weight"] = mask
    with torch.no_grad():
        model.module.get_parameter("conv.weight").mul_(mask)
    result = quantize(bits=4).run(model, make_context()).model
    assert result is not None
    assert not result.module.get_parameter("conv.weight")[~mask].any()


def test_the_file_holds_the_bits_and_equals_the_model(tmp_path: Path) -> None:
    context = replace(make_context(), folder=tmp_path)
    result = quantize(bits=4).run(small_model(), context)
    assert result.model is not None
    exported = ExportOnnx().run(result.model, context)
    assert exported.facts["parity"]["median_error"] < 1e-5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bits": 1}, "bits"),
        ({"bits": 9}, "bits"),
        ({"method": "hqq", "range": "least_squares"}, "leave out range"),
        ({"unpack": "product", "bits": 3, "group_size": 32}, "unpack: product is for 2, 4 or 8 bits"),
        ({"unpack": "product", "bits": 4, "group_size": 24}, "unpack: product is for 2, 4 or 8 bits"),
        ({"overrides": [{"modules": "conv"}]}, "say either keep_float"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        quantize(**fields)


@pytest.mark.parametrize("method", METHODS)
def test_a_weight_tried_alone_is_what_a_stage_makes_that_keeps_the_others(method: str) -> None:
    trials = quantize(method=method, bits=3).trials(small_model(), make_context(), ())
    assert [(each.part, each.level) for each in trials.trials] == [
        ("conv", 8), ("conv", 3), ("fc", 8), ("fc", 3),
    ]  # fmt: skip
    alone = quantize(method=method, bits=3, keep_float=["fc"]).run(small_model(), make_context()).model
    assert alone is not None
    with trials.trials[1].module() as module:
        assert torch.equal(module.conv.weight, alone.module.get_parameter("conv.weight"))
        assert torch.equal(module.fc.weight, small_model().module.get_parameter("fc.weight"))


def test_the_patch_of_weights_is_obeyed_by_the_stage() -> None:
    trials = quantize(method="rtn", bits=3).trials(small_model(), make_context(), ())
    patch = trials.patch({"conv": None, "fc": 8.0})
    assert patch.fields == {
        "overrides": [{"modules": "conv", "keep_float": True}, {"modules": "fc", "bits": 8}]
    }
    result = quantize(method="rtn", bits=3, **patch.fields).run(small_model(), make_context())
    assert result.facts["bits"] == {"fc.weight": 8}
