"""Networks that end at a head: what is left out, that they say what the head says, and where they cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp.model.checkpoint import load_model, save_model
from mcomp.model.edits import Masks
from mcomp.model.model import Model
from mcomp_stages.distill.itself import DistillSelf
from mcomp_stages.methods.distillation.early_exit import between, ending_at
from mcomp_stages.methods.distillation.exit_edit import Bottleneck, EarlyExit
from mcomp_stages.methods.distillation.exits import WithExits
from mcomp_stages.methods.distillation.proposals import called_once
from mcomp_stages.models.resnet import ResNetConfig
from tests.mcomp.training.setting import make_context, small_model

IMAGES = {"image": torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))}


def resnet() -> Model:
    torch.manual_seed(0)
    config = ResNetConfig(depth=20, width=4, in_channels=1, num_classes=3)
    return Model(config.build().eval(), config)


def heads_of(model: Model, paths: list[str], keep: str) -> WithExits:
    torch.manual_seed(1)
    return WithExits(model.module, paths, IMAGES, num_updates=1, keep=keep).eval()


@pytest.mark.parametrize("keep", ["layer1", "layer2", "layer2.0"])
def test_a_network_that_ends_early_says_what_its_head_says(keep: str) -> None:
    model = resnet()
    heads = heads_of(model, [keep, "layer3"], keep)
    said = called_once(heads, IMAGES)
    heads.release()
    short = heads.ended(model, keep, IMAGES)
    assert torch.allclose(called_once(short.module, IMAGES), said, atol=1e-6)
    assert sum(map(Tensor.numel, short.module.parameters())) < sum(
        map(Tensor.numel, model.module.parameters())
    )


def test_what_lies_between_hands_its_input_on_and_the_rest_stays() -> None:
    model = resnet()
    edit = ending_at(model.module, "layer1.1", "layer3", IMAGES)
    assert edit == EarlyExit(
        place="layer3",
        left_out=("layer1.2", "layer2"),
        classifier="fc",
        bottleneck=Bottleneck(rectangle=(4, 4), inputs=4, outputs=16),
    )


def test_parts_of_what_is_left_out_are_not_named() -> None:
    done = ["a.0", "a.1.x", "a.1", "a", "b.0", "b", "c.0", "c", "d"]
    assert between(done, "a.0", "c") == ("a.1", "b")
    assert between(done, "b", "c") == ()


def test_it_comes_back_from_a_checkpoint_and_loses_the_masks_of_what_is_gone(tmp_path: Path) -> None:
    names = ("layer1.0.conv1.weight", "layer2.0.conv1.weight", "layer3.0.conv1.weight", "fc.weight")
    model = resnet().edited(Masks(names=names))
    heads = heads_of(model, ["layer1", "layer3"], "layer1")
    heads.release()
    short = heads.ended(model, "layer1", IMAGES)
    assert list(short.state) == ["masks.layer1.0.conv1.weight"]
    save_model(short, tmp_path)
    again = load_model(tmp_path)
    assert torch.equal(called_once(again.module, IMAGES), called_once(short.module, IMAGES))


def stage(**method: Any) -> DistillSelf:
    training = {"epochs": 3, "optimizer": {"type": "adamw", "lr": 0.01}}
    return DistillSelf.model_validate({"method": {"type": "byot", **method}, "training": training})


def test_the_stage_gives_the_network_that_ends_there_and_its_epochs_are_the_heads() -> None:
    context = make_context()
    result = stage(heads=["conv"], keep="conv").run(small_model(), context)
    assert result.model is not None
    assert result.model.edits[-1].kind == "early_exit"
    assert result.facts["kept"] == "conv"
    validation = context.data.split("validation")
    batch = validation.batch(torch.arange(len(validation)))
    right = called_once(result.model.module, batch.inputs).argmax(1) == batch.target
    best = result.facts["history"][result.facts["best_epoch"] - 1]
    assert right.float().mean().item() == pytest.approx(best["metric"])


class Skipping(nn.Module):
    """Adds the first features to the last ones, so that it cannot end before them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, image: Tensor) -> Tensor:
        first = self.first(image)
        logits: Tensor = self.fc((first + self.last(first)).mean((2, 3)))
        return logits


def test_a_network_that_cannot_end_there_is_refused_before_training() -> None:
    model, context = small_model(), make_context()
    skipping = Model(Skipping().eval(), model.spec)
    with pytest.raises(StageError, match="keep: first: the model does more behind it"):
        stage(heads=["first"], keep="first").run(skipping, context)
    with pytest.raises(StageError, match="keep: norm: no single head is there; they are behind conv"):
        stage(heads=["conv"], keep="norm").run(model, context)


def test_sizes_that_are_no_multiples_are_refused() -> None:
    odd = {"image": torch.randn(2, 1, 15, 15)}
    with pytest.raises(StageError, match="only maps whose sides are multiples"):
        ending_at(resnet().module, "layer1", "layer3", odd)


def test_a_classifier_of_another_width_is_refused() -> None:
    headless = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 8, 3, padding=1))
    with pytest.raises(StageError, match="keep: 0: no linear classifies the 8 last features"):
        ending_at(headless, "0", "2", {"input": IMAGES["image"]})


def test_an_edit_about_modules_that_are_not_there_is_refused() -> None:
    size = Bottleneck(rectangle=(1, 1), inputs=4, outputs=4)
    edit = EarlyExit(place="layer9", left_out=(), classifier="fc", bottleneck=size)
    with pytest.raises(ValueError, match="there is no module layer9"):
        resnet().edited(edit)
