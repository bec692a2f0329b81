from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mcomp.measure import memory
from mcomp.measure.macs import count_macs
from mcomp.measure.memory import PeakMemory
from mcomp.measure.size import parameter_count


def test_a_parameter_shared_by_two_modules_counts_once() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    assert parameter_count(nn.Sequential(first, second)) == 9 + 3 + 3


def test_macs_are_those_of_one_sample_whatever_the_batch() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 25, 10))
    expected = 8 * 3 * 9 * 25 + 8 * 25 * 10
    for samples in (2, 7):
        assert count_macs(net, {"input": torch.randn(samples, 3, 5, 5)}) == expected


def test_a_grouped_convolution_costs_its_share() -> None:
    net = nn.Conv2d(8, 8, 3, padding=1, groups=4)
    assert count_macs(net, {"input": torch.randn(2, 8, 5, 5)}) == 8 * 2 * 9 * 25


@pytest.mark.parametrize("need_weights", [False, True])
def test_fused_attention_costs_its_two_products(need_weights: bool) -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x, x, x, need_weights=need_weights)[0]

    expected = 5 * 8 * 8 * 4 + 2 * (5 * 5 * 8)
    assert count_macs(Attention(), {"x": torch.randn(3, 5, 8)}) == expected


def test_counting_leaves_the_running_statistics_and_the_mode_alone() -> None:
    net = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)).train()
    count_macs(net, {"input": torch.randn(2, 4) + 5})
    assert net.training
    assert torch.equal(net[0].running_mean, torch.zeros(4))


def held_bytes(megabytes: int) -> int:
    with PeakMemory() as peak:
        block = np.ones(megabytes * 2**20, np.uint8)
        del block
    assert peak.peak_bytes is not None
    return peak.peak_bytes


def test_memory_that_was_given_back_is_in_the_peak() -> None:
    assert held_bytes(96) - held_bytes(16) > 40 * 2**20


@pytest.mark.parametrize(("after", "known"), [(500, None), (700, 700)])
def test_where_the_mark_cannot_be_reset_only_a_new_lifetime_peak_is_known(monkeypatch, after, known) -> None:
    lifetime = iter((500, after))
    monkeypatch.setattr(memory, "reset_peak", lambda: False)
    monkeypatch.setattr(memory, "lifetime_peak_bytes", lambda: next(lifetime))
    with PeakMemory() as peak:
        pass
    assert peak.peak_bytes == known


def test_the_lifetime_peak_is_in_bytes() -> None:
    assert memory.lifetime_peak_bytes() > 20 * 2**20
