"""The stage quantize.mixed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp.stage import StageResult
from mcomp_stages.quantize import mixed
from mcomp_stages.quantize.mixed import QuantizeMixed, rounded_up
from mcomp_stages.quantize.qat import QuantizeQat
from tests.mcomp.training.setting import make_context, small_model
from tests.stages.quantize.test_qat import TRAINING
from tests.stages.samples import sample_of


def run(model: Model | None = None, **fields: Any) -> StageResult:
    config = QuantizeMixed.model_validate({"training": TRAINING, **fields})
    return config.run(model or small_model(), make_context())


def test_the_sample_in_the_manual_is_valid() -> None:
    assert QuantizeMixed.model_validate(sample_of(mixed)).budget.limit == 3.0


@pytest.mark.parametrize("sensitivity", ["measured", "hessian"])
def test_the_widths_keep_the_budget_and_the_result_is_quantized(sensitivity: str) -> None:
    result = run(budget={"mean_bits": 5.0}, sensitivity=sensitivity)
    bits = result.facts["widths"]
    numel = {"conv": 36, "fc": 12}
    assert sum(numel[name] * each for name, each in bits.items()) / 48 <= 5.0
    assert result.facts["mixed"]["solved"] == "exactly"
    assert result.facts["mixed"]["reached"] <= 5.0
    assert result.facts["converted"]["agreement"] >= 0.999
    assert result.model is not None
    assert result.model.quantized


def test_the_whole_budget_gives_the_widest_and_the_smallest_the_narrowest() -> None:
    for limit, expected in ((8.0, {8}), (2.0, {2})):
        widths = run(budget={"mean_bits": limit}, widths=[8, 2], sensitivity="hessian").facts["widths"]
        assert set(widths.values()) == expected


def test_bytes_are_those_on_disk() -> None:
    result = run(budget={"size_bytes": 20})
    assert result.facts["mixed"]["smallest"] == 4 * 3 + 3 * 1
    assert result.facts["mixed"]["reached"] <= 20
    assert result.model is not None
    codes = [tensor for name, tensor in result.model.state.items() if name.endswith(".codes")]
    assert sum(tensor.nbytes for tensor in codes) <= 20


def test_bit_operations_are_a_share_of_those_at_eight_bits() -> None:
    result = run(budget={"bit_operations": 0.3}, activations={"bits": 4}, sensitivity="hessian")
    assert 0 < result.facts["mixed"]["reached"] <= 0.3
    assert result.facts["mixed"]["largest"] == pytest.approx(0.5)


def test_an_accuracy_is_kept_by_the_smallest_weights() -> None:
    result = run(budget={"accuracy_drop": 0.5})
    costs, widths = result.facts["costs"], result.facts["widths"]
    spent = sum(costs[f"{name}.weight"][str(bits)] for name, bits in widths.items())
    assert spent <= 0.5


def test_a_budget_that_cannot_be_met_shows_the_smallest_reachable() -> None:
    overrides = [{"layer": "first", "weights": {"bits": 8}}]
    with pytest.raises(StageError, match=r"mean_bits: 3 cannot be met; the smallest reachable is 6\.5"):
        run(budget={"mean_bits": 3.0}, overrides=overrides, sensitivity="hessian")


@given(value=st.floats(1e-3, 1e7))
def test_what_is_said_to_be_reachable_is(value: float) -> None:
    shown = float(rounded_up(value))
    assert value <= shown <= value + max(1.0, value * 1e-4)


def test_layers_with_bits_of_their_own_keep_them() -> None:
    overrides = [{"layer": "last", "weights": {"bits": 8}}]
    result = run(budget={"mean_bits": 5.0}, overrides=overrides, sensitivity="hessian")
    assert result.facts["widths"]["fc"] == 8


def test_the_same_widths_train_as_in_qat() -> None:
    result = run(budget={"mean_bits": 2.0}, widths=[8, 2], sensitivity="hessian").model
    uniform = QuantizeQat.model_validate({"training": TRAINING, "weights": {"bits": 2}})
    expected = uniform.run(small_model(), make_context()).model
    assert result is not None
    assert expected is not None
    for name, parameter in expected.module.named_parameters():
        assert torch.equal(parameter, result.module.get_parameter(name))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"budget": {}}, "must be one of mean_bits, size_bytes, bit_operations and accuracy_drop"),
        ({"budget": {"mean_bits": 4.0, "size_bytes": 9}}, "not mean_bits and size_bytes"),
        ({"budget": {"mean_bits": 1.0}}, "mean_bits"),
        ({"budget": {"accuracy_drop": 0.1}, "sensitivity": "hessian"}, "is measured"),
        ({"budget": {"mean_bits": 4.0}, "weights": {"bits": 4}}, "leave it out"),
        ({"budget": {"mean_bits": 4.0}, "widths": [8]}, "widths"),
        ({"budget": {"mean_bits": 4.0}, "widths": [9, 4]}, "widths"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        QuantizeMixed.model_validate({"training": TRAINING, **wrong})


def test_layers_are_tried_at_all_widths_and_those_that_bear_the_narrowest_stay_free() -> None:
    fields = {"training": TRAINING, "budget": {"mean_bits": 5.0}, "widths": [8, 4, 2]}
    stage = QuantizeMixed.model_validate(fields)
    trials = stage.trials(small_model(), make_context(), ())
    layers = [(each.part, each.level) for each in trials.trials if "#" not in each.part]
    assert layers == [(part, bits) for part in ("conv", "fc") for bits in (8, 4, 2)]
    patch = trials.patch({each.part: 4.0 if each.part == "fc" else 2.0 for each in trials.trials})
    assert patch.fields == {"overrides": [{"modules": "fc", "weights": {"bits": 4}}]}
    assert run(**{**fields, **patch.fields}).facts["widths"]["fc"] == 4
