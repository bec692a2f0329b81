"""Traces from random products against the whole matrix of second derivatives."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mcomp.data.contract import Batch
from mcomp_stages.methods.quantization.mixed.hessian import Batches, Traces, mean_traces, random_signs
from tests.mcomp.training.checkpoints import Memory, terminated_in
from tests.mcomp.training.setting import make_context


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


def traces_of(net: nn.Module, names: list[str], batches: list[Batch], num_probes: int) -> Traces:
    draw = torch.Generator().manual_seed(0)
    every = Batches(len(batches), batches.__getitem__)
    return Traces(net, names, every, functional.cross_entropy, num_probes, draw)


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
    found = mean_traces(traces_of(net, names, batches, num_probes), "traces", make_context().steps)
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


def test_traces_go_on_from_the_batch_behind_which_they_were_stopped() -> None:
    net, batches = problem()
    names, context = ["first.weight", "last.weight"], replace(make_context(), checkpoints=Memory())

    def traces() -> dict[str, float]:
        return mean_traces(traces_of(net, names, batches, 3), "costs", context.steps)

    whole = mean_traces(traces_of(net, names, batches, 3), "costs", make_context().steps)
    assert terminated_in(Traces, "advance", 0, traces) is None
    assert terminated_in(Traces, "advance", 1, traces) == whole  # there is one left


class Attending(nn.Module):
    """Attention in one call, as it is computed by fused kernels, or written out."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.fused = nn.Linear(3, 6), nn.Linear(2, 2), fused

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.first(x).view(len(x), 1, 1, 6).expand(-1, 1, 3, -1).split(2, dim=-1)
        key = key * torch.arange(3).view(3, 1)
        if self.fused:
            seen = functional.scaled_dot_product_attention(query, key, value * key)
        else:
            seen = (query @ key.mT / 2**0.5).softmax(-1) @ (value * key)
        logits: Tensor = self.last(seen.mean((1, 2)))
        return logits


def test_attention_in_one_call_has_the_traces_of_attention_written_out() -> None:
    _, batches = problem()
    names, steps = ["first.weight", "last.weight"], make_context().steps
    fused, written_out = (
        mean_traces(traces_of(Attending(each), names, batches, 8), "traces", steps) for each in (True, False)
    )
    print(fused)
    assert all(abs(trace) > 1e-4 for trace in fused.values())
    assert fused == pytest.approx(written_out, rel=1e-3)


def test_signs_are_plus_or_minus_one() -> None:
    drawn = random_signs(torch.zeros(400), torch.Generator().manual_seed(0))
    assert drawn.unique().tolist() == [-1, 1]
    assert abs(drawn.mean()) < 0.2
