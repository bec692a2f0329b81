from __future__ import annotations

import math

import pytest
import torch

from mcomp.errors import StageError
from mcomp_stages.tasks.regression import RegressionConfig

SAID = [1.0, 2.5, -1.0, 4.0]
TRUE = [1.5, 2.0, 1.0, 3.0]
ERRORS = [abs(said - true) for said, true in zip(SAID, TRUE, strict=True)]


def huber(error: float) -> float:
    return error**2 / 2 if error <= 1 else error - 0.5


@pytest.mark.parametrize(
    ("distance", "of_one"), [("mse", lambda error: error**2), ("mae", abs), ("huber", huber)]
)
def test_the_loss_is_the_mean_distance(distance: str, of_one: object) -> None:
    task = RegressionConfig(distance=distance)
    expected = sum(map(of_one, ERRORS)) / 4
    for said, true in (
        (torch.tensor(SAID)[:, None], torch.tensor(TRUE)),
        (torch.tensor(SAID), torch.tensor(TRUE)[:, None]),
    ):
        assert task.loss(said, true).item() == pytest.approx(expected)
    two_a_sample = torch.tensor(SAID).view(2, 2), torch.tensor(TRUE).view(2, 2)
    assert task.loss(*two_a_sample).item() == pytest.approx(expected)


def correlation(left: list[float], right: list[float]) -> float:
    means = sum(left) / len(left), sum(right) / len(right)
    shifted = [[value - mean for value in each] for each, mean in zip((left, right), means, strict=True)]
    spread = math.prod(math.sqrt(sum(value**2 for value in each)) for each in shifted)
    return sum(a * b for a, b in zip(*shifted, strict=True)) / spread


def rank(values: list[float]) -> list[float]:
    return [float(sorted(values).index(value)) for value in values]


MEAN = sum(TRUE) / 4
EXPECTED = {
    "mae": sum(ERRORS) / 4,
    "rmse": math.sqrt(sum(error**2 for error in ERRORS) / 4),
    "r2": 1 - sum(error**2 for error in ERRORS) / sum((true - MEAN) ** 2 for true in TRUE),
    "pearson": correlation(SAID, TRUE),
    "spearman": correlation(rank(SAID), rank(TRUE)),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_metrics_are_those_of_hand_whatever_the_batches(name: str) -> None:
    task = RegressionConfig(by=name)
    metric = task.metric()
    metric.update(torch.tensor(SAID[:2])[:, None], torch.tensor(TRUE[:2]))
    metric.update(torch.tensor(SAID[2:])[:, None], torch.tensor(TRUE[2:]))
    assert float(metric.compute()) == pytest.approx(EXPECTED[name], rel=1e-4)
    assert task.direction == ("lower" if name in ("mae", "rmse") else "higher")


def test_other_numbers_than_the_data_has_are_refused() -> None:
    with pytest.raises(StageError, match="the model gives 3 numbers for a sample, and the data has 2"):
        RegressionConfig().loss(torch.zeros(4, 3), torch.zeros(4, 2))


def test_whole_numbers_may_be_targets() -> None:
    assert RegressionConfig().loss(torch.zeros(2, 1), torch.tensor([3, 1])).item() == pytest.approx(5)
