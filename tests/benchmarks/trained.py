"""Networks trained on 1,000 images of MNIST, once, and the context that a stage works on them in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from mcomp.data.contract import Data
from mcomp.model.checkpoint import load_model, save_model
from mcomp.model.example import Example
from mcomp.model.model import Model
from mcomp.recipe.schema import Compute
from mcomp.stage import Context
from mcomp_stages.data.mnist5k import Mnist5kConfig
from mcomp_stages.models.resnet import ResNetConfig
from mcomp_stages.tasks.classification import ClassificationConfig
from mcomp_stages.train.supervised import Train


class Silent:
    """Says nothing."""

    def progress(self, label: str, total: int) -> AbstractContextManager[Any]:
        return nullcontext(self)

    def advance(self, steps: int = 1, **figures: float | str) -> None: ...

    def log(self, message: str) -> None: ...

    warn = log


def mnist(image_size: int = 20) -> Data:
    """Return the images; training is augmented as in recipes/mnist_teacher.yaml."""
    fields = {"train": 1000, "image_size": image_size, "augment": {"crop_padding": 2}}
    return Mnist5kConfig.model_validate(fields).load()


def context_for(data: Data, seed: int, folder: Path) -> Context:
    return Context(
        step="benchmark",
        seed=seed,
        data=data,
        batch_size=64,
        task=ClassificationConfig(num_classes=10),
        compute=Compute(threads=1),
        folder=folder,
        example=Example(data.split("calibration").batch(torch.arange(2)).inputs),
        reporter=Silent(),
        models={},
    )


def trained_resnet(
    folder: Path, data: Data, seed: int, depth: int = 20, width: int = 8, epochs: int = 10
) -> Model:
    """Return a ResNet, trained the first time it is asked for and kept in `folder`."""
    kept = folder / f"resnet{depth}-{width}-{seed}"
    if not (kept / "model.json").exists():
        torch.manual_seed(seed)
        spec = ResNetConfig(depth=depth, width=width, num_classes=10, in_channels=1)
        training = {
            "epochs": epochs,
            "optimizer": {"type": "sgd", "lr": 0.05},
            "schedule": {"type": "one_cycle"},
        }
        stage = Train.model_validate({"training": training})
        result = stage.run(Model(spec.build(), spec), context_for(data, seed, folder))
        assert result.model is not None
        save_model(result.model, kept)
    return load_model(kept)
