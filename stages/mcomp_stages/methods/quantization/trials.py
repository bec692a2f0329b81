"""Layers of a model quantized one by one, for `mcomp sensitivity`, and the overrides that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar, get_args

from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp.sensitivity.trials import Levels, Patch, Trial, Trials
from mcomp_stages.methods.quantization.config import Override, Scheme, WeightBits, WeightChange
from mcomp_stages.methods.quantization.edit import without_quantizers
from mcomp_stages.methods.quantization.sensitivity import Unit, only, quantized_units
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph

AnyScheme = TypeVar("AnyScheme", bound=Scheme)

WIDTHS: tuple[int, ...] = get_args(WeightBits)
WIDEST = max(WIDTHS)
ENOUGH = 7  # below this many bits the widest is tried as well


def quantization_trials(
    scheme: AnyScheme,
    quantized: Callable[[AnyScheme], Model],
    example: Mapping[str, Tensor],
    levels: Sequence[float] = (),
) -> Trials:
    """Return the trials of a stage; `quantized` gives its model with calibrated quantizers as a scheme says.

    `levels` are widths of weights; by default the scheme's own, and 8 bits as well for layers that have fewer
    than 7. Raises StageError for other widths.
    """
    asked = widths(levels)
    graphs = Graphs(scheme, quantized, example)
    trials = [
        Trial(unit.name, bits, partial(graphs.alone, unit, bits))
        for unit in graphs.units
        for bits in tried(unit, asked)
    ]
    layers = {unit.name: unit for unit in graphs.units if unit.layers}
    before = without_quantizers(graphs.model)
    return Trials(before.module.eval(), tuple(trials), partial(patch, layers, scheme.overrides))


def widths(levels: Sequence[float]) -> tuple[int, ...]:
    """Return widths of weights, the widest first. Raises StageError for one that there is not."""
    wrong = [level for level in levels if level not in WIDTHS]
    if wrong:
        raise StageError(f"weights have {WIDTHS[0]} to {WIDEST} bits, not {wrong[0]:g}")
    return tuple(sorted({int(level) for level in levels}, reverse=True))


def tried(unit: Unit, asked: tuple[int, ...]) -> tuple[int, ...]:
    """Return the widths that a unit is tried with; the activations between layers have one."""
    if not unit.layers:
        return (unit.bits,)
    return asked or ((WIDEST, unit.bits) if unit.bits < ENOUGH else (unit.bits,))


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


def patch(units: Mapping[str, Unit], overrides: tuple[Override, ...], levels: Levels) -> Patch:
    """Return overrides for the layers that do not bear their width, or bear a smaller one."""
    changes = {
        unit.name: change
        for unit in units.values()
        if (change := change_of(unit, levels[unit.name])) is not None
    }
    kept = [name for name, change in changes.items() if "keep_float" in change]
    if len(kept) == len(units):
        return Patch(said="every layer alone costs more than the limit: raise it, or train the model")
    if not changes:
        return Patch(said="no layer alone costs more than the limit: nothing to change")
    new = [{"modules": path, **change} for name, change in changes.items() for path in units[name].layers]
    old = [each.model_dump(mode="json", exclude_defaults=True) for each in overrides]
    others = len(changes) - len(kept)
    said = f"{len(kept)} of {len(units)} layers stay in float, {others} get another width"
    return Patch({"overrides": [*old, *new]}, said)


def change_of(unit: Unit, bits: float | None) -> dict[str, Any] | None:
    """Return what an override says of a layer that bears `bits`, None for no width; None for nothing new."""
    if bits is None:
        return {"keep_float": True}
    return None if bits == unit.bits else {"weights": {"bits": int(bits)}}
