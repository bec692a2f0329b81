"""The stage quantize.dynamic."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from mcomp.data.splits import Splits, TensorSplit
from mcomp.errors import StageError
from mcomp.model.example import Example
from mcomp.model.model import Model
from mcomp.stage import Context, Form
from mcomp_stages.export.onnx import ExportOnnx
from mcomp_stages.methods.quantization.weights.edit import StoredWeights
from mcomp_stages.quantize import dynamic as stage
from mcomp_stages.quantize.dynamic import QuantizeDynamic
from tests.mcomp.training.setting import make_context, same, weights
from tests.stages.methods.quantization.weights.nets import ReaderConfig
from tests.stages.samples import sample_of


class Mix(nn.Module):
    """A product with a raw matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(64, 32) / 8)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix


class Encoder(nn.Module):
    """An embedding, two linears that read one tensor, a raw matrix, a convolution and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 32)
        self.gate, self.value = nn.Linear(32, 64), nn.Linear(32, 64)
        self.mix = Mix()
        self.conv = nn.Conv1d(32, 32, 3, padding=1)
        self.head = nn.Linear(32, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        x = self.mix(torch.sigmoid(self.gate(x)) * self.value(x))
        x = torch.relu(self.conv(x.transpose(1, 2)))
        scores: Tensor = self.head(x.mean(2))
        return scores


def encoder() -> Model:
    torch.manual_seed(0)
    return Model(Encoder().eval(), ReaderConfig())


def context(folder: Path = Path("/nonexistent")) -> Context:
    tokens = torch.randint(0, 30, (48, 7), generator=torch.Generator().manual_seed(1))
    split = TensorSplit(torch.arange(48), {"tokens": tokens}, torch.arange(48) % 5)
    data = Splits(dict.fromkeys(("train", "calibration", "validation", "test"), split))
    return replace(make_context(data), folder=folder, example=Example({"tokens": tokens[:2]}))


def quantize(**fields: Any) -> QuantizeDynamic:
    return QuantizeDynamic.model_validate({"samples": 32, **fields})


def records(model: Model | None) -> dict[str, tuple[int, str]]:
    assert model is not None
    (edit,) = model.edits
    assert isinstance(edit, StoredWeights)
    return {name: (record.bits, record.unpack) for name, record in edit.weights.items()}


def served(tmp_path: Path, **fields: Any) -> tuple[dict[str, Any], onnx.GraphProto]:
    result = quantize(**fields).run(encoder(), context())
    assert result.model is not None
    exported = ExportOnnx().run(result.model, context(tmp_path))
    return dict(exported.facts), onnx.load(exported.files["model.onnx"]).graph


def test_the_sample_in_the_manual_is_valid() -> None:
    assert QuantizeDynamic.model_validate(sample_of(stage)).overrides[0].bits == 16


def test_products_are_of_integers_embeddings_are_looked_up_and_the_input_stays_as_it_was() -> None:
    model = encoder()
    before = weights(model)
    result = quantize().run(model, context())
    assert same(before, weights(model))
    assert records(result.model) == {
        "embed.weight": (8, "load"),
        "gate.weight": (8, "integers"),
        "value.weight": (8, "integers"),
        "mix.matrix": (8, "integers"),
        "head.weight": (8, "integers"),
    }
    assert result.facts["converted"]["output_error"] < 1e-5
    assert result.facts["converted"]["output_sqnr_db"] > 30


def test_the_runtime_has_no_product_in_float_left(tmp_path: Path) -> None:
    facts, _ = served(tmp_path, bits=7)
    assert facts["census"]["int8"] == 4
    assert facts["census"]["float_layers"] == ["conv"]
    assert facts["census"]["by_type"]["MatMulIntegerToFloat"] == 2  # gate and value round their input once
    assert facts["census"]["by_type"]["DynamicQuantizeMatMul"] == 2
    assert facts["parity"]["median_error"] < 2e-2 * facts["parity"]["size"]


def test_sixteen_bits_halve_the_weights_and_change_the_outputs_by_next_to_nothing(tmp_path: Path) -> None:
    operators = ["linear", "matmul", "embedding", "convolution"]
    facts, graph = served(tmp_path, bits=16, operators=operators)
    kinds = [tensor.data_type for tensor in graph.initializer if len(tensor.dims) > 1]
    assert kinds.count(onnx.TensorProto.INT16) == 6
    assert facts["parity"]["mean_cosine"] > 0.9999
    result = quantize(bits=16, operators=operators).run(encoder(), context())
    assert result.model is not None
    inputs = context().data.split("test").batch(torch.arange(48)).inputs
    with torch.no_grad():
        cosine = torch.cosine_similarity(
            encoder().module(**inputs), result.model.inference_module(context().example)(**inputs)
        )
    assert cosine.min() > 0.9999


def test_operators_patterns_and_overrides_choose() -> None:
    only = quantize(operators=["embedding"], smoothing=None).run(encoder(), context())
    assert records(only.model) == {"embed.weight": (8, "load")}
    fields = {"overrides": [{"modules": "head", "bits": 16}], "keep_float": ["embed", "gate"]}
    some = quantize(**fields).run(encoder(), context())
    assert records(some.model) == {
        "value.weight": (8, "integers"),
        "mix.matrix": (8, "integers"),
        "head.weight": (16, "load"),
    }


def test_smoothing_of_any_strength_leaves_the_float_products_as_they_were() -> None:
    inputs = context().data.split("test").batch(torch.arange(8)).inputs
    for strength in (0.2, 0.8):
        model = quantize(smoothing=strength).run(encoder(), context()).model
        assert model is not None
        with torch.no_grad():
            torch.testing.assert_close(
                model.module(**inputs), encoder().module(**inputs), rtol=0.02, atol=0.02
            )


def test_smoothing_saves_what_an_outlier_channel_costs() -> None:
    model = encoder()
    with torch.no_grad():
        model.module.get_parameter("embed.weight")[:, 3] *= 40
    errors = {
        str(smoothing): quantize(smoothing=smoothing, operators=["linear", "matmul"])
        .run(model, context())
        .facts["converted"]["output_sqnr_db"]
        for smoothing in ("search", None)
    }
    assert errors["search"] > errors["None"] + 2


def test_the_result_is_the_same_every_time() -> None:
    first, second = (quantize().run(encoder(), context()).model for _ in range(2))
    assert first is not None
    assert second is not None
    assert same(first.state, second.state)


def test_what_is_quantized_is_refused_before_anything_runs() -> None:
    assert QuantizeDynamic.forms == {Form.FLOAT: Form.STORED}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"keep_float": ["*"]}, "there is no linear or matmul or embedding to quantize"),
        ({"operators": ["convolution"], "keep_float": ["conv"]}, "there is no convolution to quantize"),
        ({"keep_float": ["haed"]}, "no module matches 'haed'; did you mean 'head'"),
        (
            {"operators": ["linear"], "keep_float": ["conv"]},
            "'conv' matches conv, which has no weight of the",
        ),
        ({"samples": 64}, "64 calibration samples are asked for and there are 48"),
    ],
)
def test_choices_that_leave_nothing_are_told(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(StageError, match=message):
        quantize(**fields).run(encoder(), context())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bits": 4}, "bits"),
        ({"operators": []}, "at least 1 item"),
        ({"operators": ["linear", "linear"]}, "names one twice"),
        ({"operators": ["lstm"]}, "operators"),
        ({"smoothing": 1.0}, "smoothing"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        quantize(**fields)


def test_weights_that_are_not_finite_are_blamed_on_their_layer() -> None:
    model = encoder()
    with torch.no_grad():
        model.module.get_parameter("value.weight")[0, 0] = torch.inf
    with pytest.raises(StageError, match="value"):
        quantize(smoothing=None).run(model, context())


def test_a_weight_tried_alone_is_served_as_a_stage_serves_it_that_keeps_the_others() -> None:
    trials = quantize().trials(encoder(), context(), ())
    parts = ["embed", "gate", "value", "mix.matrix", "head"]
    assert [(each.part, each.level) for each in trials.trials] == [
        (part, level) for part in parts for level in (16, 8)
    ]
    alone = quantize(keep_float=["embed", "gate", "value", "mix"]).run(encoder(), context()).model
    assert alone is not None
    tokens = context().data.split("calibration").batch(torch.arange(16)).inputs
    with torch.no_grad(), trials.trials[-1].module() as module:
        assert torch.equal(module(**tokens), alone.inference_module(context().example)(**tokens))


def test_the_patch_of_a_stage_is_obeyed_by_it() -> None:
    stage = quantize(keep_float=["embed"])
    trials = stage.trials(encoder(), context(), (16.0, 8.0))
    patch = trials.patch({"gate": None, "value": 8.0, "mix.matrix": 16.0, "head": 8.0})
    assert patch.fields == {
        "keep_float": ["embed", "gate"], "overrides": [{"modules": "mix", "bits": 16}],
    }  # fmt: skip
    result = quantize(**patch.fields).run(encoder(), context())
    assert result.facts["bits"] == {"value.weight": 8, "mix.matrix": 16, "head.weight": 8}
    with pytest.raises(StageError, match="7, 8 or 16 bits"):
        stage.trials(encoder(), context(), (4.0,))
