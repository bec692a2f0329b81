"""How much of each value's signal is left when a model computes with integers, without labels.

The signal-to-quantization-noise ratio of a site is 10 log10 of the mean square of its values in float over
that of their difference to the quantized ones, in dB; 6 dB are a bit. It is taken in the running network, so
that it holds the noise of all sites before it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

from torch import Tensor
from torch.fx import Node

from mcomp.model.model import Model
from mcomp_stages.methods.quantization.lockstep import Inputs, Lockstep
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph

OUTPUT = "output"


def site_sqnr(
    reference: Model, model: Model, example: Inputs, batches: Iterable[Inputs]
) -> dict[str, float | None]:
    """Return the ratio in dB at each activation's site, at each weight, and at the first output, in order.

    `reference` has the same quantizers and is run in float. Where nothing is lost, or nothing is there, the
    ratio is None.
    """
    original, graph = reference.training_module(example), model.training_module(example)
    assert isinstance(original, QuantizedGraph)
    assert isinstance(graph, QuantizedGraph)
    signal: defaultdict[str, float] = defaultdict(float)
    noise: defaultdict[str, float] = defaultdict(float)
    (output,) = graph.graph.find_nodes(op="output")
    names = {output.all_input_nodes[0]: OUTPUT} | {node: node.meta["site"] for node in graph.sites()}
    for batch in batches:
        walk = Lockstep(original, graph, [batch])

        def visit(node: Node, walk: Lockstep = walk) -> None:
            if node in names:
                (exact,), (rounded,) = walk.in_float(node), walk.quantized(node)
                signal[names[node]] += energy(exact)
                noise[names[node]] += energy(rounded - exact)

        walk.walk(visit)
    return {name: decibels(signal[name], noise[name]) for name in names.values()}


def energy(values: Tensor) -> float:
    """Return the sum of squares."""
    return float(values.double().square().sum())


def decibels(signal: float, noise: float) -> float | None:
    """Return the ratio of two energies in dB, to two digits; None if one is zero."""
    return round(10 * math.log10(signal / noise), 2) if signal > 0 and noise > 0 else None
