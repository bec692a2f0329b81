"""What a recipe may say about integers."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mcomp_stages.methods.quantization.config import (
    ActivationChange,
    Activations,
    Override,
    Scheme,
    WeightChange,
    Weights,
)


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        ({"weights": {"bits": 1}}, r"weights\.bits"),
        ({"weights": {"bits": 16}}, r"weights\.bits"),
        ({"activations": {"bits": 9}}, r"activations\.bits"),
        ({"weights": {"per": "group"}}, "per: group and group_size: go together"),
        ({"weights": {"group_size": 32}}, "per: group and group_size: go together"),
        ({"overrides": [{"keep_float": True}]}, "one of modules:, type: and layer:"),
        (
            {"overrides": [{"modules": "a", "type": "b", "keep_float": True}]},
            "one of modules:, type: and layer:",
        ),
        ({"overrides": [{"modules": "a"}]}, "keep_float: true or what is different"),
        (
            {"overrides": [{"layer": "first", "keep_float": True, "weights": {"bits": 4}}]},
            "keep_float: true or",
        ),
        ({"overrides": [{"layer": "third", "keep_float": True}]}, "layer"),
        ({"overrides": [{"layer": "first", "weights": {"per": "group"}}]}, "go together"),
        ({"preset": "tensorrt"}, "'onnxruntime_x86', 'openvino' or 'arm_xnnpack'"),
        (
            {"preset": "arm_xnnpack", "activations": {"bits": 16}},
            "preset arm_xnnpack: XNNPACK on ARM has no operators for activations of 16 bits",
        ),
        (
            {"preset": "arm_xnnpack", "overrides": [{"layer": "first", "weights": {"symmetric": False}}]},
            "no operators for weights with a zero point",
        ),
        (
            {"preset": "openvino", "weights": {"per": "group", "group_size": 32}},
            "no operators for weights with a scale per group",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(scheme: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Scheme.model_validate(scheme)


def test_a_change_leaves_what_it_does_not_mention() -> None:
    old = Weights(bits=8, per="tensor", symmetric=False)
    assert WeightChange(bits=4).applied(old) == Weights(bits=4, per="tensor", symmetric=False)
    assert ActivationChange(signed=True).applied(Activations(bits=4)) == Activations(bits=4, signed=True)


def test_a_change_away_from_groups_drops_their_size() -> None:
    old = Weights(bits=4, per="group", group_size=32)
    assert WeightChange(per="channel").applied(old) == Weights(bits=4)
    assert WeightChange(bits=8).applied(old) == Weights(per="group", group_size=32)


def test_an_override_is_called_as_the_recipe_writes_it() -> None:
    assert Override(type="Linear", keep_float=True).choice == "type: Linear"


def test_a_preset_gives_the_grids_and_what_is_written_wins() -> None:
    assert Scheme.model_validate({}).activations == Activations()
    arm = Scheme.model_validate({"preset": "arm_xnnpack"})
    assert arm.activations == Activations(signed=True)
    narrow = Scheme.model_validate({"preset": "arm_xnnpack", "activations": {"bits": 7}})
    assert narrow.activations == Activations(bits=7, signed=True)
    other = Scheme.model_validate({"preset": "arm_xnnpack", "activations": {"signed": False}})
    assert other.activations == Activations()


def test_a_scheme_that_was_written_out_is_read_as_itself() -> None:
    for preset in ("onnxruntime_x86", "openvino", "arm_xnnpack"):
        scheme = Scheme.model_validate({"preset": preset, "weights": {"bits": 7}})
        assert Scheme.model_validate(scheme.model_dump()) == scheme
