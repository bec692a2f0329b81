"""Give back the layers that cost most until what is lost on validation is within bounds.

Layers are taken in the order of what each costs alone (`sensitivity`), one more at a time, and the model is
quantized anew with them in float, or with more bits. Greedy: costs of single layers do not add up, so the
result is within the bound but may give back a layer that it need not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from torch import nn

from mcomp.errors import StageError
from mcomp.measure.accuracy import Evaluation
from mcomp.model.model import Model
from mcomp_stages.methods.quantization.config import ActivationChange, Override, Scheme, WeightChange
from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.methods.quantization.lockstep import Inputs
from mcomp_stages.methods.quantization.post_training.config import Tolerance
from mcomp_stages.methods.quantization.sensitivity import (
    Unit,
    layer_figures,
    quantized_units,
    quantizers_of,
)
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph

MOST_WEIGHT_BITS = 8


@dataclass(frozen=True)
class GivenBack:
    """A scheme within the bound, the layers that were given back for it, and the metric after each."""

    scheme: Scheme
    layers: tuple[str, ...] = ()
    metrics: tuple[float, ...] = ()
    in_float: float = field(default=0.0, kw_only=True)

    def facts(self) -> dict[str, Any]:
        """Return what the report says."""
        return {"metric_in_float": self.in_float, "metrics": list(self.metrics), "layers": list(self.layers)}


@dataclass(frozen=True)
class Search:
    """What is measured and kept while layers are given back.

    `quality` is the task's metric and loss of a module on validation; `figure` keeps what is measured
    (`mcomp.stage.Context.figure`).
    """

    tolerance: Tolerance
    quality: Callable[[nn.Module], Evaluation]
    higher_is_better: bool
    example: Inputs
    figure: Callable[[str, Callable[[], float]], float]

    def within(
        self, scheme: Scheme, prepared: Model, quantized: Model, anew: Callable[[Scheme], Model]
    ) -> GivenBack:
        """Return the first scheme within the bound, giving back one more layer at a time.

        `prepared` is the float model, `quantized` what `scheme` made of it, `anew` gives what another one
        would. Raises StageError if none is within the bound while a layer is left to quantize.
        """
        in_float = self.quality(prepared.module).metric
        metrics = [self.metric("attempt-0", lambda: quantized)]
        given: tuple[str, ...] = ()
        todo = [] if self.holds(metrics[0], in_float) else self.order(quantized)
        while not self.holds(metrics[-1], in_float):
            if len(todo) <= (self.tolerance.fallback == "float"):  # a layer must stay in integers
                raise self.out_of_reach(in_float, metrics)
            given += todo.pop(0).layers
            changed = with_given_back(scheme, given, self.tolerance.fallback)
            metrics.append(self.metric(f"attempt-{len(metrics)}", lambda changed=changed: anew(changed)))  # type: ignore[misc]
        return GivenBack(
            with_given_back(scheme, given, self.tolerance.fallback), given, tuple(metrics), in_float=in_float
        )

    def metric(self, label: str, model: Callable[[], Model]) -> float:
        """Return the metric of a quantized model."""

        return self.figure(label, lambda: self.quality(model().training_module(self.example)).metric)

    def holds(self, metric: float, in_float: float) -> bool:
        """Whether a metric is within the bound; one that is not a number is not."""
        lost = in_float - metric if self.higher_is_better else metric - in_float
        return lost <= self.tolerance.drop

    def order(self, model: Model) -> list[Unit]:
        """Return what can be given back, first what costs most loss when it alone is quantized."""
        graph = model.training_module(self.example)
        assert isinstance(graph, QuantizedGraph)
        units = candidates(model, quantized_units(model, graph), self.tolerance.fallback)
        numbers = count()

        def loss(module: nn.Module) -> float:
            return self.figure(f"sensitivity-{next(numbers)}", lambda: self.quality(module).loss)

        losses = layer_figures(model, self.example, loss, units)
        return sorted(units, key=lambda unit: -losses[unit.name])

    def out_of_reach(self, in_float: float, metrics: Sequence[float]) -> StageError:
        """Return the error of a tolerance that cannot be met."""
        fallback = self.tolerance.fallback
        given = "kept in float" if fallback == "float" else f"given {fallback} bits"
        best = (max if self.higher_is_better else min)(metrics)
        return StageError(
            f"tolerance cannot be met: on validation the metric is {in_float:.4f} in float and may be "
            f"{self.tolerance.drop:g} worse; with none to {len(metrics) - 1} layers {given} it came to "
            f"{best:.4f}; raise tolerance.drop, give weights and activations more bits, or train with "
            "quantize.qat"
        )


def candidates(model: Model, units: Sequence[Unit], fallback: str | int) -> list[Unit]:
    """Return the units with layers to which the fallback gives more than they have."""
    edit = quantizers_of(model)
    layers = [unit for unit in units if unit.layers]
    return layers if fallback == "float" else [unit for unit in layers if gains(edit, unit, int(fallback))]


def gains(edit: Quantizers, unit: Unit, bits: int) -> bool:
    """Whether so many bits are more than a unit has."""
    inputs = [edit.activations[site].bits for site in unit.sites if site in edit.activations]
    return unit.bits < MOST_WEIGHT_BITS or any(width < bits for width in inputs)


def with_given_back(scheme: Scheme, layers: Sequence[str], fallback: str | int) -> Scheme:
    """Return a scheme with more for some layers."""
    more = tuple(override(path, fallback) for path in layers)
    return scheme.model_copy(update={"overrides": (*scheme.overrides, *more)})


def override(path: str, fallback: str | int) -> Override:
    """Return what a recipe would say of a layer that is given back."""
    if fallback == "float":
        return Override(modules=path, keep_float=True)
    return Override(
        modules=path,
        weights=WeightChange(bits=MOST_WEIGHT_BITS),
        activations=ActivationChange.model_validate({"bits": fallback}),
    )
