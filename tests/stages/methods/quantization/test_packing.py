"""Weights kept at their width: the same model, in fewer bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from mcomp import plugins
from mcomp.model.checkpoint import load_model, save_model
from mcomp.model.model import Model
from mcomp.training.config import Training
from mcomp.training.loop import fit
from mcomp_stages.methods.quantization.compare import require_equal
from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.methods.quantization.fake_quantize import WeightIntegers
from mcomp_stages.methods.quantization.packing import numbers, packed_tensors, with_packed_weights
from mcomp_stages.methods.quantization.sites import WeightSite
from mcomp_stages.quantize.qat import QuantizeQat
from tests.mcomp.training.setting import SmallConfig, label_loss, make_context, same, small_model, weights
from tests.stages.quantize.test_qat import METHODS, TRAINING


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The architecture `small`, registered for one test."""
    monkeypatch.setattr(plugins, "decorated", {})
    plugins.model("small")(SmallConfig)


def trained(**asked: Any) -> Model:
    config = QuantizeQat.model_validate({"training": TRAINING, "latent_weights": True, **asked})
    result = config.run(small_model(), make_context()).model
    assert result is not None
    return result


def served(model: Model) -> Tensor:
    context = make_context()
    with torch.no_grad():
        output: Tensor = model.inference_module(context.example)(
            **context.data.split("test").batch(torch.arange(24)).inputs
        )
    return output


@given(bits=st.integers(1, 7), symmetric=st.booleans(), seed=st.integers(0, 99))
def test_integers_come_back_from_their_codes(bits: int, symmetric: bool, seed: int) -> None:
    site = WeightSite.model_validate({"bits": bits, "symmetric": symmetric or bits == 1, "packed": (3, 5)})
    draw, half = torch.Generator().manual_seed(seed), 2 ** (bits - 1)
    low, high = (1 - half, half) if site.symmetric else (0, 2 * half)
    integers = torch.randint(low, high, (3, 5), generator=draw)
    integers = torch.where(integers == 0, 1, -1) if bits == 1 else integers
    zero = (
        torch.zeros(3, dtype=torch.int64) if site.symmetric else torch.randint(0, high, (3,), generator=draw)
    )
    kind = torch.int8 if site.symmetric else torch.uint8
    scale = torch.rand(3, generator=draw) + 0.1
    tensors = packed_tensors(WeightIntegers(integers.to(kind), scale, zero.to(kind)), site)
    assert tensors["codes"].shape == (3, -(-5 * bits // 8))
    assert torch.equal(numbers(tensors, site), (integers - zero[:, None]) * scale[:, None])


@pytest.mark.parametrize(
    ("method", "bits"), [*((each, 4) for each in METHODS), (METHODS[0], 2), (METHODS[3], 7)]
)
def test_a_model_computes_the_same_packed_and_comes_back_from_disk(
    method: dict[str, Any], bits: int, tmp_path: Path
) -> None:
    model = trained(weights={"bits": bits}, method=method)
    packed = with_packed_weights(model, make_context().example)
    assert torch.equal(served(packed), served(model))
    save_model(packed, tmp_path)
    stored = load_file(tmp_path / "weights.safetensors")
    assert "conv.weight" not in stored
    assert stored["state:quantizers.conv.weight.codes"].shape == (4, -(-9 * bits // 8))
    loaded = load_model(tmp_path)
    assert same(weights(loaded), weights(packed))
    assert torch.equal(served(loaded), served(model))
    require_equal(loaded, make_context().example, make_context().example)


def test_training_goes_on_from_the_rounded_weights_and_stays_packed(tmp_path: Path) -> None:
    packed = with_packed_weights(trained(weights={"bits": 4}), make_context().example)
    again = fit(packed, Training(epochs=1), make_context(), label="train", loss=label_loss).model
    assert not same(weights(packed), weights(again))
    save_model(again, tmp_path)
    assert torch.equal(served(load_model(tmp_path)), served(again))


def test_weights_of_8_bits_keep_their_floats() -> None:
    overrides = [{"layer": "last", "weights": {"bits": 4}}]
    model = trained(overrides=overrides)
    packed = with_packed_weights(model, make_context().example)
    edit = packed.edits[-1]
    assert isinstance(edit, Quantizers)
    assert [name for name, site in edit.weights.items() if site.packed] == ["fc.weight"]
    assert torch.equal(packed.module.get_parameter("conv.weight"), model.module.get_parameter("conv.weight"))


def test_codes_of_another_shape_are_refused() -> None:
    edit = Quantizers(weights={"fc.weight": WeightSite(bits=4, scale="stored", packed=(3, 5))})
    with pytest.raises(ValueError, match=r"fc\.weight is kept as codes of shape \(3, 5\)"):
        small_model().edited(edit)
