"""Where quantizers stand."""

from __future__ import annotations

import pytest
from torch import nn

from mcomp_stages.methods.quantization.placement import placement
from mcomp_stages.methods.quantization.presets import RUNTIMES, Preset
from mcomp_stages.methods.quantization.training_graph import canonical_graph
from tests.architectures import ConcatNet, TiedNet
from tests.stages.methods.quantization.nets import (
    ChainNet,
    GatedNet,
    GrowingNet,
    LineNet,
    ResidualNet,
    SequenceNet,
    TinyViT,
    pictures,
)


def sites(
    net: type[nn.Module], keep_float: tuple[str, ...] = (), preset: Preset = "onnxruntime_x86"
) -> tuple[list[str], list[str]]:
    found = placement(canonical_graph(net().eval(), pictures(2)).graph, keep_float, RUNTIMES[preset])
    return list(found.activations), list(found.weights)


def test_a_residual_block_has_quantizers_around_its_addition_and_none_inside_fused_layers() -> None:
    activations, weights = sites(ResidualNet)
    assert activations == [
        "#image",
        "stem#conv2d_0",
        "conv#conv2d_0",
        "shortcut#conv2d_0",
        "#add_0",
        "#mean_0",
    ]
    assert weights == ["stem.weight", "conv.weight", "shortcut.weight", "fc.weight"]


def test_padding_pooling_and_flatten_share_the_grid_of_their_input() -> None:
    activations, _ = sites(ChainNet)
    assert activations == ["#image", "conv#conv2d_0", "widen#conv2d_0", "#add_0", "fc1#linear_0"]


def test_concatenation_has_quantizers_at_every_input_and_its_output() -> None:
    activations, _ = sites(ConcatNet)
    assert {"stem#conv2d_0", "convs.0#conv2d_0", "#cat_0", "#cat_1", "#cat_2"} <= set(activations)


def test_a_layer_kept_in_float_has_no_quantizers() -> None:
    activations, weights = sites(ResidualNet, keep_float=("conv",))
    assert "conv.weight" not in weights
    assert "conv#conv2d_0" not in activations
    assert "#add_0" not in activations  # one of its inputs is no integer any more


@pytest.mark.parametrize(("kept", "shared"), [((), True), (("first",), False), (("second",), False)])
def test_a_shared_weight_is_quantized_everywhere_or_nowhere(kept: tuple[str, ...], shared: bool) -> None:
    _, weights = sites(TiedNet, keep_float=kept)
    assert bool({"first.weight", "second.weight"} & set(weights)) is shared


def test_gates_have_quantizers_around_their_product_and_swish_stays_in_float_between_two() -> None:
    activations, weights = sites(GatedNet)
    assert activations == [
        "#image",
        "stem#conv2d_0",  # not fused with what follows
        "#hardswish_0",
        "#mean_0",
        "reduce#conv2d_0",
        "expand#conv2d_0",
        "#hardsigmoid_0",
        "#mul_0",  # kept by the maxima
        "depthwise#conv2d_0",
        "#silu_0",  # kept by neighbours and the mirrored edge
        "last#conv2d_0",
        "#avg_pool2d_0",
    ]
    assert len(weights) == 6


def test_lines_are_quantized_as_images_are() -> None:
    activations, weights = sites(LineNet)
    assert activations == ["#image", "stem#conv1d_0", "conv#conv1d_0", "#add_0"]
    assert weights == ["stem.weight", "conv.weight", "fc.weight"]


def test_linears_of_a_transformer_read_integers_and_give_floats() -> None:
    activations, weights = sites(TinyViT)
    assert len(weights) == 1 + 2 * 4 + 1
    assert [site for site in activations if site.startswith("blocks.0")] == [
        "blocks.0.norm1#layer_norm_0",
        "blocks.0.attn#matmul_1",
        "blocks.0.norm2#layer_norm_0",
        "blocks.0.mlp#gelu_0",
    ]


def test_residual_additions_between_sequences_stay_in_float() -> None:
    activations, _ = sites(SequenceNet)
    assert activations == [
        "#image",
        "embed#conv2d_0",
        "first#linear_0",  # behind its ReLU
        "#add_0",  # what query, key and value read
        "#add_1",
        "#mean_0",
    ]


def test_transposed_convolutions_are_for_runtimes_that_have_them() -> None:
    assert "up.weight" not in sites(GrowingNet)[1]
    assert "up.weight" in sites(GrowingNet, preset="openvino")[1]
    assert "up.weight" in sites(GrowingNet, preset="arm_xnnpack")[1]


def test_nearest_neighbours_get_a_grid_of_their_own_where_the_runtime_resizes_floats() -> None:
    assert "#upsample_nearest2d_0" not in sites(GatedNet)[0]
    assert "#upsample_nearest2d_0" in sites(GatedNet, preset="arm_xnnpack")[0]
