"""Weights in few bits in ONNX files: every width gives its numbers, packed, and the runtime runs them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from mcomp.measure.census import census
from mcomp.measure.runtimes.onnx import OnnxSession
from mcomp.model.model import Model
from mcomp_stages.methods.onnx.write import write_onnx
from mcomp_stages.methods.quantization.weights.record import StoredWeight
from tests.stages.methods.quantization.weights.nets import ReaderConfig, record, stored_model

# Columns, and how they are kept: whole words and bytes that do not fill one, whole groups and shorter ones.
KEPT: list[tuple[int, dict[str, Any]]] = [
    *((columns, {"bits": bits}) for bits in (2, 3, 4, 5, 6, 7, 8, 16) for columns in (24, 21)),
    *((columns, {"bits": bits, "group_size": 8}) for bits in (3, 4) for columns in (24, 21)),
    *((columns, {"bits": bits, "group_size": 8, "symmetric": False})
      for bits in (2, 3, 8) for columns in (24, 21)),
    *((columns, {"bits": bits, "group_size": 16, "symmetric": symmetric, "unpack": "product"})
      for bits in (2, 4, 8) for columns in (64, 40) for symmetric in (True, False)),
    (24, {"bits": 4, "group_size": 8, "scaled_inputs": True}),
    (64, {"bits": 4, "group_size": 16, "scaled_inputs": True, "unpack": "product"}),
    (24, {"bits": 8, "unpack": "integers"}),
    (24, {"bits": 7, "unpack": "integers", "scaled_inputs": True}),
]  # fmt: skip


class Widths(nn.Module):
    """A linear for each way of keeping a weight, an embedding for some; each reads a part of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(columns, 3) for columns, _ in KEPT)
        self.embeds = nn.ModuleList(nn.Embedding(11, 21) for _ in range(4))
        self.conv = nn.Conv2d(4, 6, 3, groups=2)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        linears = [linear(x[:, : linear.weight.shape[1]]) for linear in self.linears]  # type: ignore[index]
        embeds = [embed(tokens).flatten(1) for embed in self.embeds]
        return torch.cat([*linears, *embeds, self.conv(x.reshape(-1, 4, 4, 4)).flatten(1)], dim=1)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    torch.manual_seed(0)
    module = Widths().eval()
    records: dict[str, StoredWeight] = {
        f"linears.{number}.weight": record((3, columns), **kept)
        for number, (columns, kept) in enumerate(KEPT)
    }
    for number, (bits, group_size) in enumerate([(4, 8), (3, 8), (8, 21), (16, 21)]):
        records[f"embeds.{number}.weight"] = record((11, 21), bits, group_size, symmetric=bits > 4)
    records["conv.weight"] = record((6, 2, 3, 3), 3, 8, symmetric=False)
    gains = {
        name: torch.linspace(0.5, 2, kept.shape[1]) for name, kept in records.items() if kept.scaled_inputs
    }
    model = stored_model(Model(module, ReaderConfig()), records, gains)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    served = model.inference_module(inputs())
    write_onnx(served, inputs(), path, opset=21)  # type: ignore[arg-type]
    return model, path


def inputs(number: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "x": torch.randn(number, 64, generator=generator),
        "tokens": torch.randint(0, 11, (number, 2), generator=generator),
    }


def test_the_runtime_computes_with_the_numbers_of_the_codes(exported: tuple[Model, Path]) -> None:
    model, path = exported
    given = inputs(5)
    result = OnnxSession(path).run({name: value.numpy() for name, value in given.items()})
    with torch.no_grad():
        expected = model.module(**given).numpy()
    in_floats = sum(kept.get("unpack") != "integers" for _, kept in KEPT) * 3
    np.testing.assert_allclose(result[:, :in_floats], expected[:, :in_floats], atol=2e-5)
    np.testing.assert_allclose(result[:, in_floats + 6 :], expected[:, in_floats + 6 :], atol=2e-5)


def test_integer_products_are_those_of_the_graph(exported: tuple[Model, Path]) -> None:
    model, path = exported
    given = inputs(5)
    result = OnnxSession(path).run({name: value.numpy() for name, value in given.items()})
    np.testing.assert_allclose(result, model.inference_module(given)(**given).detach().numpy(), atol=2e-5)


def test_weights_lie_in_the_file_in_their_bits(exported: tuple[Model, Path]) -> None:
    _, path = exported
    sizes = {tensor.name: len(tensor.raw_data) for tensor in onnx.load(path).graph.initializer}
    for number, (columns, kept) in enumerate(KEPT):
        if kept.get("unpack", "load") == "load":
            expected = 3 * -(-columns * kept["bits"] // 8)
            assert sizes[f"linears.{number}.weight_codes"] == expected
    largest_float = max(
        len(tensor.raw_data)
        for tensor in onnx.load(path).graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    )
    assert largest_float <= 4 * 64  # gains and biases: no weight was folded into floats


def test_what_is_unpacked_at_load_is_floats_in_the_runtime(
    exported: tuple[Model, Path], tmp_path: Path
) -> None:
    _, path = exported
    counted = census(path, tmp_path)
    ways = Counter(kept.get("unpack", "load") for _, kept in KEPT)
    assert counted.by_type["MatMulNBits"] == ways["product"]
    assert counted.int8 == ways["integers"]
    assert "MatMulInteger" not in counted.by_type  # fused with what follows


def test_a_file_has_the_same_bytes_every_time(exported: tuple[Model, Path], tmp_path: Path) -> None:
    model, path = exported
    write_onnx(model.inference_module(inputs()), inputs(), tmp_path / "again.onnx", opset=21)  # type: ignore[arg-type]
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()
