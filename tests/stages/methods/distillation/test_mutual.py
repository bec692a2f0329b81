from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mcomp_stages.methods.distillation.losses import kd
from mcomp_stages.methods.distillation.mutual import (
    best_of_each_sample,
    followed_distance,
    gated_sum,
    lowest_logits,
    mutual_distance,
)

# K = peers, N = samples, C = classes


@st.composite
def peers(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Logits of peers (K, N, C), and targets."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape = (draw(st.integers(2, 4)), draw(st.integers(1, 4)), draw(st.integers(2, 5)))
    outputs = 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return outputs, torch.randint(shape[2], (shape[1],), generator=generator)


def softmax(logits: list[float], temperature: float) -> list[float]:
    powers = [math.exp(logit / temperature) for logit in logits]
    return [power / sum(powers) for power in powers]


@given(peers(), st.sampled_from([1.0, 3.0]))
def test_each_peer_is_as_far_as_the_mean_of_its_divergences_from_the_others(
    problem: tuple[Tensor, Tensor], temperature: float
) -> None:
    outputs, _ = problem
    num_peers, num_samples, _ = outputs.shape
    total = 0.0
    for k in range(num_peers):
        for other in range(num_peers):
            if other == k:
                continue
            for n in range(num_samples):
                q, p = (softmax(outputs[each, n].tolist(), temperature) for each in (k, other))
                divergence = sum(b * math.log(b / a) for a, b in zip(q, p, strict=True))
                total += temperature**2 * divergence / num_samples / (num_peers - 1)
    assert mutual_distance(list(outputs), temperature).item() == pytest.approx(total, rel=1e-6, abs=1e-9)


def test_gradients_reach_a_peer_only_through_what_it_says_itself() -> None:
    outputs = [torch.randn(2, 3, requires_grad=True) for _ in range(2)]
    mutual_distance(outputs, 2.0).backward()
    alone = outputs[0].detach().clone().requires_grad_()
    kd(alone, outputs[1].detach(), 2.0).mean().backward()
    assert outputs[0].grad is not None
    assert alone.grad is not None
    assert torch.allclose(outputs[0].grad, alone.grad)


def test_nothing_flows_into_a_teacher() -> None:
    outputs = [torch.randn(2, 3, requires_grad=True) for _ in range(2)]
    gates = torch.full((2, 2), 0.5, requires_grad=True)
    followed_distance(outputs, gated_sum(outputs, gates), 1.0).backward()
    assert gates.grad is None


@given(peers())
def test_the_naive_teacher_is_the_surest_peer_of_each_sample(problem: tuple[Tensor, Tensor]) -> None:
    outputs, target = problem
    found = best_of_each_sample(outputs, target)
    for n, label in enumerate(target.tolist()):
        sure = [softmax(outputs[k, n].tolist(), 1.0)[label] for k in range(len(outputs))]
        assert torch.equal(found[n], outputs[sure.index(max(sure)), n])


@given(peers())
def test_no_mixture_of_peers_is_surer_of_the_target_than_the_lowest_logits(
    problem: tuple[Tensor, Tensor],
) -> None:
    outputs, target = problem
    found = lowest_logits(outputs, target).softmax(dim=1)
    mixtures = [*outputs, outputs.mean(0)]
    for n, label in enumerate(target.tolist()):
        assert all(found[n, label] >= each[n].softmax(0)[label] - 1e-12 for each in mixtures)
    expected = torch.stack(
        [
            torch.stack([outputs[k, n] - outputs[k, n, label] for k in range(len(outputs))]).amin(0)
            for n, label in enumerate(target.tolist())
        ]
    )
    assert torch.equal(lowest_logits(outputs, target), expected)


@given(peers())
def test_a_gate_weighs_the_logits_of_the_branches(problem: tuple[Tensor, Tensor]) -> None:
    outputs, _ = problem
    gates = torch.rand(outputs.shape[1], outputs.shape[0], dtype=torch.float64).softmax(dim=1)
    expected = sum(gates[:, k, None] * outputs[k] for k in range(len(outputs)))
    assert torch.allclose(gated_sum(list(outputs), gates), torch.as_tensor(expected))


@given(peers(), st.randoms())
def test_the_order_of_peers_does_not_matter(problem: tuple[Tensor, Tensor], random: object) -> None:
    outputs, target = problem
    other = outputs.flip(0)
    assert torch.isclose(mutual_distance(list(other), 2.0), mutual_distance(list(outputs), 2.0))
    assert torch.equal(lowest_logits(other, target), lowest_logits(outputs, target))
