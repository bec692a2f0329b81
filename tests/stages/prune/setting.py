"""What the stages that prune are tried in."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import MagicMock

import torch

from mcomp.data.splits import Splits, TensorSplit
from mcomp.model.example import Example
from mcomp.model.model import Model
from mcomp.recipe.schema import Compute
from mcomp.stage import Context
from mcomp_stages.tasks.classification import ClassificationConfig
from tests.architectures import NetConfig, example


def model_of(name: str) -> Model:
    """Return one of the small networks with random weights."""
    torch.manual_seed(0)
    config = NetConfig(name=name)
    return Model(config.build(), config)


def context_in(folder: Path) -> Context:
    """Return a context with 32 pictures in every split."""
    return Context(
        step="prune",
        seed=0,
        data=Splits({name: pictures(32) for name in ("train", "calibration", "validation", "test")}),
        batch_size=8,
        task=ClassificationConfig(num_classes=10),
        compute=Compute(threads=1),
        folder=folder,
        example=Example(example()),
        reporter=MagicMock(),
        models={},
    )


def pictures(num_samples: int) -> TensorSplit:
    """Dark pictures and bright ones."""
    target = torch.arange(num_samples) % 2
    image = torch.randn(num_samples, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return TensorSplit(torch.arange(num_samples), {"image": image + 2.0 * target.view(-1, 1, 1, 1)}, target)
