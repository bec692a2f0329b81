"""What a model says of two samples, before anything is trained."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mcomp.check.binding import output_shape
from mcomp.errors import StageError


class Answers(nn.Module):
    """Gives what it is told to."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, image: Tensor) -> object:
        return self.answer


def test_a_model_whose_output_is_no_tensor_is_told_what_to_do() -> None:
    example = {"image": torch.zeros(2, 1)}
    assert output_shape(Answers(torch.zeros(2, 3)), example) == (3,)
    with pytest.raises(StageError, match="gives a list, and a task judges one tensor; let forward return"):
        output_shape(Answers([torch.zeros(2, 3)]), example)
