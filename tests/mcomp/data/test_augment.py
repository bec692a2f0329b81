from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mcomp.data.augment import Augment

ALL = Augment(flip="both", transpose=True, crop_padding=2)


def images(num_samples: int, side: int = 5) -> Tensor:
    return torch.arange(1, 1 + num_samples * 2 * side * 5).float().reshape(num_samples, 2, side, 5)


def slowly(augment: Augment, image: Tensor, draw: int, index: int) -> Tensor:
    """One image, pixel by pixel."""
    down, right, mirrored, upside_down, transposed = augment.choice(draw, index)
    channels, height, width = image.shape
    result = torch.zeros_like(image)
    for channel in range(channels):
        for row in range(height):
            for column in range(width):
                y, x = (column, row) if transposed else (row, column)
                y, x = height - 1 - y if upside_down else y, width - 1 - x if mirrored else x
                y, x = y + down - augment.crop_padding, x + right - augment.crop_padding
                if 0 <= y < height and 0 <= x < width:
                    result[channel, row, column] = image[channel, y, x]
    return result


@given(
    st.integers(0, 2**62),
    st.integers(0, 3),
    st.sampled_from(["none", "horizontal", "vertical", "both"]),
    st.booleans(),
)
def test_flips_transposes_and_shifts_are_those_of_the_slow_way(
    draw: int, padding: int, flip: str, transpose: bool
) -> None:
    augment = Augment.model_validate({"flip": flip, "crop_padding": padding, "transpose": transpose})
    indices, seen = torch.tensor([7, 0, 3]), images(3, side=5 if transpose else 4)
    fast = augment.applied(seen, indices, draw)
    pairs = zip(seen, indices.tolist(), strict=True)
    slow = [slowly(augment, image, draw, index) for image, index in pairs]
    assert torch.equal(fast, torch.stack(slow))
    assert fast.is_contiguous()


def test_what_a_sample_gets_does_not_depend_on_its_batch() -> None:
    together = ALL.applied(images(8), torch.arange(8), draw=5)
    alone = [ALL.applied(images(8)[[at]], torch.tensor([at]), draw=5) for at in range(8)]
    assert torch.equal(together, torch.cat(alone))


def test_every_choice_comes_about_equally_often() -> None:
    choices = torch.tensor([ALL.choice(1, index) for index in range(5000)])
    for axis, count in ((0, 5), (1, 5), (2, 2), (3, 2), (4, 2)):
        shares = choices[:, axis].bincount(minlength=count) / 5000
        assert torch.allclose(shares, torch.full((count,), 1 / count), atol=0.03)


def test_flips_and_transposes_are_drawn_independently() -> None:
    choices = torch.tensor([ALL.choice(1, index)[2:] for index in range(8000)])
    eight = (choices * torch.tensor([4, 2, 1])).sum(1).bincount(minlength=8) / 8000
    assert torch.allclose(eight, torch.full((8,), 1 / 8), atol=0.02)


def test_draws_differ_and_come_again() -> None:
    first, again, other = (ALL.applied(images(8), torch.arange(8), draw) for draw in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_nothing_asked_for_changes_nothing() -> None:
    assert not Augment().changes
    assert torch.equal(Augment().applied(images(4), torch.arange(4), draw=1), images(4))
