# N = samples
"""Round the weights of a model segment by segment, each to what the float model gives there.

A segment is a layer with its norm and activation, or a whole block. Its inputs are those that the segments
before it, already rounded and with their activations quantized, give; its target are the outputs of the float
model on the same samples.

Source: Nagel et al. 2020, arXiv:2004.10568, section 3.4 (layers); Li et al. 2021, arXiv:2102.05426 (blocks).
Differs: the paper of blocks weighs outputs by their Fisher information; here all count equally, so that no
labels are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Generator, Tensor
from torch.fx import Node

from mcomp.model.edits import State
from mcomp.model.graph import attribute
from mcomp.model.model import Model
from mcomp.progress import Steps
from mcomp.stage import Checkpoint, Unit
from mcomp_stages.methods.quantization.grid import spread
from mcomp_stages.methods.quantization.lockstep import (
    Inputs,
    Lockstep,
    run_segment,
    segment_side,
)
from mcomp_stages.methods.quantization.post_training.config import AdaRound
from mcomp_stages.methods.quantization.post_training.rounding import (
    Outputs,
    SoftWeight,
    Training,
    train_roundings,
)
from mcomp_stages.methods.quantization.segments import (
    Segment,
    block_segments,
    layer_segments,
    weight_call,
    weight_name,
)
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph

SEGMENTS: Mapping[str, Callable[[QuantizedGraph], list[Segment]]] = {
    "layer": layer_segments,
    "block": block_segments,
}


@dataclass(frozen=True)
class Rounded:
    """What a segment loses, relative to the energy of its outputs: rounded to nearest, and as chosen."""

    segment: str
    nearest: float
    chosen: float


@dataclass(frozen=True)
class Reconstruction:
    """How roundings are found, layer by layer or block by block.

    `unit` keeps what is done and `steps` how far a segment is (`mcomp.stage.Context`); `generator` gives
    random numbers by purpose.
    """

    settings: AdaRound
    unit: Unit
    steps: Steps
    generator: Callable[[str], Generator]

    def apply(
        self, reference: Model, example: Inputs, batches: Iterable[Inputs]
    ) -> tuple[dict[str, Tensor], list[Rounded]]:
        """Return weights on their grids by name, and what each segment loses.

        `reference` has calibrated quantizers, weights that are not rounded, and stored scales. A weight that
        serves several segments is rounded for the first. Memory is that of the widest segment, for all
        samples.
        """
        graph, original = (reference.copy().training_module(example) for _ in range(2))
        assert isinstance(graph, QuantizedGraph)
        assert isinstance(original, QuantizedGraph)
        walk = Lockstep(original, graph, batches)
        segments = {segment.output: segment for segment in SEGMENTS[self.settings.per](graph)}
        weights: dict[str, Tensor] = {}
        done: list[Rounded] = []

        def visit(node: Node) -> None:
            segment = segments.get(node)
            names = weights_of(graph, segment, weights) if segment else {}
            if segment is None or not names:
                return
            label = f"rounding-{len(done)}"
            found = self.unit(label, lambda: self.trained(walk, segment, names, reference.state, label))
            for name, weight in found.tensors.items():
                attribute(graph, name).copy_(weight)
            walk.recompute([*names.values(), *segment.nodes])
            weights.update(found.tensors)
            done.append(Rounded(**found.numbers))

        walk.walk(visit, [(value, each.output) for each in segments.values() for value in each.inputs])
        return weights, done

    def trained(
        self, walk: Lockstep, segment: Segment, names: Mapping[str, Node], state: State, label: str
    ) -> Checkpoint:
        """Return the rounded weights of one segment, by name, and what they brought."""
        weights = {
            name: soft_weight(walk.graph, name, call, state.get(f"masks.{name}"))
            for name, call in names.items()
        }
        training = Training(
            weights,
            outputs_of(walk, segment, names),
            torch.cat(walk.in_float(segment.output)),
            self.settings,
            self.generator(f"rounding {segment.name}"),
        )
        chosen, nearest, trained = train_roundings(training, label, self.steps)
        return Checkpoint(chosen, asdict(Rounded(segment.name, nearest, trained)))


def weights_of(graph: QuantizedGraph, segment: Segment, without: Mapping[str, Tensor]) -> dict[str, Node]:
    """Return the calls of the quantizers of a segment's weights by the weights' names."""
    calls: dict[str, Node] = {}
    for layer in segment.layers:
        call, name = weight_call(graph, layer), weight_name(graph, layer)
        if call is not None and name not in without:
            calls[name] = call
    return calls


def soft_weight(graph: QuantizedGraph, name: str, call: Node, mask: Tensor | None) -> SoftWeight:
    """Return a weight on the grid of its quantizer, free to be rounded up or down."""
    weight, quantizer = attribute(graph, name), graph.weight_quantizers()[str(call.meta["site"])]
    scale, zero_point = (spread(part, weight, quantizer.site.scale_axis) for part in quantizer.grid(weight))
    return SoftWeight(weight, scale, zero_point, (quantizer.limits.lowest, quantizer.limits.highest), mask)


def outputs_of(walk: Lockstep, segment: Segment, names: Mapping[str, Node]) -> Outputs:
    """Return the function that gives the outputs of a segment for chosen samples and given weights."""
    side, sampled = segment_side(walk.graph), reached_from_inputs(walk.graph)
    values = {node: walk.quantized(node) for node in segment.inputs}
    every = {node: torch.cat(each) for node, each in values.items() if node in sampled}
    fixed = {node: each[0] for node, each in values.items() if node not in sampled}

    def outputs(positions: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        chosen = {node: value[positions] for node, value in every.items()}
        given = {call: weights[name] for name, call in names.items()}
        output: Tensor = run_segment(side, segment.nodes, {**fixed, **chosen, **given})
        return output

    return outputs


def reached_from_inputs(graph: QuantizedGraph) -> set[Node]:
    """Return the values that have the samples along their first axis: those that depend on the inputs."""
    reached: set[Node] = set()
    for node in graph.graph.nodes:
        if node.op == "placeholder" or any(source in reached for source in node.all_input_nodes):
            reached.add(node)
    return reached
