"""Which blocks a model has, and the edit that leaves them out."""

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
from mcomp_stages.methods.blocks.blocks import removable_blocks
from mcomp_stages.methods.blocks.edit import RemovedBlock, RemovedBlocks
from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.models.mobilenet_v2 import MobileNetV2Config
from mcomp_stages.models.resnet import ResNetConfig
from tests.architectures import NETS, example
from tests.tiny_transformers import TinyConfig, tiny_example


def resnet(depth: int = 20, **fields: Any) -> Model:
    torch.manual_seed(0)
    config = ResNetConfig(depth=depth, width=4, in_channels=3, num_classes=5, **fields)  # type: ignore[arg-type]
    return Model(config.build().eval(), config)


def without(*paths: str, in_tuple: bool = False) -> RemovedBlocks:
    return RemovedBlocks(blocks=tuple(RemovedBlock(module=path, in_tuple=in_tuple) for path in paths))


def test_blocks_that_change_no_shape_can_go() -> None:
    blocks = removable_blocks(resnet().module, example())
    assert list(blocks) == [f"layer{stage}.{n}" for stage in (1, 2, 3) for n in range(3) if stage == 1 or n]


def test_a_padded_shortcut_does_not_make_a_block_removable() -> None:
    blocks = removable_blocks(resnet(shortcut="pad").module, example())
    assert "layer2.0" not in blocks


def test_a_resnet_56_has_25_blocks_to_choose_from() -> None:
    assert len(removable_blocks(resnet(56).module, example())) == 25


def test_blocks_without_a_shortcut_stay() -> None:
    module = MobileNetV2Config(width=0.25, stem="small", in_channels=3, num_classes=5).build().eval()
    adding = [path for path, part in module.named_modules() if getattr(part, "adds", False)]
    assert list(removable_blocks(module, example(32))) == adding
    assert removable_blocks(NETS["vgg"]().eval(), example()) == {}


@pytest.mark.parametrize("name", ["bert", "vit", "llama", "distilbert"])
def test_layers_of_transformers_can_go(name: str) -> None:
    module, inputs = TinyConfig(name=name).build(), tiny_example(name)
    blocks = removable_blocks(module, inputs)
    assert len(blocks) == 2
    for block in blocks.values():
        RemovedBlocks(blocks=(block,)).apply(module, {})
    with torch.no_grad():
        module(**inputs)
    assert removable_blocks(module, inputs) == {}


def test_a_layer_that_the_code_around_it_looks_into_stays() -> None:
    module = NETS["torch_transformer"]().eval()
    before = {path: id(part) for path, part in module.named_modules()}
    assert list(removable_blocks(module, example())) == ["encoder.layers.1"]
    assert {path: id(part) for path, part in module.named_modules()} == before


def test_patterns_choose_and_skips_keep() -> None:
    module = resnet().module
    assert list(removable_blocks(module, example(), ["layer3.*"], ["layer3.1"])) == ["layer3.2"]
    with pytest.raises(
        StageError, match=r"nothing that matches 'layer2.0' can be left out: a block runs once"
    ):
        removable_blocks(module, example(), ["layer2.0"])


def test_a_pattern_whose_blocks_are_gone_is_no_mistake() -> None:
    model = resnet().edited(without("layer3.1", "layer3.2"))
    assert removable_blocks(model.module, example(), ["layer3.[12]"]) == {}


def test_a_module_that_runs_twice_stays() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(resnet().module.get_submodule(f"layer1.{n}") for n in range(2))

        def forward(self, image: Tensor) -> Tensor:
            first, second = self.blocks
            return second(first(first(image)))

    inputs = {"image": torch.randn(2, 4, 8, 8)}
    assert list(removable_blocks(Twice().eval(), inputs)) == ["blocks.1"]


def test_without_a_block_the_next_gets_its_input() -> None:
    model = resnet()
    shorter = model.edited(without("layer2.1"))
    module = model.module
    with torch.no_grad():
        x = module.get_submodule("layer2.0")(torch.randn(2, 4, 8, 8))
        expected = module.get_submodule("layer2.2")(x)
        for part in list(shorter.module.get_submodule("layer2").children())[1:]:
            x = part(x)
    assert torch.equal(x, expected)


def test_a_saved_model_is_the_same_to_the_bit(tmp_path: Path) -> None:
    shorter = resnet().edited(without("layer1.0", "layer3.2"))
    save_model(shorter, tmp_path)
    loaded = load_model(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded.module.eval()(**example()), shorter.module.eval()(**example()))
    assert sum(each.numel() for each in loaded.module.parameters()) == sum(
        each.numel() for each in shorter.module.parameters()
    )


def test_masks_of_a_block_go_with_it() -> None:
    names = ("layer1.0.conv1.weight", "layer1.1.conv1.weight")
    shorter = resnet().edited(Masks(names=names)).edited(without("layer1.0"))
    assert set(shorter.state) == {"masks.layer1.1.conv1.weight"}


def test_quantizers_come_last() -> None:
    with pytest.raises(ValueError, match="the structure cannot change after quantizers"):
        resnet().edited(Quantizers()).edited(without("layer1.0"))


def test_a_block_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"there is no module layer9\.0"):
        resnet().edited(without("layer9.0"))
