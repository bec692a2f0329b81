"""A model that torch.export refuses: which line of its code, and what to do."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp.model.graph import capture

EXAMPLE = {"image": torch.ones(2, 4)}


class Branches(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        if image.sum() > 0:
            return -image
        return image


class Holds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Branches()

    def forward(self, image: Tensor) -> Tensor:
        result: Tensor = self.inner(image)
        return result


class Counts(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image[:, : int(image.sum())]


class FixesTheBatch(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image.view(2, -1)


class Raises(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        raise KeyError(image.shape)


def refused(module: nn.Module) -> str:
    with pytest.raises(StageError) as caught:
        capture(module, EXAMPLE)
    return str(caught.value)


def place(text: str) -> str:
    """Return how the line of this file that holds a text is told."""
    lines = Path(__file__).read_text().splitlines()
    (number,) = (number for number, line in enumerate(lines, 1) if line.strip() == text)
    return re.escape(f"at {__file__}:{number} ({text}): ")


@pytest.mark.parametrize(
    ("module", "line", "advice"),
    [
        (Branches(), "if image.sum() > 0:", r"torch\.where in place of if"),
        (Counts(), "return image[:, : int(image.sum())]", r"no \.item\(\), int\(\)"),
        (Raises(), "raise KeyError(image.shape)", "torch's own operators"),
    ],
)
def test_the_line_is_named_with_what_to_do(module: nn.Module, line: str, advice: str) -> None:
    words = rf"cannot capture {type(module).__name__} {place(line)}.*{advice}.*need no capture"
    assert re.search(words, refused(module))


def test_the_line_is_that_of_the_part_that_cannot_be_captured() -> None:
    assert re.search(rf"cannot capture Holds {place('if image.sum() > 0:')}", refused(Holds()))


def test_a_fixed_batch_is_told_by_the_axis_that_should_vary() -> None:
    assert re.search(
        r"cannot capture FixesTheBatch: Constraints violated \(batch\).*sizes from x\.shape",
        refused(FixesTheBatch()),
    )


class Says(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        print("hello", file=sys.stderr)
        return image if image.sum().item() > 0 else -image


def test_the_part_that_was_captured_is_not_printed_and_all_else_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = sys.stderr
    with pytest.raises(StageError, match="cannot capture Says"):
        capture(Says(), EXAMPLE)
    assert set(capsys.readouterr().err.split()) == {"hello"}
    assert sys.stderr is before
