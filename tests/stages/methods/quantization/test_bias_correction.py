"""The mean of each channel, before and after."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.fx import Node

from mcomp.model.model import Model
from mcomp_stages.methods.quantization.bias_correction import with_corrected_biases
from mcomp_stages.methods.quantization.lockstep import Lockstep
from mcomp_stages.methods.quantization.segments import quantized_layers, weight_name
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph
from tests.stages.methods.quantization.nets import (
    ChainNet,
    NetConfig,
    ResidualNet,
    float_model,
    pictures,
    quantized_model,
)

BATCHES = [pictures(20), {"image": pictures(32)["image"][20:]}]


def outputs(model: Model, path: str, quantized: bool) -> Tensor:
    """Return the outputs of a layer for all batches, a row for each channel."""
    graph = model.training_module(pictures(2))
    assert isinstance(graph, QuantizedGraph)
    walk = Lockstep(graph, graph, BATCHES)
    found: list[Tensor] = []

    def visit(node: Node) -> None:
        if node in layers and weight_name(graph, node) == f"{path}.weight":
            found.extend(walk.quantized(node) if quantized else walk.in_float(node))

    layers = quantized_layers(graph)
    walk.walk(visit)
    return torch.cat([value.movedim(1, 0).flatten(1) for value in found], dim=1)


def test_every_channel_has_its_mean_again() -> None:
    reference, layers = quantized_model(float_model(ChainNet)), ("conv", "widen", "fc1", "fc2")
    corrected, shifts = with_corrected_biases(reference, reference, pictures(2), BATCHES)
    assert tuple(shifts) == layers
    for path in layers:
        wanted, found = outputs(reference, path, False), outputs(corrected, path, True)
        before = outputs(reference, path, True)
        shift, left = ((each.mean(1) - wanted.mean(1)).abs().max() for each in (before, found))
        assert left < 1e-5 * wanted.abs().max()
        assert left < 0.2 * shift


def test_a_layer_before_a_batch_norm_is_corrected_in_its_mean() -> None:
    reference = quantized_model(float_model(ResidualNet))
    corrected, shifts = with_corrected_biases(reference, reference, pictures(2), BATCHES)
    assert tuple(shifts) == ("stem", "conv", "shortcut", "fc")
    old, new = reference.module.state_dict(), corrected.module.state_dict()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == {"norm.running_mean", "conv.bias", "norm3.running_mean", "fc.bias"}
    moved = new["norm.running_mean"] - old["norm.running_mean"]
    shift = outputs(reference, "stem", True).mean(1) - outputs(reference, "stem", False).mean(1)
    torch.testing.assert_close(moved, shift, rtol=1e-4, atol=1e-6)


def test_the_output_comes_nearer_to_that_in_float() -> None:
    """With a shift in every layer, as rounding down gives; noise without a mean is not corrected."""
    model = float_model(ResidualNet)
    reference = quantized_model(model)
    biased = quantized_model(model)
    with torch.no_grad():
        for name, parameter in biased.module.named_parameters():
            if name.endswith("weight") and parameter.ndim == 4:
                parameter += 0.02
    corrected, _ = with_corrected_biases(reference, biased, pictures(2), BATCHES)
    image = pictures(64)["image"]
    wanted = model.module(image)
    before, after = (each.training_module(pictures(2))(image=image) for each in (biased, corrected))
    assert (after - wanted).square().mean() < 0.5 * (before - wanted).square().mean()


class Shared(nn.Module):
    """One layer that is run twice, and a linear without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.fc = nn.Linear(3, 4, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.conv(torch.relu(self.conv(image))))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def test_what_has_no_offset_of_its_own_is_left_out() -> None:
    torch.manual_seed(0)
    reference = quantized_model(Model(Shared().eval(), NetConfig()))
    corrected, shifts = with_corrected_biases(reference, reference, pictures(2), BATCHES)
    assert shifts == {}
    for name, tensor in reference.module.state_dict().items():
        assert torch.equal(corrected.module.state_dict()[name], tensor)


def test_the_input_is_not_changed() -> None:
    reference = quantized_model(float_model(ResidualNet))
    before = {name: tensor.clone() for name, tensor in reference.module.state_dict().items()}
    with_corrected_biases(reference, reference, pictures(2), BATCHES)
    assert all(torch.equal(before[name], tensor) for name, tensor in reference.module.state_dict().items())
