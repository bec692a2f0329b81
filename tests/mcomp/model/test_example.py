from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mcomp.data.contract import VaryingSize
from mcomp.errors import StageError
from mcomp.model.example import Example, dynamic_shapes
from mcomp.model.graph import capture

LENGTH = VaryingSize("sequence", 12)
VARYING = {"tokens": {1: LENGTH}, "mask": {1: LENGTH}}


class MeanOfTokens(nn.Module):
    """The mean of the vectors of the tokens that a mask leaves, with a vector for each place."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 4)
        self.places = nn.Embedding(12, 4)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        place = torch.arange(tokens.shape[1])
        weight = mask.unsqueeze(-1).float()
        return ((self.words(tokens) + self.places(place)) * weight).sum(1) / weight.sum(1)


def batch(samples: int, length: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(9, (samples, length), generator=generator)
    mask = (torch.arange(length) < torch.arange(1, samples + 1)[:, None]).long()
    return {"tokens": tokens, "mask": mask}


def test_an_example_is_a_mapping_of_its_inputs() -> None:
    inputs = batch(2, 5)
    example = Example(inputs, VARYING)
    assert dict(example) == inputs
    assert {**example.to("cpu")}.keys() == inputs.keys()
    assert example.to("cpu").varying == VARYING


def test_a_graph_captured_from_an_example_takes_other_lengths() -> None:
    module = MeanOfTokens()
    graph = capture(module, Example(batch(2, 5), VARYING))
    for inputs in (batch(2, 5), batch(3, 12), batch(1, 2), batch(4, 1)):
        assert torch.allclose(graph(**inputs), module(**inputs))


def test_of_a_plain_mapping_only_the_batch_varies() -> None:
    shapes = dynamic_shapes(batch(2, 5))
    assert {name: list(axes) for name, axes in shapes.items()} == {"tokens": [0], "mask": [0]}


def test_sizes_of_one_name_are_one_size() -> None:
    shapes = dynamic_shapes(Example(batch(2, 5), VARYING))
    assert shapes["tokens"][1] is shapes["mask"][1]
    assert shapes["tokens"][0] is shapes["mask"][0]


class Sliced(nn.Module):
    """Refuses more than 12 tokens by the shape of its buffer."""

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return (tokens + torch.arange(12)[: tokens.shape[1]]).sum(1)


def test_lengths_that_the_model_cannot_take_are_a_stage_error() -> None:
    longer = {name: {1: VaryingSize("sequence", 13)} for name in VARYING}
    with pytest.raises(StageError, match=r"torch\.export cannot capture Sliced"):
        capture(Sliced(), Example(batch(2, 5), longer))
