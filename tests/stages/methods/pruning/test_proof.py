"""Sliced equals masked, for every architecture, and the check itself notices a wrong slice."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp.model.spec import ModelConfig
from mcomp_stages.methods.pruning.config import Target
from mcomp_stages.methods.pruning.cut import Cut, choose_cut
from mcomp_stages.methods.pruning.edit import channel_edit
from mcomp_stages.methods.pruning.groups import channel_groups
from mcomp_stages.methods.pruning.importance import channel_importance
from mcomp_stages.methods.pruning.proof import require_equal_to_masked
from mcomp_stages.models.resnet import ResNetConfig
from tests.architectures import NetConfig, example


def resnet(depth: int, width: int, shortcut: str = "conv") -> ModelConfig:
    return ResNetConfig.model_validate(
        {"depth": depth, "width": width, "shortcut": shortcut, "in_channels": 3, "num_classes": 10}
    )


PRUNABLE: dict[str, ModelConfig] = {
    "resnet20": resnet(20, 16),
    "resnet20_pad": resnet(20, 16, "pad"),
    "resnet56": resnet(56, 8),
    "resnet56_pad": resnet(56, 8, "pad"),
    "resnet18": resnet(18, 16),
    "resnet50": resnet(50, 8),
    **{
        name: NetConfig(name=name)
        for name in ("vgg", "concat", "mbconv", "unet", "grouped", "shuffle", "tied", "mlp")
    },
}


def trained_like(config: ModelConfig) -> Model:
    """A model whose norms are not at their start, where a wrong statistic would not show."""
    torch.manual_seed(0)
    module = config.build()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.GroupNorm):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.2)
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, std=0.2)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    return Model(module.eval(), config)


def cuts_at(model: Model, *ratios: float) -> list[Cut]:
    groups = channel_groups(model.module, example())
    scores = channel_importance(groups, dict(model.module.named_parameters()), "l2", torch.Generator())
    return [
        choose_cut(groups, scores, Target(ratio=ratio), round_to=2, min_channels=2, nearest=True)
        for ratio in ratios
    ]


def cut_in_half(model: Model) -> Cut:
    (cut,) = cuts_at(model, 0.5)
    return cut


@pytest.mark.parametrize("name", PRUNABLE)
def test_sliced_equals_masked_and_replays_on_a_fresh_architecture(name: str) -> None:
    model = trained_like(PRUNABLE[name])
    for cut in cuts_at(model, 0.25, 0.5, 0.75):
        assert cut.removed.any()
        edit = channel_edit(model.module, cut)
        pruned = model.edited(edit)
        require_equal_to_masked(pruned, model, cut, example())

        fresh = model.spec.build().eval()
        type(edit).model_validate_json(edit.model_dump_json()).apply(fresh, {})
        fresh.load_state_dict(pruned.module.state_dict())
        with torch.no_grad():
            assert torch.equal(fresh(**example()), pruned.module(**example()))
        assert repr(fresh) == repr(pruned.module)


@pytest.mark.parametrize("name", ["resnet20", "vgg", "concat", "mbconv", "unet", "shuffle"])
def test_kept_indices_shifted_in_one_tensor_are_found_out(name: str) -> None:
    model = trained_like(PRUNABLE[name])
    cut = cut_in_half(model)
    edit = channel_edit(model.module, cut)
    for position, cut_slice in list(enumerate(edit.slices))[::7]:
        size = model.module.state_dict()[cut_slice.name].shape[cut_slice.axis]
        shifted = cut_slice.model_copy(update={"keep": tuple((i + 1) % size for i in cut_slice.keep)})
        slices = (*edit.slices[:position], shifted, *edit.slices[position + 1 :])
        wrong = model.edited(edit.model_copy(update={"slices": slices}))
        with pytest.raises(StageError, match="does not compute what the masked model computes"):
            require_equal_to_masked(wrong, model, cut, example())


def test_the_first_layer_that_differs_is_named() -> None:
    model = trained_like(PRUNABLE["vgg"])
    cut = cut_in_half(model)
    pruned = model.edited(channel_edit(model.module, cut))
    with torch.no_grad():
        pruned.module.get_parameter("features.4.weight").add_(1.0)
    with pytest.raises(StageError) as failure:
        require_equal_to_masked(pruned, model, cut, example())
    assert failure.value.module == "features.4"


def test_a_size_written_in_forward_is_an_error_that_says_so() -> None:
    model = trained_like(NetConfig(name="fixed_size"))
    cut = cut_in_half(model)
    with pytest.raises(StageError, match="may hold a fixed size") as failure:
        require_equal_to_masked(model.edited(channel_edit(model.module, cut)), model, cut, example())
    assert failure.value.module == "last"


def test_tied_weights_stay_tied() -> None:
    model = trained_like(PRUNABLE["tied"])
    pruned = model.edited(channel_edit(model.module, cut_in_half(model))).module
    assert pruned.first.weight is pruned.second.weight
    assert pruned.first.weight.shape == (16, 16)
