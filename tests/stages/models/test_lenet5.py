from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from mcomp.data.contract import DataFacts
from mcomp.errors import RecipeError
from mcomp_stages.models.lenet5 import LeNet5Config


@pytest.mark.parametrize("image_size", [12, 13, 16, 28, 31, 32, 48])
def test_any_image_size_fits(image_size: int) -> None:
    module = LeNet5Config(image_size=image_size, in_channels=2, num_classes=5).build()
    assert module(image=torch.randn(3, 2, image_size, image_size)).shape == (3, 5)


@pytest.mark.parametrize("image_size", [28, 32])
def test_the_papers_sizes_give_its_400_features(image_size: int) -> None:
    module = LeNet5Config(image_size=image_size, in_channels=1, num_classes=10).build()
    assert module.get_parameter("fc1.weight").shape == (120, 400)


def test_open_sizes_come_from_the_data() -> None:
    fitted = LeNet5Config(num_classes=4).fitted_to(DataFacts(channels=1, image_size=16, num_classes=10))
    assert (fitted.image_size, fitted.in_channels, fitted.num_classes) == (16, 1, 4)
    with pytest.raises(RecipeError, match="does not say image_size"):
        LeNet5Config().fitted_to(DataFacts()).build()


def test_images_that_vanish_are_refused() -> None:
    with pytest.raises(ValidationError):
        LeNet5Config(image_size=8)
    with pytest.raises(RecipeError, match="8 pixels"):
        LeNet5Config().fitted_to(DataFacts(channels=1, image_size=8, num_classes=10)).build()
