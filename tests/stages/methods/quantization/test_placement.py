"""Where quantizers stand."""

from __future__ import annotations

import pytest
from torch import nn

from mcomp_stages.methods.quantization.placement import placement
from mcomp_stages.methods.quantization.training_graph import canonical_graph
from tests.architectures import ConcatNet, TiedNet
from tests.stages.methods.quantization.nets import ChainNet, ResidualNet, pictures


def sites(net: type[nn.Module], keep_float: tuple[str, ...] = ()) -> tuple[list[str], list[str]]:
    found = placement(canonical_graph(net(), pictures(2)).graph, keep_float)
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
