"""Layers of a model quantized one by one, for `mcomp sensitivity`, and the overrides that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from mcomp.model.model import Model
from mcomp.sensitivity.trials import Trial, Trials
from mcomp_stages.methods.quantization.config import Override, Scheme, WeightChange
from mcomp_stages.methods.quantization.edit import without_quantizers
from mcomp_stages.methods.quantization.sensitivity import Unit, only, quantized_units
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph
from mcomp_stages.methods.quantization.widths import overrides_patch, tried, widths

AnyScheme = TypeVar("AnyScheme", bound=Scheme)


def quantization_trials(
    scheme: AnyScheme,
    quantized: Callable[[AnyScheme], Model],
    example: Mapping[str, Tensor],
    levels: Sequence[float] = (),
    free: int | None = None,
) -> Trials:
    """Return the trials of a stage; `quantized` gives its model with calibrated quantizers as a scheme says.

    `levels` are widths of weights; by default the scheme's own, and 8 bits as well for layers that have fewer
    than 7. Layers that bear `free` bits need no override; by default those that bear their own. Raises
    StageError for other widths.
    """
    asked = widths(levels)
    graphs = Graphs(scheme, quantized, example)
    trials = [
        Trial(unit.name, bits, partial(graphs.alone, unit, bits))
        for unit in graphs.units
        for bits in (tried(unit.bits, asked) if unit.layers else (unit.bits,))
    ]
    layers = {unit.name: (free or unit.bits, unit.layers) for unit in graphs.units if unit.layers}
    before = without_quantizers(graphs.model)
    return Trials(
        before.module.eval(),
        tuple(trials),
        lambda borne: overrides_patch(layers, scheme.overrides, borne, at_width),
    )


@dataclass
class Graphs(Generic[AnyScheme]):
    """The graphs of a model with quantizers, by the width of their weights; None is as the scheme has it."""

    scheme: AnyScheme
    quantized: Callable[[AnyScheme], Model]
    example: Mapping[str, Tensor]
    made: dict[int | None, QuantizedGraph] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model = self.quantized(self.scheme)
        self.made[None] = self.graph(self.model)
        self.units = quantized_units(self.model, self.made[None])

    def graph(self, model: Model) -> QuantizedGraph:
        """Return the graph of a model with quantizers."""
        graph = model.training_module(self.example)
        assert isinstance(graph, QuantizedGraph)
        return graph

    def at(self, bits: int | None) -> QuantizedGraph:
        """Return the graph with weights of one width, with ranges that follow from it."""
        if bits not in self.made:
            every = (path for unit in self.units for path in unit.layers)
            more = tuple(
                Override(modules=path, weights=WeightChange.model_validate({"bits": bits})) for path in every
            )
            scheme = self.scheme.model_copy(update={"overrides": (*self.scheme.overrides, *more)})
            self.made[bits] = self.graph(self.quantized(scheme))
        return self.made[bits]

    @contextmanager
    def alone(self, unit: Unit, bits: int) -> Iterator[nn.Module]:
        """Give the model with one unit quantized, its weight to `bits`, while the block runs."""
        with only(self.at(None if bits == unit.bits else bits), unit.sites) as graph:
            yield graph


def at_width(bits: int) -> dict[str, Any]:
    """Return what an override says of a layer with so many bits."""
    return {"weights": {"bits": bits}}
