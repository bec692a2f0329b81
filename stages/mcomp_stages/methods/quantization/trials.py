"""Layers of a model quantized one by one, for `mcomp sensitivity`, and the overrides that follow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, get_args

from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp.sensitivity.trials import Levels, Patch, Trial, Trials
from mcomp_stages.methods.quantization.calibrate import calibrated
from mcomp_stages.methods.quantization.config import Override, Scheme, WeightBits
from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.methods.quantization.observers.config import ObserverChoice
from mcomp_stages.methods.quantization.scheme import quantizers_for
from mcomp_stages.methods.quantization.sensitivity import Unit, only, quantized_units, quantizers_of
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph

WIDTHS: tuple[int, ...] = get_args(WeightBits)
WIDEST = max(WIDTHS)
ENOUGH = 7  # below this many bits the widest is tried as well


def calibrated_trials(
    scheme: Scheme,
    model: Model,
    example: Mapping[str, Tensor],
    batches: Iterable[Mapping[str, Tensor]],
    observer: ObserverChoice,
    levels: Sequence[float] = (),
) -> Trials:
    """Return the trials of a stage that calibrates `model` on `batches`, as `quantization_trials` does."""
    edit = quantizers_for(model.module, example, scheme)
    ready = calibrated(model.edited(edit), example, batches, observer)
    return quantization_trials(ready, example, scheme.overrides, levels)


def quantization_trials(
    model: Model,
    example: Mapping[str, Tensor],
    overrides: Sequence[Override] = (),
    levels: Sequence[float] = (),
) -> Trials:
    """Return the trials of a stage that gives a model the calibrated quantizers that `model` ends with.

    `overrides` are those of its configuration: the new ones stand behind them. `levels` are widths of
    weights; by default the stage's own, and 8 bits as well for layers that have fewer than 7. Raises
    StageError for other widths.
    """
    asked = widths(levels)
    graphs = Graphs(model, example, {})
    units = quantized_units(model, graphs.at(None))
    trials = [
        Trial(unit.name, bits, partial(graphs.alone, unit, bits))
        for unit in units
        for bits in tried(unit, asked)
    ]
    own = {unit.name: unit for unit in units if unit.layers}
    before = replace(model, edits=model.edits[:-1])
    return Trials(before.module.eval(), tuple(trials), partial(patch, own, tuple(overrides)))


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


@dataclass(frozen=True)
class Graphs:
    """The graphs of a model with quantizers, by the width of their weights; None is as the model has it."""

    model: Model
    example: Mapping[str, Tensor]
    made: dict[int | None, QuantizedGraph]

    def at(self, bits: int | None) -> QuantizedGraph:
        """Return the graph with weights of one width."""
        if bits not in self.made:
            model = self.model if bits is None else with_weight_bits(self.model, bits)
            graph = model.training_module(self.example)
            assert isinstance(graph, QuantizedGraph)
            self.made[bits] = graph
        return self.made[bits]

    @contextmanager
    def alone(self, unit: Unit, bits: int) -> Iterator[nn.Module]:
        """Give the model with one unit quantized, its weight to `bits`, while the block runs."""
        with only(self.at(None if bits == unit.bits else bits), unit.sites) as graph:
            yield graph


def with_weight_bits(model: Model, bits: int) -> Model:
    """Return a model whose weights have another width, on the grids that follow from that."""
    edit = quantizers_of(model)
    weights = {name: site.model_copy(update={"bits": bits}) for name, site in edit.weights.items()}
    grids = tuple(f"quantizers.{name}." for name in weights)
    state = {name: tensor for name, tensor in model.state.items() if not name.startswith(grids)}
    before = replace(model, edits=model.edits[:-1], state=state)
    return before.edited(Quantizers(activations=edit.activations, weights=weights))


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
