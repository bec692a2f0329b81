"""What each width of each layer takes and costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Generator, nn
from torch.utils.flop_counter import FlopCounterMode

from mcomp.measure.accuracy import evaluate
from mcomp.model.graph import module_path
from mcomp.model.model import Model
from mcomp.stage import Context
from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.methods.quantization.fake_quantize import WeightQuantizer
from mcomp_stages.methods.quantization.learned.start import first_grid
from mcomp_stages.methods.quantization.mixed.hessian import Batches, Traces, mean_traces
from mcomp_stages.methods.quantization.observers.config import MSE
from mcomp_stages.methods.quantization.sensitivity import Figure, only
from mcomp_stages.methods.quantization.sites import WeightSite
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph
from mcomp_stages.methods.quantization.weights.pack import num_bytes

Costs = dict[str, dict[int, float]]
"""By weight and width."""


def at_width(site: WeightSite, bits: int) -> WeightSite:
    """Return a weight's site with another width and a grid that is stored."""
    return site.model_copy(update={"bits": bits, "scale": "stored"})


def measured_costs(
    model: Model, edit: Quantizers, widths: Mapping[str, Sequence[int]], figure: Figure, context: Context
) -> Costs:
    """Return how much larger a figure is with one weight alone rounded to each width, on its best grid.

    Each figure is kept if the step is interrupted.
    """
    sites = {name: at_width(site, 8) for name, site in edit.weights.items()}
    alone = model.edited(Quantizers(weights=sites))
    graph = alone.training_module(context.example)
    assert isinstance(graph, QuantizedGraph)

    def rounded(name: str, bits: int) -> float:
        with only(graph, (name,)):
            set_width(graph, graph.weight_quantizers()[name], name, bits)
            return figure(graph)

    def in_float() -> float:
        with only(graph, ()):
            return figure(graph)

    base = context.figure("cost-in-float", in_float)
    return {
        name: {
            bits: context.figure(f"cost-{number}-{bits}", partial(rounded, name, bits)) - base
            for bits in widths[name]
        }
        for number, name in enumerate(graph.weight_quantizers())
    }


def set_width(graph: QuantizedGraph, quantizer: WeightQuantizer, name: str, bits: int) -> None:
    """Give the quantizer of a weight another width, in place."""
    site = at_width(quantizer.site, bits)
    scale, zero_point = first_grid(graph.get_parameter(name), site, MSE())
    fresh = WeightQuantizer(site, {"scale": scale, "zero_point": zero_point})
    quantizer.site, quantizer.limits = fresh.site, fresh.limits
    quantizer.scale, quantizer.zero_point = fresh.scale, fresh.zero_point


def hessian_costs(
    model: Model,
    edit: Quantizers,
    widths: Mapping[str, Sequence[int]],
    context: Context,
    num_probes: int,
    generator: Generator,
    label: str,
) -> Costs:
    """Return half the mean trace times the squared distance to the nearest grid (HAWQ-V2, eq. 6).

    `label` is that of the unit that this is done in.
    """
    split = context.data.split("calibration")
    positions = torch.split(torch.arange(len(split)), context.batch_size)
    names = list(edit.weights)
    batches = Batches(len(positions), lambda number: split.batch(positions[number]))
    sums = Traces(model.copy().module, names, batches, context.task.loss, num_probes, generator)
    traces = mean_traces(sums, label, context.steps)
    return {
        name: {
            bits: 0.5
            * max(traces[name], 0.0)
            * squared_distance(model.module, name, edit.weights[name], bits)
            for bits in widths[name]
        }
        for name in names
    }


def squared_distance(module: nn.Module, name: str, site: WeightSite, bits: int) -> float:
    """Return how far a weight moves when it is rounded to a width, squared."""
    weight, new = module.get_parameter(name).detach(), at_width(site, bits)
    scale, zero_point = first_grid(weight, new, MSE())
    rounded = WeightQuantizer(new, {"scale": scale, "zero_point": zero_point})(weight)
    return float((rounded - weight).square().sum())


def weight_bytes(shape: Sequence[int], bits: int) -> int:
    """Return the bytes of a weight's codes."""
    return int(shape[0]) * num_bytes(torch.Size(shape[1:]).numel(), bits)


def multiply_adds(model: Model, edit: Quantizers, context: Context) -> dict[str, float]:
    """Return the multiply-adds of a sample that each weight takes part in."""
    graph = model.edited(Quantizers(weights=edit.weights)).training_module(context.example)
    assert isinstance(graph, QuantizedGraph)
    by_path: dict[str, str] = {}
    for node in graph.graph.nodes:
        for argument in node.all_input_nodes[1:2]:
            if argument.op == "call_module" and argument.meta.get("site") in edit.weights:
                by_path[module_path(node)] = argument.meta["site"]
    counts = dict.fromkeys(edit.weights, 0.0)
    module = model.copy().module.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(**context.example)
    num_samples = len(next(iter(context.example.values())))
    prefix = type(module).__name__
    for path, name in by_path.items():
        flops = sum(counter.get_flop_counts().get(f"{prefix}.{path}", {}).values())
        counts[name] += flops / 2 / num_samples
    return counts


def validation_loss(context: Context) -> Callable[[nn.Module], float]:
    """Return the figure whose rise is a cost: the loss on validation."""
    return lambda module: evaluate(module, context.data.split("validation"), context.task).loss


def validation_drop(context: Context) -> Callable[[nn.Module], float]:
    """Return the metric on validation, the other way round where more is better."""
    sign = -1 if context.task.direction == "higher" else 1
    return lambda module: sign * evaluate(module, context.data.split("validation"), context.task).metric
