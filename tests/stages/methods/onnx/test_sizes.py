"""The bytes of a file by the width of its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mcomp.model.model import Model
from mcomp_stages.methods.export.graph import served_graph
from mcomp_stages.methods.half.choice import half_weights
from mcomp_stages.methods.half.edit import HalfWeights
from mcomp_stages.methods.onnx.sizes import bytes_by_width
from mcomp_stages.methods.onnx.write import write_onnx
from mcomp_stages.methods.quantization.weights.choice import chosen_weights
from mcomp_stages.methods.quantization.weights.compress import Compression, compressed
from mcomp_stages.methods.quantization.weights.config import WeightSettings
from mcomp_stages.methods.quantization.weights.grid import FITS
from mcomp_stages.methods.quantization.weights.methods import Options
from tests.stages.methods.onnx.test_pack import EXAMPLE, written
from tests.stages.methods.quantization.nets import ResidualNet, float_model


def numbers(model: Model, *layers: str) -> int:
    """Return how many numbers the weights of all layers, or of some, have."""
    return sum(
        parameter.numel()
        for name, parameter in model.module.named_parameters()
        if parameter.ndim > 1 and (not layers or name.removesuffix(".weight") in layers)
    )


def in_file(model: Model, folder: Path) -> tuple[dict[str, int], int]:
    (path,) = write_onnx(served_graph(model, EXAMPLE), EXAMPLE, folder / "net.onnx", opset=21)
    return bytes_by_width(path, model), path.stat().st_size


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_integers_count_at_their_own_width(bits: int, tmp_path: Path) -> None:
    last = {"layer": "last", "weights": {"bits": 8}}
    scheme: dict[str, Any] = {"weights": {"bits": bits}, "overrides": [last]}
    path, model = written(tmp_path, **scheme)
    found = bytes_by_width(path, model)
    fc, all_of_them = numbers(model, "fc"), numbers(model)
    expected = {"8 bit": fc, f"{bits} bit": (all_of_them - fc) * bits // 8}
    if bits == 8:
        expected = {"8 bit": all_of_them}
    assert {kind: size for kind, size in found.items() if "bit" in kind} == expected
    assert sum(found.values()) == path.stat().st_size


def test_floats_of_both_widths_are_told_apart(tmp_path: Path) -> None:
    model = float_model(ResidualNet)
    found, size = in_file(model, tmp_path)
    assert found["32 bit"] == 4 * numbers(model)
    assert sum(found.values()) == size
    names, kept = half_weights(model.module, ("fc",))
    half = model.edited(HalfWeights(dtype="float16", weights=names, keep_float=kept))
    fc = numbers(model, "fc")
    found, _ = in_file(half, tmp_path)
    assert (found["16 bit"], found["32 bit"]) == (2 * (numbers(model) - fc), 4 * fc)


def test_codes_that_lie_in_rows_of_bytes_count_as_what_they_are(tmp_path: Path) -> None:
    model = float_model(ResidualNet)
    chosen = chosen_weights(model.module, WeightSettings(bits=4, group_size=8))
    how = Compression(
        "rtn", Options(FITS["extremes"], 0.01, True), [], {each.name: "load" for each in chosen}
    )
    result = compressed(model, chosen, how, lambda label, compute: compute())[0]
    found, _ = in_file(result, tmp_path)
    codes = [tensor.nbytes for name, tensor in result.state.items() if name.endswith(".codes")]
    assert found["4 bit"] == sum(codes)
    assert found.keys() & {"8 bit", "32 bit"} == set()
