from __future__ import annotations

import pytest
import torch

from mcomp.data.contract import Batch
from mcomp.training.device import to_device

CPU = torch.device("cpu")


def gray_images(count: int) -> torch.Tensor:
    """Return images whose strides are those of (N, H, W, 1), as a crop or a decoder leaves them."""
    return torch.randn(count, 6, 6, 1).permute(0, 3, 1, 2)


def moved(image: torch.Tensor) -> torch.Tensor:
    batch = Batch(torch.arange(len(image)), {"image": image}, torch.zeros(len(image)))
    return to_device(batch, CPU).inputs["image"]


def test_gray_images_do_not_make_convolutions_compute_in_channels_last() -> None:
    image = gray_images(8)
    convolution = torch.nn.Conv2d(1, 4, 3)
    assert convolution(image).is_contiguous(memory_format=torch.channels_last)  # the trap
    assert convolution(moved(image)).is_contiguous()


@pytest.mark.parametrize("channels", [1, 3])
def test_values_stay(channels: int) -> None:
    image = torch.randn(4, 5, 5, channels).permute(0, 3, 1, 2)
    assert torch.equal(moved(image), image)
    assert moved(image).stride() == torch.empty(image.shape).stride()


def test_what_is_in_the_ordinary_layout_is_not_copied() -> None:
    image = torch.randn(4, 1, 5, 5)
    assert moved(image).data_ptr() == image.data_ptr()
