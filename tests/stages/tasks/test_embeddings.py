from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mcomp.errors import StageError
from mcomp_stages.tasks import similarity
from mcomp_stages.tasks.embeddings import EmbeddingsConfig
from mcomp_stages.tasks.similarity import pair_cosines

RANDOM = torch.Generator().manual_seed(0)
OURS, THEIRS = torch.randn(7, 3, generator=RANDOM), torch.randn(7, 5, generator=RANDOM)


def slow_cosines(vectors: list[list[float]]) -> list[float]:
    found = []
    for first in range(len(vectors)):
        for second in range(first + 1, len(vectors)):
            left, right = vectors[first], vectors[second]
            product = sum(a * b for a, b in zip(left, right, strict=True))
            found.append(product / math.hypot(*left) / math.hypot(*right))
    return found


def slow_spearman(left: list[float], right: list[float]) -> float:
    ranks = [[sorted(values).index(value) for value in values] for values in (left, right)]
    size = len(left)
    differences = sum((a - b) ** 2 for a, b in zip(*ranks, strict=True))
    return 1 - 6 * differences / (size * (size**2 - 1))


def score(name: str, *pairs: tuple[torch.Tensor, torch.Tensor]) -> float:
    metric = EmbeddingsConfig(by=name).metric()
    for output, target in pairs:
        metric.update(output, target)
    return float(metric.compute())


def test_the_rank_correlation_is_of_all_pairs_whatever_the_batches_and_widths() -> None:
    expected = slow_spearman(slow_cosines(OURS.tolist()), slow_cosines(THEIRS.tolist()))
    assert score("spearman", (OURS, THEIRS)) == pytest.approx(expected, abs=1e-5)
    assert score("spearman", (OURS[:3], THEIRS[:3]), (OURS[3:], THEIRS[3:])) == pytest.approx(
        expected, abs=1e-5
    )


@pytest.mark.parametrize("name", ["spearman", "pearson"])
def test_turned_and_longer_vectors_are_as_similar_as_before(name: str) -> None:
    turned, _ = torch.linalg.qr(torch.randn(5, 5, generator=RANDOM))
    assert score(name, (THEIRS @ turned * 3, THEIRS)) == pytest.approx(1, abs=1e-5)
    assert score(name, (OURS, THEIRS)) < 0.9


@given(st.integers(3, 40), st.integers(1, 200))
def test_of_too_many_pairs_each_sample_is_in_equally_many(number: int, most: int) -> None:
    vectors = torch.randn(number, 4, generator=torch.Generator().manual_seed(number))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "MOST_PAIRS", most)
        found = pair_cosines(vectors)
    every = number * (number - 1) // 2
    assert len(found) == (every if every <= most else max(1, most // number) * number)
    known = torch.tensor(slow_cosines(vectors.tolist()))
    assert ((found[:, None] - known[None, :]).abs().min(dim=1).values < 1e-5).all()


def test_training_brings_similarities_together() -> None:
    task = EmbeddingsConfig()
    assert task.loss(THEIRS * 2, THEIRS).item() == pytest.approx(0, abs=1e-6)
    output = OURS.clone().requires_grad_()
    before = task.loss(output, THEIRS).item()
    for _ in range(50):
        (gradient,) = torch.autograd.grad(task.loss(output, THEIRS), output)
        output = (output - 2 * gradient).detach().requires_grad_()
    assert task.loss(output, THEIRS).item() < before / 2
    assert score("spearman", (output.detach(), THEIRS)) > score("spearman", (OURS, THEIRS))


def test_the_targets_are_the_baselines_and_more_is_better() -> None:
    task = EmbeddingsConfig()
    assert (task.target, task.metric_name, task.direction) == ("baseline", "spearman", "higher")


def test_other_than_vectors_are_refused() -> None:
    with pytest.raises(StageError, match="embeddings are one vector"):
        score("spearman", (torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)))
    with pytest.raises(StageError, match="fewer than 3 samples"):
        score("spearman", (OURS[:2], THEIRS[:2]))


def test_vectors_are_followed_in_their_directions_and_need_one_width() -> None:
    task = EmbeddingsConfig(follow="vectors")
    ours = THEIRS.roll(1, dims=0)
    pairs = zip(ours.tolist(), THEIRS.tolist(), strict=True)
    expected = sum(1 - slow_cosines([left, right])[0] for left, right in pairs) / 7
    assert task.loss(ours * 2, THEIRS).item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(StageError, match=r"the model gives \(3,\) for a sample, the baseline \(5,\)"):
        task.loss(OURS, THEIRS)
