"""Two graphs side by side, node by node."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.fx import Node

from mcomp.model.graph import attribute
from mcomp.model.model import Model
from mcomp_stages.methods.quantization.lockstep import Lockstep, run_segment, segment_side
from mcomp_stages.methods.quantization.segments import (
    block_segments,
    layer_segments,
    quantized_layers,
    weight_name,
)
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph
from mcomp_stages.models.resnet import ResNetConfig
from tests.stages.methods.quantization.nets import (
    ChainNet,
    ResidualNet,
    float_model,
    pictures,
    quantized_model,
    with_statistics,
)

BATCHES = [pictures(5), pictures(3)]


def graphs(net: type[nn.Module] = ResidualNet) -> tuple[QuantizedGraph, QuantizedGraph]:
    model, example = quantized_model(float_model(net)), pictures(2)
    pair = [model.copy().training_module(example) for _ in range(2)]
    assert all(isinstance(graph, QuantizedGraph) for graph in pair)
    return pair[0], pair[1]  # type: ignore[return-value]


@pytest.mark.parametrize("net", [ResidualNet, ChainNet])
def test_both_sides_give_what_their_models_give(net: type[nn.Module]) -> None:
    reference, graph = graphs(net)
    walk = Lockstep(reference, graph, BATCHES)
    outputs: list[tuple[list[Tensor], list[Tensor]]] = []

    def visit(node: Node) -> None:
        if node is last:
            outputs.append((walk.in_float(node), walk.quantized(node)))

    last = next(iter(graph.graph.find_nodes(op="output"))).all_input_nodes[0]
    walk.walk(visit)
    ((in_float, quantized),) = outputs
    module = float_model(net).module
    for inputs, plain, rounded in zip(BATCHES, in_float, quantized, strict=True):
        torch.testing.assert_close(plain, module(**inputs), rtol=1e-5, atol=1e-5)
        assert torch.equal(rounded, graph(**inputs))
        assert not torch.equal(plain, rounded)


def test_values_are_kept_to_their_last_use_and_no_longer() -> None:
    reference, graph = graphs()
    walk = Lockstep(reference, graph, BATCHES)
    alive: list[int] = []
    walk.walk(lambda node: alive.append(len(walk.pairs[0][1].env)))
    weights = [node for node in graph.graph.nodes if node.op == "get_attr"]
    calls = len(quantized_layers(graph))
    assert max(alive) <= len(weights) + calls + 4
    assert list(walk.pairs[1][1].env) == weights


def test_what_was_forgotten_is_forgotten_again_after_it_was_computed_again() -> None:
    reference, graph = graphs()
    walk = Lockstep(reference, graph, BATCHES)
    segments = {segment.output: segment for segment in layer_segments(graph)}

    def visit(node: Node) -> None:
        if node in segments:
            there = set(walk.pairs[0][1].env)
            walk.recompute([node.args[1] for node in segments[node].layers] + list(segments[node].nodes))  # type: ignore[arg-type]
            assert set(walk.pairs[0][1].env) == there

    walk.walk(visit, [(value, each.output) for each in segments.values() for value in each.inputs])
    assert list(walk.pairs[0][1].env) == [node for node in graph.graph.nodes if node.op == "get_attr"]


def test_a_value_is_kept_as_long_as_it_is_asked_for() -> None:
    reference, graph = graphs()
    walk = Lockstep(reference, graph, BATCHES)
    image, *_ = graph.graph.find_nodes(op="placeholder")
    last = list(graph.graph.nodes)[-1]
    seen: list[bool] = []
    walk.walk(lambda node: seen.append(image in walk.pairs[0][1].env), [(image, last)])
    assert seen == sorted(seen)  # once there, it stays
    assert seen[-1]


def test_what_is_changed_on_the_way_changes_what_follows_on_its_side_alone() -> None:
    reference, graph = graphs()
    walk = Lockstep(reference, graph, BATCHES)
    first = quantized_layers(graph)[0]
    values: dict[str, Tensor] = {}

    def visit(node: Node) -> None:
        if node is first:
            call = node.args[1]
            assert isinstance(call, Node)
            attribute(graph, "stem.weight").zero_()
            walk.recompute([call, node])
            values["float"], values["quantized"] = walk.in_float(node)[0], walk.quantized(node)[0]

    walk.walk(visit)
    assert values["float"].abs().sum() > 0
    assert values["quantized"].abs().sum() == 0


class InPlace(nn.Module):
    """Activations and additions that overwrite what they read."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(8, 4)

    def forward(self, image: Tensor) -> Tensor:
        x = self.relu(self.first(image))
        y = self.second(x)
        y += x
        logits: Tensor = self.fc(self.relu(y).mean((2, 3)))
        return logits


def test_operations_in_place_can_be_computed_again() -> None:
    reference, graph = graphs(InPlace)
    walk = Lockstep(reference, graph, BATCHES)
    outputs: list[Tensor] = []

    def visit(node: Node) -> None:
        if node.op == "call_function":
            walk.recompute([node, node])
        if node.op == "output":
            outputs.extend(walk.quantized(node.all_input_nodes[0]))

    walk.walk(visit, [(node, list(graph.graph.nodes)[-1]) for node in graph.graph.nodes])
    for inputs, output in zip(BATCHES, outputs, strict=True):
        assert torch.equal(output, graph(**inputs))


def test_a_layer_is_taken_with_its_norm_and_activation() -> None:
    _, graph = graphs()
    parts = {segment.name: [node.name for node in segment.nodes] for segment in layer_segments(graph)}
    assert list(parts) == ["stem", "conv", "shortcut", "fc"]
    assert [name.split("_")[0] for name in parts["stem"]] == ["conv2d", "batch", "relu6"]
    assert [name.split("_")[0] for name in parts["conv"]] == ["conv2d", "batch"]
    assert len(parts["fc"]) == 1


def resnet_graph() -> QuantizedGraph:
    torch.manual_seed(0)
    spec = ResNetConfig(depth=20, width=4, num_classes=10, in_channels=3)
    model = Model(with_statistics(spec.build()).eval(), spec)
    graph = quantized_model(model).training_module(pictures(2))
    assert isinstance(graph, QuantizedGraph)
    return graph


def test_a_residual_block_is_one_segment_and_stem_and_classifier_are_their_own() -> None:
    graph = resnet_graph()
    names = {segment.name: len(segment.layers) for segment in block_segments(graph)}
    assert names == {
        "conv1": 1,
        **{f"layer{stage}.{block}": 2 for stage in (1, 2, 3) for block in range(3)},
        "layer2.0": 3,
        "layer3.0": 3,  # with the convolution of the shortcut
        "fc": 1,
    }
    weights = [weight_name(graph, layer) for each in block_segments(graph) for layer in each.layers]
    assert weights == [weight_name(graph, layer) for layer in quantized_layers(graph)]


def test_a_segment_alone_gives_what_it_gives_in_the_graph() -> None:
    graph = resnet_graph()
    walk = Lockstep(graph, graph, BATCHES)
    segments = {segment.output: segment for segment in block_segments(graph)}
    checked: list[str] = []

    def visit(node: Node) -> None:
        segment = segments.get(node)
        if segment is not None:
            side = walk.pairs[0][1]
            values = {value: side.env[value] for value in segment.inputs}
            assert torch.equal(run_segment(segment_side(graph), segment.nodes, values), side.env[node])
            checked.append(segment.name)

    walk.walk(visit, [(value, each.output) for each in segments.values() for value in each.inputs])
    assert checked == [segment.name for segment in segments.values()]
