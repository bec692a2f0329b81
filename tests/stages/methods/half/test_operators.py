"""Convolutions of 16-bit numbers: the sums in float64, rounded once, and the operator of the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from mcomp.measure.runtimes.onnx import OnnxSession
from mcomp.model.graph import capture
from mcomp_stages.methods.half.operators import lower_convolutions
from mcomp_stages.methods.onnx.write import write_onnx

# Made in each test, after its seed: their weights are random.
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "line": lambda: nn.Conv1d(3, 5, 3, stride=2, padding=1, bias=False),
    "groups": lambda: nn.Conv2d(4, 8, (3, 1), padding=(1, 0), dilation=(2, 1), groups=2),
    "plain": lambda: nn.Conv2d(3, 2, 1),
    "volume": lambda: nn.Conv3d(2, 3, 2, stride=(1, 2, 1)),
}
LENGTH = {1: 9, 2: 6, 3: 4}


def sample(layer: nn.Module) -> Tensor:
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    sides = len(layer.kernel_size)
    shape = (2, layer.in_channels, *[LENGTH[sides]] * sides)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).half()


class Halves(nn.Module):
    """A layer on numbers of 16 bits."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, image: Tensor) -> Tensor:
        result: Tensor = self.layer(image.half())
        return result


def lowered(layer: nn.Module) -> GraphModule:
    graph_module = capture(Halves(layer), {"image": sample(layer).float()})
    lower_convolutions(graph_module.graph, set(graph_module.graph.nodes))
    served = GraphModule(graph_module, graph_module.graph)
    served.eval()
    (call,) = (node for node in served.graph.nodes if node.target is torch.ops.mcomp.conv_half.default)
    assert call.name.startswith("conv")
    return served


@pytest.mark.parametrize("name", LAYERS)
def test_sums_are_rounded_once_to_the_nearest_number_and_so_in_the_runtime(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name]().half().eval()
    x, served = sample(layer), lowered(layer)
    with torch.no_grad():
        found = served(x.float())
        exact = layer.double()(x.double())
    layer.half()
    unit = exact.abs().clamp(min=2.0**-14).log2().floor().exp2() * 2.0**-10
    assert found.dtype is torch.float16
    assert ((found.double() - exact).abs() / unit).max() <= 0.5 + 1e-3
    write_onnx(served, {"image": x.float()}, tmp_path / "net.onnx", opset=21)
    given = OnnxSession(tmp_path / "net.onnx").run({"image": x.float().numpy()})
    assert ((torch.from_numpy(given).double() - exact).abs() / unit).max() <= 1.0
