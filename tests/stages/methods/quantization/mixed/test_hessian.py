"""Traces from random products against the whole matrix of second derivatives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mcomp.data.contract import Batch
from mcomp.stage import Checkpoint
from mcomp_stages.methods.quantization.mixed import hessian
from mcomp_stages.methods.quantization.mixed.hessian import mean_traces, random_signs
from tests.mcomp.training.checkpoints import at_once


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(torch.tanh(self.first(x)))
        return logits


def problem() -> tuple[Net, list[Batch]]:
    torch.manual_seed(0)
    sizes = (5, 3)
    batches = [Batch(torch.arange(n), {"x": torch.randn(n, 3)}, torch.arange(n) % 2) for n in sizes]
    return Net(), batches


def whole_matrix(net: Net, names: list[str], batch: Batch) -> Tensor:
    """The second derivatives of the mean loss by all of the parameters at once."""
    shapes = [net.get_parameter(name).shape for name in names]
    start = torch.cat([net.get_parameter(name).detach().flatten() for name in names])

    def loss(flat: Tensor) -> Tensor:
        parts = torch.split(flat, [shape.numel() for shape in shapes])
        given = {name: part.reshape(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        output = torch.func.functional_call(
            net, {**dict(net.named_parameters()), **given}, (batch.inputs["x"],)
        )
        return functional.cross_entropy(output, batch.target)

    matrix: Tensor = torch.autograd.functional.hessian(loss, start)
    return matrix


def test_products_with_signs_are_those_of_the_whole_matrix() -> None:
    net, batches = problem()
    names, num_probes = ["first.weight", "last.weight"], 3
    found = mean_traces(
        net, names, batches, functional.cross_entropy, num_probes, torch.Generator().manual_seed(0), at_once
    )
    draw, sums = torch.Generator().manual_seed(0), dict.fromkeys(names, 0.0)
    for batch in batches:
        matrix = whole_matrix(net, names, batch)
        for _ in range(num_probes):
            signs = torch.cat([random_signs(net.get_parameter(name), draw).flatten() for name in names])
            parts = torch.split(signs * (matrix @ signs), [12, 8])
            for name, part in zip(names, parts, strict=True):
                sums[name] += float(part.sum()) * len(batch.target) / (8 * num_probes)
    for name, numel in zip(names, (12, 8), strict=True):
        assert found[name] == pytest.approx(sums[name] / numel, abs=1e-6)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_traces_go_on_from_what_is_kept_to_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    net, batches = problem()
    monkeypatch.setattr(hessian, "PORTION", 1)
    kept: dict[str, Checkpoint] = {}

    def traces(known: dict[str, Checkpoint]) -> dict[str, float]:
        def unit(label: str, compute: Callable[[], Checkpoint]) -> Checkpoint:
            kept[label] = known.get(label) or compute()
            return kept[label]

        names, draw = ["first.weight", "last.weight"], torch.Generator().manual_seed(0)
        return mean_traces(net, names, batches, functional.cross_entropy, 3, draw, unit)

    whole = traces({})
    assert len(kept) == len(batches) > 1
    assert traces({"traces-0": kept["traces-0"]}) == whole
    monkeypatch.undo()
    assert traces({}) == whole


def test_signs_are_plus_or_minus_one() -> None:
    drawn = random_signs(torch.zeros(400), torch.Generator().manual_seed(0))
    assert drawn.unique().tolist() == [-1, 1]
    assert abs(drawn.mean()) < 0.2
