"""The converted graph against the one that was trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.fx import GraphModule

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp_stages.methods.quantization.calibrate import calibrated
from mcomp_stages.methods.quantization.compare import compare, require_equal
from mcomp_stages.methods.quantization.config import Scheme
from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.methods.quantization.learned.assign import with_methods
from mcomp_stages.methods.quantization.learned.start import with_first_scales
from mcomp_stages.methods.quantization.scheme import quantizers_for
from mcomp_stages.methods.quantization.sites import WeightSite
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph
from tests.architectures import VGG, ConcatNet, EagerNet, MBConvNet, ShuffleNet, TiedNet, UNet
from tests.stages.methods.quantization.nets import (
    ChainNet,
    GatedNet,
    GrowingNet,
    LineNet,
    ResidualNet,
    SequenceNet,
    TinyViT,
    float_model,
    pictures,
    quantized_model,
)

EXAMPLE = pictures(2)
IMAGE_NETS = (ResidualNet, ChainNet, VGG, ConcatNet, MBConvNet, ShuffleNet, TiedNet, UNet)
NETS = (*IMAGE_NETS, GatedNet, LineNet, GrowingNet, SequenceNet, TinyViT, EagerNet)


@pytest.fixture(scope="module")
def residual() -> Model:
    return quantized_model(float_model())


def both(model: Model) -> tuple[QuantizedGraph, GraphModule]:
    trained, converted = model.training_module(EXAMPLE), model.inference_module(EXAMPLE)
    assert isinstance(trained, QuantizedGraph)
    assert isinstance(converted, GraphModule)
    return trained, converted


@pytest.mark.parametrize("net", NETS)
def test_converted_equals_trained_at_every_site(net: type[nn.Module]) -> None:
    model = quantized_model(float_model(net))
    comparison = require_equal(model, EXAMPLE, pictures(16))
    assert comparison.num_sites == len(model.edits[-1].activations)  # type: ignore[attr-defined]
    assert comparison.agreement >= 0.999


@pytest.mark.parametrize("net", [GrowingNet, GatedNet, SequenceNet, TinyViT])
@pytest.mark.parametrize("preset", ["openvino", "arm_xnnpack"])
def test_converted_equals_trained_for_every_runtime(net: type[nn.Module], preset: str) -> None:
    scheme = Scheme.model_validate({"preset": preset})
    model = quantized_model(float_model(net), scheme=scheme)
    assert require_equal(model, EXAMPLE, pictures(16)).agreement >= 0.999


def test_weights_of_seven_bits_stay_within_63() -> None:
    _, converted = both(
        quantized_model(float_model(), scheme=Scheme.model_validate({"weights": {"bits": 7}}))
    )
    integers = [tensor for tensor in converted.state_dict().values() if tensor.dtype is torch.int8]
    assert max(int(tensor.abs().max()) for tensor in integers) == 63


@pytest.mark.parametrize("net", [ResidualNet, ChainNet])
@pytest.mark.parametrize(
    "scheme",
    [
        {"weights": {"bits": 7}},
        {"weights": {"bits": 4, "symmetric": False}, "activations": {"bits": 4}},
        {"weights": {"bits": 8, "symmetric": False}},
        {"weights": {"bits": 2, "per": "tensor"}},
        {"weights": {"per": "tensor"}, "activations": {"signed": True, "symmetric": True}},
        {"activations": {"bits": 16}},
        {"overrides": [{"type": "Linear", "weights": {"bits": 4, "per": "group", "group_size": 8}}]},
    ],
)
def test_converted_equals_trained_on_every_grid(net: type[nn.Module], scheme: dict[str, Any]) -> None:
    model = quantized_model(float_model(net), scheme=Scheme.model_validate(scheme))
    assert require_equal(model, EXAMPLE, pictures(16)).agreement >= 0.999


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weights_alone_are_stored_as_integers_and_multiplied_as_floats(bits: int, symmetric: bool) -> None:
    sites = {name: WeightSite(bits=bits, symmetric=symmetric) for name in ("conv.weight", "fc.weight")}
    model = float_model().edited(Quantizers(weights=sites))
    trained, converted = both(model)
    with torch.no_grad():
        expected, got = trained(**pictures()), converted(**pictures())
    assert torch.allclose(got, expected, atol=1e-5)
    assert not torch.equal(expected, model.module(**pictures()))
    kind = f"{'int' if symmetric else 'uint'}{bits}" if bits <= 4 else "integers"
    assert {f"conv.weight_{kind}", f"fc.weight_{kind}"} <= dict(converted.named_buffers()).keys()


def test_a_clip_in_front_of_a_narrow_grid_that_ends_there_is_dropped() -> None:
    clips = (torch.ops.aten.relu6.default, torch.ops.aten.relu.default, torch.ops.aten.hardtanh.default)
    found = {}
    for bits in (4, 8):
        scheme = Scheme.model_validate({"activations": {"bits": bits}})
        converted = quantized_model(float_model(), scheme=scheme).inference_module(EXAMPLE)
        assert isinstance(converted, GraphModule)
        found[bits] = sum(node.target in clips for node in converted.graph.nodes)
    assert found == {4: 0, 8: 2}


@pytest.mark.parametrize("turned", [0, 1])
def test_one_zero_point_for_a_tensor_may_differ_from_channel_to_channel_behind_a_norm(turned: int) -> None:
    model = float_model()
    with torch.no_grad():
        for part in model.module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_var.fill_(1.0)  # type: ignore[union-attr]
                part.weight.fill_(1.0)[:turned].neg_()
    scheme = Scheme.model_validate({"weights": {"per": "tensor", "symmetric": False}})
    model = quantized_model(model, scheme=scheme)
    assert require_equal(model, EXAMPLE, pictures(16)).agreement >= 0.999
    _, converted = both(model)
    assert dict(converted.named_buffers())["stem.weight_scale"].ndim == turned


def test_converted_is_close_to_the_float_model(residual: Model) -> None:
    with torch.no_grad():
        expected, got = residual.module(**pictures()), residual.inference_module(EXAMPLE)(**pictures())
    assert (got - expected).norm() < 0.03 * expected.norm()


def edited(change: str) -> Model:
    model = float_model()
    module = model.module
    assert isinstance(module, ResidualNet)
    with torch.no_grad():
        if change == "one-signed channels":
            module.stem.weight.abs_()
            module.conv.weight.abs_().neg_()
        elif change == "zero and negative gains":
            module.norm.weight[:3] = 0.0
            module.norm2.weight.abs_().neg_()
        elif change == "huge bias":
            module.conv.weight[0] *= 1e-8
            module.norm2.bias[0] = 5e4
        elif change == "channel of zeros":
            module.stem.weight[2] = 0.0
            module.fc.weight[4] = 0.0
        elif change == "constant activation":
            module.stem.weight.zero_()
    return model


@pytest.mark.parametrize(
    "change",
    [
        "one-signed channels",
        "zero and negative gains",
        "huge bias",
        "channel of zeros",
        "constant activation",
    ],
)
def test_converted_equals_trained_at_the_edges(change: str) -> None:
    model = quantized_model(edited(change))
    assert require_equal(model, EXAMPLE, pictures()).agreement >= 0.999
    with torch.no_grad():
        assert torch.isfinite(model.inference_module(EXAMPLE)(**pictures())).all()


@pytest.mark.parametrize("method", ["lsq", "lsq+", "pact", "dorefa", "fixed"])
@pytest.mark.parametrize(
    "change", ["one-signed channels", "zero and negative gains", "huge bias", "channel of zeros"]
)
def test_converted_equals_trained_at_the_edges_with_every_method(change: str, method: Any) -> None:
    model, inputs = edited(change), pictures()
    scheme = Scheme.model_validate({"weights": {"bits": 4}, "activations": {"bits": 4}})
    edit = with_methods(quantizers_for(model.module, EXAMPLE, scheme), method, EXAMPLE)
    ready = calibrated(with_first_scales(model.edited(edit), None), EXAMPLE, [inputs], None)
    assert require_equal(ready, EXAMPLE, inputs).agreement >= 0.999


def test_converted_holds_integers_and_no_batch_norm(residual: Model) -> None:
    _, converted = both(residual)
    tensors = dict(converted.named_buffers())
    assert tensors["conv.weight_integers"].dtype is torch.int8
    assert tensors["conv.bias_integers"].dtype is torch.int32
    assert not list(converted.named_parameters())
    assert not any("norm" in name for name in tensors)


def test_shapes_and_max_pooling_run_on_integers() -> None:
    _, converted = both(quantized_model(float_model(ChainNet)))
    aten = torch.ops.aten
    moved = [
        n for n in converted.graph.nodes if n.target in (aten.max_pool2d.default, aten.flatten.using_ints)
    ]
    assert [node.args[0].op for node in moved] == ["call_function", "call_function"]
    assert moved[0].args[0].target is torch.ops.mcomp.quantize_linear.default
    assert moved[1].args[0] is moved[0]


def test_converting_leaves_the_model_as_it_was(residual: Model) -> None:
    before = {name: tensor.clone() for name, tensor in residual.module.state_dict().items()}
    residual.inference_module(EXAMPLE)
    assert all(torch.equal(before[name], tensor) for name, tensor in residual.module.state_dict().items())


@pytest.mark.parametrize(
    ("tensor", "site"),
    [
        ("conv.weight_integers", r"^conv#conv2d_0: .* keep_float: \[conv\]"),
        ("conv.bias_integers", r"^conv: .* bias .* keep_float: \[conv\]"),
        ("fc.weight_scale", "output"),
    ],
)
def test_a_wrong_conversion_is_found_and_named(residual: Model, tensor: str, site: str) -> None:
    trained, converted = both(residual)
    broken = converted.get_buffer(tensor)
    broken[1] = broken[1] + 3
    with pytest.raises(StageError, match=site):
        compare(trained, converted, pictures())
