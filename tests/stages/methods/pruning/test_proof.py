"""Sliced equals masked, for every architecture, and the check itself notices a wrong slice."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp.measure.macs import count_macs
from mcomp.model.edits import KeepChannels
from mcomp.model.model import Model
from mcomp.model.spec import ModelConfig
from mcomp_stages.methods.pruning.config import Target
from mcomp_stages.methods.pruning.cut import Cut, choose_cut
from mcomp_stages.methods.pruning.edit import channel_edits, edited, read_edits, stored
from mcomp_stages.methods.pruning.evidence import Evidence
from mcomp_stages.methods.pruning.groups import channel_groups
from mcomp_stages.methods.pruning.limits import Limits
from mcomp_stages.methods.pruning.proof import require_equal_to_masked, tensors
from mcomp_stages.methods.pruning.scores import channel_importance
from mcomp_stages.models.mobilenet_v2 import MobileNetV2Config
from mcomp_stages.models.resnet import ResNetConfig
from mcomp_stages.models.vit import ViTConfig
from tests.architectures import NetConfig, example, example_of


def resnet(depth: int, width: int, shortcut: str = "conv") -> ModelConfig:
    return ResNetConfig.model_validate(
        {"depth": depth, "width": width, "shortcut": shortcut, "in_channels": 3, "num_classes": 10}
    )


SMALL = (
    "vgg",
    "concat",
    "mbconv",
    "unet",
    "grouped",
    "shuffle",
    "tied",
    "mlp",
    "sorting",
    "vit",
    "eager",
    "torch_transformer",
    "linear_attention",
    "norms",
    "shuffled_groups",
    "super_resolution",
    "halved",
    "towers",
)
PRUNABLE: dict[str, ModelConfig] = {
    "resnet20": resnet(20, 16),
    "resnet20_pad": resnet(20, 16, "pad"),
    "resnet18": resnet(18, 16),
    "shipped_vit": ViTConfig(depth=2, width=32, heads=4, image_size=16, in_channels=3, num_classes=10),
    **{name: NetConfig(name=name) for name in SMALL},
}
DEEP: dict[str, ModelConfig] = {
    "resnet56": resnet(56, 8),
    "resnet56_pad": resnet(56, 8, "pad"),
    "resnet50": resnet(50, 8),
    "mobilenet_v2": MobileNetV2Config(width=0.35, in_channels=3, num_classes=10),
}


def trained_like(config: ModelConfig) -> Model:
    """A model whose norms are not at their start, where a wrong statistic would not show."""
    torch.manual_seed(0)
    module = config.build()
    for name, parameter in module.named_parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=0.0 if name.endswith("bias") else 1.0, std=0.3)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, std=0.2)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    return Model(module.eval(), config)


def inputs_of(model: Model) -> dict[str, Tensor]:
    return example_of(model.spec.name if isinstance(model.spec, NetConfig) else "")


def cuts_at(model: Model, *ratios: float) -> list[Cut]:
    groups = channel_groups(model.module, inputs_of(model))
    scores = channel_importance(groups, Evidence(model.module), "l2")
    return [
        choose_cut(groups, scores, Target(ratio=ratio), limits=Limits(2, 2), nearest=True) for ratio in ratios
    ]


def cut_in_half(model: Model) -> Cut:
    (cut,) = cuts_at(model, 0.5)
    return cut


@pytest.mark.parametrize("name", PRUNABLE)
def test_sliced_equals_masked_and_replays_on_a_fresh_architecture(name: str) -> None:
    model = trained_like(PRUNABLE[name])
    inputs = inputs_of(model)
    before = count_macs(model.module, inputs)
    for cut in cuts_at(model, 0.25, 0.5, 0.7):
        assert cut.removed.any()
        edits = channel_edits(model.module, cut)
        pruned = edited(model, edits)
        require_equal_to_masked(pruned, model, cut, inputs)
        assert count_macs(pruned.module, inputs) / before == pytest.approx(cut.shares["macs"])

        fresh = model.spec.build().eval()
        for edit in read_edits(json.loads(json.dumps(stored(edits)))):
            edit.apply(fresh, {})
        fresh.load_state_dict(pruned.module.state_dict())
        with torch.no_grad():
            replayed, kept = (tensors(module(**inputs)) for module in (fresh, pruned.module))
        assert all(torch.equal(*pair) for pair in zip(replayed, kept, strict=True))
        assert repr(fresh) == repr(pruned.module)


@pytest.mark.slow
@pytest.mark.parametrize("name", DEEP)
def test_deep_networks_too(name: str) -> None:
    model = trained_like(DEEP[name])
    for cut in cuts_at(model, 0.25, 0.5, 0.7):
        pruned = edited(model, channel_edits(model.module, cut))
        require_equal_to_masked(pruned, model, cut, example())


@pytest.mark.parametrize("name", ["resnet20", "vgg", "mbconv", "unet", "vit", "eager", "towers"])
def test_kept_indices_shifted_in_one_tensor_are_found_out(name: str) -> None:
    model = trained_like(PRUNABLE[name])
    cut = cut_in_half(model)
    edit = channel_edits(model.module, cut)[-1]
    assert isinstance(edit, KeepChannels)
    # A key's bias adds the same to every score of a query, which the softmax takes out again.
    wanted = [(at, each) for at, each in enumerate(edit.slices) if not each.name.endswith("key.bias")]
    for position, cut_slice in wanted[::9]:
        size = model.module.state_dict()[cut_slice.name].shape[cut_slice.axis]
        shifted = cut_slice.model_copy(update={"keep": tuple((i + 1) % size for i in cut_slice.keep)})
        slices = (*edit.slices[:position], shifted, *edit.slices[position + 1 :])
        wrong = model.edited(edit.model_copy(update={"slices": slices}))
        with pytest.raises(StageError, match="does not compute what the masked model computes"):
            require_equal_to_masked(wrong, model, cut, inputs_of(model))


def test_the_first_layer_that_differs_is_named() -> None:
    model = trained_like(PRUNABLE["vgg"])
    cut = cut_in_half(model)
    pruned = edited(model, channel_edits(model.module, cut))
    with torch.no_grad():
        pruned.module.get_parameter("features.4.weight").add_(1.0)
    with pytest.raises(StageError) as failure:
        require_equal_to_masked(pruned, model, cut, example())
    assert failure.value.module == "features.4"


def test_a_size_written_in_forward_is_an_error_that_says_so() -> None:
    model = trained_like(NetConfig(name="fixed_size"))
    cut = cut_in_half(model)
    with pytest.raises(StageError, match="may hold a fixed size") as failure:
        require_equal_to_masked(edited(model, channel_edits(model.module, cut)), model, cut, example())
    assert failure.value.module in ("stem", "last")


def test_tied_weights_stay_tied() -> None:
    model = trained_like(PRUNABLE["tied"])
    pruned = edited(model, channel_edits(model.module, cut_in_half(model))).module
    assert pruned.first.weight is pruned.second.weight
    assert pruned.first.weight.shape == (16, 16)
