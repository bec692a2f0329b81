from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp.measure.parity import compare, cosines, same_choice
from mcomp.measure.runtimes.onnx import OnnxSession
from tests.mcomp.measure.files import CLASSES, IMAGE, float_classifier, parameters


class SameClassifier(nn.Module):
    """The network of `float_classifier` in torch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.fc = nn.Linear(4 * 8 * 8, CLASSES, bias=False)
        self.load_state_dict({name: torch.from_numpy(value) for name, value in parameters().items()})

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).relu().flatten(1))


def session(folder: Path) -> OnnxSession:
    return OnnxSession(float_classifier(folder / "m.onnx"))


def batches(num: int = 2, samples: int = 8) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [{"x": torch.randn(samples, *IMAGE, generator=generator)} for _ in range(num)]


def test_the_same_network_agrees_on_every_sample(tmp_path: Path) -> None:
    parity = compare(session(tmp_path), SameClassifier(), batches())
    assert parity.samples == 16
    assert parity.max_error < 1e-3
    assert parity.mean_cosine == pytest.approx(1)
    assert parity.agreement == 1


def test_one_shifted_class_is_seen_in_every_figure(tmp_path: Path) -> None:
    module = SameClassifier()
    with torch.no_grad():
        module.fc.weight[2] += 1
    parity = compare(session(tmp_path), module, batches())
    assert parity.max_error > 1
    assert parity.mean_cosine < 0.999
    assert parity.agreement is not None
    assert parity.agreement < 1


def test_another_number_of_outputs_is_a_stage_error(tmp_path: Path) -> None:
    module = SameClassifier()
    module.fc = nn.Linear(4 * 8 * 8, 3)
    with pytest.raises(StageError, match=r"shape \(8, 4\), the model \(8, 3\)"):
        compare(session(tmp_path), module, batches())


def test_values_that_are_not_finite_are_a_stage_error(tmp_path: Path) -> None:
    inputs = {"x": torch.full((2, *IMAGE), torch.inf)}
    with pytest.raises(StageError, match="not finite"):
        compare(session(tmp_path), SameClassifier(), [inputs])


def test_agreement_counts_equal_choices_of_a_class() -> None:
    served = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    expected = np.array([[5.0, 0.0], [0.0, 9.0], [0.0, 1.0], [0.0, 1.0]])
    assert same_choice(served, expected).tolist() == [True, True, False, True]
    assert same_choice(served[:, :1], expected[:, :1]).size == 0


def test_numbers_that_choose_nothing_have_no_agreement(tmp_path: Path) -> None:
    assert compare(session(tmp_path), SameClassifier(), batches(), classes=False).agreement is None


def test_cosine_ignores_length_and_two_zeros_are_equal() -> None:
    left = np.array([[3.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    right = np.array([[7.0, 0.0], [0.0, 0.0], [0.0, 2.0], [1.0, 0.0]])
    np.testing.assert_allclose(cosines(left, right), [1, 1, 0, 0])
