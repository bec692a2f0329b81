from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from mcomp.data.contract import DataFacts
from mcomp.errors import RecipeError
from mcomp_stages.models.vit import ViTConfig
from mcomp_stages.models.vit_module import Attention, PatchEmbedding


def build(**fields: Any) -> nn.Module:
    sizes = {"image_size": 16, "in_channels": 3, "num_classes": 10}
    return ViTConfig.model_validate({"type": "vit", **sizes, **fields}).build()


def test_deit_tiny_has_the_parameters_of_timm() -> None:
    module = build(patch=16, depth=12, width=192, heads=3, image_size=224, num_classes=1000)
    assert sum(parameter.numel() for parameter in module.parameters()) == 5_717_416
    first = [name.removeprefix("blocks.0.") for name in module.state_dict() if "blocks.0." in name]
    layers = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    assert first == [f"{layer}.{name}" for layer in layers for name in ("weight", "bias")]
    others = {name.split(".")[0] for name in module.state_dict()}
    assert others == {"cls_token", "pos_embed", "patch_embed", "blocks", "norm", "head"}


def slow_attention(x_LW: Tensor, module: Attention) -> Tensor:
    """One head after the other, one token after the other."""
    width, per_head = x_LW.shape[1], module.head_width
    query, key, value = (x_LW @ module.qkv.weight.T + module.qkv.bias).split(width, dim=1)
    answers = []
    for token in range(len(x_LW)):
        heads = []
        for head in range(module.num_heads):
            own = slice(head * per_head, (head + 1) * per_head)
            scores = torch.stack([query[token, own] @ other for other in key[:, own]]) / per_head**0.5
            heads.append(scores.softmax(0) @ value[:, own])
        answers.append(torch.cat(heads))
    return torch.stack(answers) @ module.proj.weight.T + module.proj.bias


def test_attention_is_that_of_one_head_and_token_at_a_time() -> None:
    module = Attention(12, 3)
    x = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([slow_attention(each, module) for each in x])
    assert torch.allclose(module(x), expected, atol=1e-6)


def test_tokens_are_the_squares_of_the_image_row_by_row() -> None:
    module = PatchEmbedding(2, 1, 4)
    with torch.no_grad():
        module.proj.weight.copy_(torch.eye(4).view(4, 1, 2, 2))
        module.proj.bias.zero_()
        tokens = module(torch.arange(16.0).view(1, 1, 4, 4))
    assert tokens[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


def test_a_class_token_sees_every_square() -> None:
    module = build(depth=1, patch=8).eval()
    image = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    module(image).sum().backward()
    assert image.grad is not None
    assert image.grad.unfold(2, 8, 8).unfold(3, 8, 8).abs().amax((0, 1, 4, 5)).min() > 0


def test_heads_must_share_the_width() -> None:
    with pytest.raises(ValidationError, match="width 96 is not a multiple of heads 5"):
        ViTConfig(width=96, heads=5)


def test_the_image_must_be_cut_without_a_rest() -> None:
    with pytest.raises(RecipeError, match="16 pixels a side are no multiple of patch 5"):
        build(patch=5)


def test_open_sizes_come_from_the_data_and_given_ones_stay() -> None:
    fitted = ViTConfig(in_channels=3).fitted_to(DataFacts(channels=1, image_size=20, num_classes=10))
    assert (fitted.in_channels, fitted.image_size, fitted.num_classes) == (3, 20, 10)
    with pytest.raises(RecipeError, match="does not say image_size, in_channels and num_classes"):
        ViTConfig().fitted_to(DataFacts()).build()
