"""Embeddings in bytes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp_stages.methods.quantization.calibrate import calibrated
from mcomp_stages.methods.quantization.compare import require_equal
from mcomp_stages.methods.quantization.config import Scheme
from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.methods.quantization.observers.config import MinMax
from mcomp_stages.methods.quantization.scheme import quantizers_for
from tests.stages.methods.quantization.nets import NetConfig


class Words(nn.Module):
    """Two tables, one of them also read as a head, and a linear between."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(40, 16, padding_idx=0), nn.Embedding(9, 16)
        self.norm, self.mix = nn.LayerNorm(16), nn.Linear(16, 16)
        self.tied = nn.Embedding(40, 16)
        self.head = nn.Linear(16, 40, bias=False)
        self.head.weight = self.tied.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens) + self.places(torch.arange(9)) + self.tied(tokens)
        scores: Tensor = self.head(self.mix(self.norm(x)).mean(1))
        return scores


def tokens(number: int = 8) -> dict[str, Tensor]:
    return {"tokens": torch.randint(0, 40, (number, 9), generator=torch.Generator().manual_seed(0))}


def quantized(**scheme: Any) -> Model:
    torch.manual_seed(0)
    model = Model(Words().eval(), NetConfig())
    edited = model.edited(quantizers_for(model.module, tokens(2), Scheme.model_validate(scheme)))
    return calibrated(edited, tokens(2), [tokens()], MinMax())


def weights(model: Model) -> dict[str, int]:
    (edit,) = model.edits
    assert isinstance(edit, Quantizers)
    assert "words.weight" not in edit.integer_weights
    return {name: site.bits for name, site in edit.weights.items()}


def test_what_is_looked_up_is_the_row_rounded_on_its_own_scale() -> None:
    model = quantized()
    served = model.inference_module(tokens(2))
    assert isinstance(served, GraphModule)
    tables = {name: tensor for name, tensor in served.named_buffers() if "weight_codes" in name}
    assert {tensor.dtype for tensor in tables.values()} == {torch.uint8}
    assert {tuple(tensor.shape) for tensor in tables.values()} == {(40, 16), (9, 16)}
    left = {name for name, _ in served.named_parameters(remove_duplicate=False)}
    assert not {"words.weight", "places.weight"} & left
    row = model.module.get_parameter("words.weight")[7]
    step = row.abs().max() / 127
    codes, scale = served.get_buffer("words.weight_codes")[7], served.get_buffer("words.weight_scale")[7]
    torch.testing.assert_close((codes.float() - 128) * scale, torch.round(row / step) * step)


def test_converted_equals_trained() -> None:
    assert require_equal(quantized(), tokens(2), tokens()).output_error < 1e-5


def test_tables_have_8_bits_and_those_that_are_multiplied_too_stay_in_float() -> None:
    assert weights(quantized(weights={"bits": 4})) == {"words.weight": 8, "places.weight": 8, "mix.weight": 4}


def test_tables_can_stay_in_float() -> None:
    assert set(weights(quantized(keep_float=["places"]))) == {"words.weight", "mix.weight"}
    by_type = quantized(overrides=[{"type": "Embedding", "keep_float": True}])
    assert set(weights(by_type)) == {"mix.weight"}


def test_other_integers_are_refused() -> None:
    for choice in ({"modules": "words"}, {"type": "Embedding"}):
        with pytest.raises(StageError, match="words is an embedding, which has 8 bits or keep_float"):
            quantized(overrides=[{**choice, "weights": {"bits": 4}}])
