"""From what a recipe asks for to the grid of every site."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from mcomp.errors import StageError
from mcomp_stages.methods.quantization.config import Activations, Scheme
from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.methods.quantization.scheme import quantizers_for
from tests.architectures import TiedNet
from tests.stages.methods.quantization.nets import ChainNet, GrowingNet, ResidualNet, pictures

EXAMPLE = pictures(2)


def made(net: type[nn.Module], **scheme: Any) -> Quantizers:
    return quantizers_for(net(), EXAMPLE, Scheme.model_validate(scheme))


def weight_bits(edit: Quantizers) -> dict[str, int]:
    return {name.removesuffix(".weight"): site.bits for name, site in edit.weights.items()}


def test_without_overrides_all_sites_are_alike() -> None:
    edit = made(ResidualNet)
    assert set(weight_bits(edit).values()) == {8}
    assert set(edit.activations.values()) == {Activations()}
    assert edit.weights["conv.weight"].inputs == ("stem#conv2d_0",)
    assert edit.integer_weights == tuple(edit.weights)


def test_layers_are_chosen_by_module_type_and_position_and_the_last_word_holds() -> None:
    edit = made(
        ResidualNet,
        weights={"bits": 4},
        overrides=[
            {"type": "Conv2d", "weights": {"bits": 3}},
            {"modules": "s*", "weights": {"bits": 5}},
            {"layer": "first", "weights": {"bits": 8}},
            {"layer": "last", "weights": {"bits": 6}},
        ],
    )
    assert weight_bits(edit) == {"stem": 8, "conv": 3, "shortcut": 5, "fc": 6}


def test_an_activation_is_as_fine_as_the_most_demanding_of_its_readers() -> None:
    edit = made(
        ResidualNet,
        activations={"bits": 4},
        overrides=[
            {"layer": "first", "activations": {"bits": 8}},
            {"modules": "shortcut", "activations": {"bits": 6}},
        ],
    )
    assert {site: grid.bits for site, grid in edit.activations.items()} == {
        "#image": 8,
        "stem#conv2d_0": 6,  # read by conv with 4 bits and by the shortcut with 6
        "conv#conv2d_0": 4,
        "shortcut#conv2d_0": 4,
        "#add_0": 4,
        "#mean_0": 4,
    }


def test_patterns_keep_layers_in_float() -> None:
    for scheme in ({"keep_float": ["s*"]}, {"overrides": [{"modules": "s*", "keep_float": True}]}):
        assert weight_bits(made(ResidualNet, **scheme)) == {"conv": 8, "fc": 8}


def test_a_later_override_takes_a_layer_back_from_float() -> None:
    edit = made(ResidualNet, keep_float=["s*"], overrides=[{"layer": "first", "weights": {"bits": 7}}])
    assert weight_bits(edit) == {"stem": 7, "conv": 8, "fc": 8}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("convs", "did you mean 'conv'"), ("norm", "nothing to quantize"), ("*", "no conv")],
)
def test_patterns_that_choose_nothing_or_everything_are_refused(pattern: str, message: str) -> None:
    with pytest.raises(StageError, match=message):
        made(ResidualNet, keep_float=[pattern])


def test_a_type_that_no_layer_has_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(StageError, match=r"is a Conv1d; there are: Conv2d, Linear; did you mean 'Conv2d'"):
        made(ResidualNet, overrides=[{"type": "Conv1d", "keep_float": True}])


def test_layers_that_share_a_weight_have_the_same_settings() -> None:
    with pytest.raises(StageError, match="share one weight"):
        made(TiedNet, overrides=[{"modules": "first", "weights": {"bits": 4}}])
    edit = made(TiedNet, overrides=[{"type": "Linear", "weights": {"bits": 4}}])
    assert set(weight_bits(edit).values()) == {4}


def test_groups_are_for_linears_whose_inputs_they_divide() -> None:
    with pytest.raises(StageError, match=r"stem.*per: group is for linears"):
        made(ResidualNet, weights={"per": "group", "group_size": 4})
    linears = [{"type": "Linear", "weights": {"per": "group", "group_size": 3}}]
    with pytest.raises(StageError, match=r"fc.*its 16 inputs are no multiple of group_size: 3"):
        made(ResidualNet, overrides=linears)
    edit = made(ChainNet, overrides=[{"type": "Linear", "weights": {"per": "group", "group_size": 8}}])
    assert edit.integer_weights == ("conv.weight", "widen.weight")


def test_a_layer_that_the_runtime_has_no_integers_for_stays_in_float_and_nothing_else_may_be_asked() -> None:
    assert set(weight_bits(made(GrowingNet))) == {"down", "last"}
    assert set(weight_bits(made(GrowingNet, keep_float=["up"]))) == {"down", "last"}
    message = (
        r"up is a ConvTranspose2d, which ONNX Runtime on x86 has no integers for: .*openvino and arm_xnn"
    )
    for choice in ({"modules": "up"}, {"modules": "u*"}, {"type": "ConvTranspose2d"}):
        with pytest.raises(StageError, match=message):
            made(GrowingNet, overrides=[{**choice, "weights": {"bits": 4}}])
    with pytest.raises(StageError, match=f"no convolution or linear to quantize; {message}"):
        made(GrowingNet, keep_float=["down", "last"])


def test_the_scales_of_a_transposed_convolution_lie_on_its_second_axis() -> None:
    edit = made(GrowingNet, preset="openvino")
    assert {name: site.axis for name, site in edit.weights.items()} == {
        "down.weight": 0,
        "up.weight": 1,
        "last.weight": 0,
    }
