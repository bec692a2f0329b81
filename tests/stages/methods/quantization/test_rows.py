"""Linears on sequences as linears on rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mcomp.data.contract import VaryingSize
from mcomp.model.example import Example
from mcomp.model.graph import capture
from mcomp_stages.methods.quantization.rows import Rows

aten = torch.ops.aten


class Twice(nn.Module):
    """Two linears read one sequence, one of them with a ReLU; a third is on rows already."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.last = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last((torch.relu(self.left(x)) + self.right(x)).sum(1))
        return y


def on_rows(example: dict[str, Tensor] | Example) -> torch.fx.GraphModule:
    torch.manual_seed(0)
    captured = capture(Twice().eval(), example)
    rows = Rows(captured.graph)
    for node in list(captured.graph.nodes):
        if node.target is aten.linear.default:
            rows.flatten(node)
    captured.graph.lint()
    captured.recompile()
    return captured


def reshapes(graph_module: torch.fx.GraphModule) -> list[list[object]]:
    calls = graph_module.graph.find_nodes(op="call_function", target=aten.reshape.default)
    return [[size if isinstance(size, int) else str(size) for size in node.args[1]] for node in calls]  # type: ignore[union-attr]


def test_a_fixed_length_takes_numbers_alone() -> None:
    graph_module = on_rows({"x": torch.randn(2, 5, 6)})
    assert reshapes(graph_module) == [[-1, 6], [-1, 5, 4], [-1, 5, 4]]
    x = torch.randn(3, 5, 6)
    torch.manual_seed(0)
    torch.testing.assert_close(graph_module(x=x), Twice()(x))


def test_lengths_that_vary_are_read_off_the_input_once() -> None:
    example = Example({"x": torch.randn(2, 5, 6)}, {"x": {1: VaryingSize("length", 9)}})
    graph_module = on_rows(example)
    assert len(graph_module.graph.find_nodes(op="call_function", target=aten.sym_size.int)) <= 2
    torch.manual_seed(0)
    module = Twice()
    for shape in ((3, 7, 6), (1, 2, 6)):
        x = torch.randn(*shape)
        torch.testing.assert_close(graph_module(x=x), module(x))


def test_the_activation_of_a_linear_runs_on_rows_with_it() -> None:
    graph_module = on_rows({"x": torch.randn(2, 5, 6)})
    (relu,) = graph_module.graph.find_nodes(op="call_function", target=aten.relu.default)
    assert relu.args[0].target is aten.linear.default
