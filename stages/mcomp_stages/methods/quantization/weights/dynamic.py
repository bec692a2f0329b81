"""Weights in 7, 8 or 16 bits whose inputs, if the product is one of integers, are rounded as they come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp.signals import raise_if_interrupted
from mcomp.stage import Checkpoint, Unit, at_once
from mcomp_stages.methods.layer_inputs import Inputs, blamed_on
from mcomp_stages.methods.quantization.weights.edit import StoredWeights
from mcomp_stages.methods.quantization.weights.grid import Width, extremes
from mcomp_stages.methods.quantization.weights.products import operands
from mcomp_stages.methods.quantization.weights.record import STEPS_BITS, StoredWeight
from mcomp_stages.methods.quantization.weights.round_to_nearest import round_to_nearest
from mcomp_stages.methods.quantization.weights.smoothing import (
    InputStatistics,
    scale_for,
    scale_once,
    seen_once,
)
from mcomp_stages.methods.quantization.weights.stored import numbers, stored_tensors
from mcomp_stages.methods.quantization.weights.uses import UsedWeight


@dataclass(frozen=True)
class Smoothing:
    """How inputs are smoothed: with one strength, or (None) each with its own. No samples: not at all.

    `unit` keeps what is found (`mcomp.stage.Context.unit`).
    """

    samples: Sequence[Inputs]
    strength: float | None = None
    unit: Unit = at_once


@dataclass
class Scales:
    """By the name of a weight, what the inputs of its products are divided by, and the strength of that."""

    by_weight: dict[str, Tensor] = field(default_factory=dict)
    strengths: dict[str, float] = field(default_factory=dict)


def dynamically_quantized(
    captured: GraphModule,
    model: Model,
    chosen: Sequence[UsedWeight],
    bits: Mapping[str, int],
    smoothing: Smoothing,
) -> Checkpoint:
    """Return the tensors and the records (`weights`) of weights that are kept in `bits`, by name.

    `captured` is the graph that they were found in. Raises StageError naming the layer whose inputs or
    weights are not finite.
    """
    scales = smoothing_scales(captured, model.module, chosen, bits, smoothing)
    tensors: dict[str, Tensor] = {}
    records: dict[str, Any] = {}
    for weight in chosen:
        scale_K = scales.by_weight.get(weight.name)
        record = record_of(weight, model.module, bits[weight.name], scale_K is not None)
        with blamed_on(weight.paths[0]):
            parts = parts_of(record, model.module.get_parameter(weight.name).detach(), scale_K)
        tensors |= {f"stored.{weight.name}.{part}": tensor for part, tensor in parts.items()}
        records[weight.name] = record.model_dump(mode="json")
    return Checkpoint(tensors, {"weights": records, "smoothing": scales.strengths})


def with_stored(model: Model, done: Checkpoint) -> Model:
    """Return a copy of a model whose weights are those of `dynamically_quantized`."""
    work = model.copy()
    edit = StoredWeights.model_validate({"weights": done.numbers["weights"]})
    for name, record in edit.weights.items():
        prefix = f"stored.{name}."
        parts = {
            key.removeprefix(prefix): value for key, value in done.tensors.items() if key.startswith(prefix)
        }
        work.module.get_parameter(name).data.copy_(numbers(record, parts))
    result = work.edited(edit)
    result.state.update(done.tensors)
    return result


def in_integers(weight: UsedWeight, bits: int) -> bool:
    """Whether the products with a weight are of integers."""
    return bool(weight.products) and weight.one_way and bits < STEPS_BITS


def record_of(weight: UsedWeight, module: nn.Module, bits: int, scaled: bool) -> StoredWeight:
    """Return how a weight is kept: one scale for each output."""
    shape = tuple(module.get_parameter(weight.name).shape)
    transposed = weight.transposed
    fields = {
        "shape": shape,
        # 7 bits are for the sums of a product; alone they would have to be unpacked bit by bit.
        "bits": 8 if bits == 7 and not in_integers(weight, bits) else bits,
        "group_size": shape[0] if transposed else torch.Size(shape[1:]).numel(),
        "unpack": "integers" if in_integers(weight, bits) else "load",
        "scaled_inputs": scaled,
        "transposed": transposed,
    }
    return StoredWeight.model_validate(fields)


def rows_of(weight: Tensor, transposed: bool) -> Tensor:
    """Return a weight as (O, K)."""
    return weight.mT if transposed else weight.flatten(1)


def parts_of(record: StoredWeight, weight: Tensor, scale_K: Tensor | None) -> dict[str, Tensor]:
    """Return the tensors of a weight, rounded to nearest. Raises ValueError if it is not finite."""
    weight_OK = rows_of(weight, record.transposed)
    if scale_K is not None:
        weight_OK = weight_OK * scale_K.float()
    width = Width(record.bits, None, symmetric=True)
    return stored_tensors(
        record,
        round_to_nearest(weight_OK, width, extremes),
        None if scale_K is None else (1 / scale_K).float(),
    )


def smoothing_scales(
    captured: GraphModule,
    module: nn.Module,
    chosen: Sequence[UsedWeight],
    bits: Mapping[str, int],
    smoothing: Smoothing,
) -> Scales:
    """Return the scales of the inputs that it pays to smooth: those of a weight with one integer product."""
    readers = {
        weight.products[0]: weight
        for weight in chosen
        if in_integers(weight, bits[weight.name]) and len(weight.calls) == 1
    }
    scales = Scales()
    if not smoothing.samples or not readers:
        return scales
    together: dict[Node, list[UsedWeight]] = {}
    for call, weight in readers.items():
        together.setdefault(input_of(call), []).append(weight)
    seen = seen_once(smoothing.unit, lambda: watched(captured, list(together), smoothing.samples))
    for number, weights in enumerate(together.values()):
        matrices = [rows_of(module.get_parameter(each.name), each.transposed) for each in weights]
        find = partial(scale_for, matrices, seen[number], smoothing.strength, bits[weights[0].name])
        with blamed_on(weights[0].paths[0]):
            scale_K, strength = scale_once(smoothing.unit, number, find)
        if strength:
            scales.by_weight |= {each.name: scale_K for each in weights}
        scales.strengths |= {each.name: strength for each in weights}
    return scales


def input_of(product: Node) -> Node:
    """Return the input of a product."""
    return operands(product)[0]


class Watch(Interpreter):
    """Run a graph and show some of its values to who asked for them."""

    def __init__(self, captured: GraphModule, seen: Mapping[Node, InputStatistics]) -> None:
        super().__init__(captured)
        self.seen = seen

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if n in self.seen:
            self.seen[n].see(value)
        return value


def watched(
    captured: GraphModule, values: Sequence[Node], samples: Sequence[Inputs]
) -> list[InputStatistics]:
    """Return what calibration samples show of some values. Raises StageError if they are not finite."""
    seen = {value: InputStatistics() for value in values}
    order = [str(node.target) for node in captured.graph.find_nodes(op="placeholder")]
    with torch.no_grad():
        for inputs in samples:
            raise_if_interrupted()
            try:
                Watch(captured, seen).run(*(inputs[name] for name in order))
            except ValueError as error:
                raise StageError(f"{error} on calibration samples") from error
    return list(seen.values())
