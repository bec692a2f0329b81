from __future__ import annotations

import pytest
import torch

from mcomp.data.contract import DataFacts
from mcomp.errors import StageError
from mcomp_stages.tasks.classification import ClassificationConfig
from mcomp_stages.tasks.token_classification import TokenClassificationConfig

LOGITS = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([[0, 2, -100, -100], [1, 1, 0, -100]])
FLAT = (torch.stack([LOGITS[0, 0], LOGITS[0, 1], *LOGITS[1, :3]]), torch.tensor([0, 2, 1, 1, 0]))


@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 3.0)])
def test_tokens_count_like_samples_and_padding_not_at_all(weights: tuple[float, ...] | None) -> None:
    task = TokenClassificationConfig(num_classes=3, class_weights=weights)
    plain = ClassificationConfig(num_classes=3, class_weights=weights)
    assert task.loss(LOGITS, LABELS).item() == pytest.approx(plain.loss(*FLAT).item())
    changed = LOGITS.clone()
    changed[LABELS == -100] = 100.0
    assert task.loss(changed, LABELS).item() == pytest.approx(plain.loss(*FLAT).item())


@pytest.mark.parametrize("name", ["accuracy", "f1", "matthews"])
def test_metrics_are_those_of_the_counted_tokens_whatever_the_lengths(name: str) -> None:
    metric, plain = (
        kind(num_classes=3, by=name).metric() for kind in (TokenClassificationConfig, ClassificationConfig)
    )
    metric.update(LOGITS[:1, :2], LABELS[:1, :2])
    metric.update(LOGITS[1:], LABELS[1:])
    plain.update(*FLAT)
    assert float(metric.compute()) == pytest.approx(float(plain.compute()))


def test_the_shares_of_classes_are_of_tokens() -> None:
    task = TokenClassificationConfig(num_classes=3)
    found, expected = task.class_hits(LOGITS, LABELS), ClassificationConfig().class_hits(*FLAT)
    assert found is not None
    assert expected is not None
    assert [each.tolist() for each in found] == [each.tolist() for each in expected]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (LABELS[:, :3], r"the model gives \(4, 3\) for a sample, and the data has \(3,\)"),
        (torch.full_like(LABELS, -100), "no token of a batch has a label that counts"),
        (LABELS + 1, "label -99 in the data, but the model has 3 classes"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: torch.Tensor, told: str) -> None:
    with pytest.raises(StageError, match=told):
        TokenClassificationConfig(num_classes=3).loss(LOGITS, labels)


def test_classes_come_from_the_data() -> None:
    assert TokenClassificationConfig().fitted_to(DataFacts(num_classes=9)).num_classes == 9
