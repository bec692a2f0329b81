"""Give each layer the bits that a budget allows and that it needs most, then train with them.

    mixed:
      type: quantize.mixed
      widths: [8, 4, 3, 2]
      budget: {mean_bits: 3.0}
      sensitivity: measured
      probes: 4
      activations: {bits: 8}
      overrides:
        - {layer: first, weights: {bits: 8}}
      training:
        epochs: 2
        optimizer: {type: sgd, lr: 0.01}

What a width costs a layer is `measured` (the rise of the loss on validation with this weight alone rounded),
or follows from the trace of the `hessian` (HAWQ). The choice with the smallest sum of costs within the budget
is exact while the sums that nothing beats are few, else greedy; the report says which, and draws it. A budget
is `mean_bits` or `size_bytes` of the weights, a share of `bit_operations`, or an `accuracy_drop` (then the
smallest weights are chosen whose drops sum up to it). Layers to which `overrides` give bits keep them. How
quantizers train is said as in `quantize.qat`.

Sources: Dong et al. 2020, arXiv:1911.03852 (HAWQ-V2). Differs: see
`mcomp_stages/methods/quantization/mixed`; activations have one width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from mcomp.errors import StageError
from mcomp.stage import Checkpoint, Context, Form, StageConfig, StageResult
from mcomp_stages.methods.quantization.config import WeightBits
from mcomp_stages.methods.quantization.learned.stage_fields import QuantizedTraining
from mcomp_stages.methods.quantization.mixed.config import Budget

if TYPE_CHECKING:
    from mcomp.model.model import Model
    from mcomp.sensitivity.trials import Trials
    from mcomp_stages.methods.quantization.edit import Quantizers
    from mcomp_stages.methods.quantization.mixed.choose import Choice
    from mcomp_stages.methods.quantization.mixed.costs import Costs


class QuantizeMixed(QuantizedTraining, StageConfig):
    """Bits for each layer under a budget, from what they cost, and training with them."""

    forms = {Form.FLOAT: Form.QUANTIZED}
    varies = "bits"

    type: Literal["quantize.mixed"] = "quantize.mixed"
    widths: Annotated[
        tuple[WeightBits, ...], Field(min_length=2, description="bits of weights to choose from")
    ] = (8, 4, 3, 2)
    budget: Budget
    sensitivity: Annotated[
        Literal["measured", "hessian"], Field(description="how the costs of widths are found")
    ] = "measured"
    probes: Annotated[int, Field(ge=1, description="random products for each batch, for hessian")] = 4

    @model_validator(mode="after")
    def drops_are_measured(self) -> QuantizeMixed:
        """Refuse an accuracy that a trace does not tell, and a width that is set and chosen."""
        if self.budget.accuracy_drop is not None and self.sensitivity == "hessian":
            raise ValueError("an accuracy_drop is measured: leave out sensitivity: hessian")
        if "bits" in self.weights.model_fields_set:
            raise ValueError(
                "weights.bits is what this stage chooses: leave it out; see widths and overrides"
            )
        return self

    def run(self, model: Model, context: Context) -> StageResult:
        edit = self.edit(model, context)
        widths = self.widths_of(model, edit, context)
        costs = self.costs(model, edit, widths, context)
        sizes = self.sizes(model, edit, widths, context)
        choice, is_exact = self.choice(costs, sizes)
        bits = dict(zip(costs, choice.bits, strict=True))
        final = self.edit_with(model, bits, context)
        result = self.finished(model, final, context)
        shown = {
            "solved": "exactly" if is_exact else "greedily",
            "budget": self.budget.limit,
            "reached": choice.cost if self.budget.kind == "accuracy_drop" else choice.size,
            "smallest": sum(min(each.values()) for each in sizes.values()),
            "largest": sum(max(each.values()) for each in sizes.values()),
        }
        layers = {name.removesuffix(".weight"): each for name, each in bits.items()}
        told = {name: {str(width): cost for width, cost in each.items()} for name, each in costs.items()}
        facts = {**result.facts, "mixed": shown, "widths": layers, "costs": told}
        return StageResult(result.model, facts=facts)

    def trials(self, model: Model, context: Context, levels: tuple[float, ...]) -> Trials:
        # What bears the narrowest width is left to the budget; an override gives the others what they bear.
        asked = levels or self.widths
        return self.before_training(model, context, asked, free=int(min(asked)))

    def widths_of(self, model: Model, edit: Quantizers, context: Context) -> dict[str, tuple[int, ...]]:
        """Return the widths that each weight may have: one, if an override gives it."""
        from mcomp.training.device import borrowed_threads
        from mcomp_stages.methods.quantization.placement import placement
        from mcomp_stages.methods.quantization.presets import RUNTIMES
        from mcomp_stages.methods.quantization.scheme import chosen
        from mcomp_stages.methods.quantization.training_graph import canonical_graph

        with borrowed_threads(context.compute.threads):
            graph = canonical_graph(model.module, context.example).graph
        layers = placement(graph, runtime=RUNTIMES[self.preset]).layers
        paths = tuple(layer.path for layer in layers)
        given = [
            each for each in self.overrides if each.weights is not None and each.weights.bits is not None
        ]
        fixed = {path for override in given for path in chosen(model.module, paths, override)}
        named = {layer.weight for layer in layers if layer.path in fixed}
        free = tuple(sorted(set(self.widths), reverse=True))
        return {name: (site.bits,) if name in named else free for name, site in edit.weights.items()}

    def costs(
        self, model: Model, edit: Quantizers, widths: dict[str, tuple[int, ...]], context: Context
    ) -> Costs:
        """Return what each width of each weight costs; found once, also if the step is interrupted later."""
        from mcomp_stages.methods.quantization.mixed import costs as of

        def found() -> Checkpoint:
            from mcomp.training.device import borrowed_threads

            with borrowed_threads(context.compute.threads):
                if self.sensitivity == "hessian":
                    draw = context.generator("hessian")
                    each = of.hessian_costs(model, edit, widths, context, self.probes, draw, "costs")
                else:
                    by_metric = self.budget.kind == "accuracy_drop"
                    figure = of.validation_drop(context) if by_metric else of.validation_loss(context)
                    each = of.measured_costs(model, edit, widths, figure, context)
            return Checkpoint(numbers={"costs": [[name, list(by.items())] for name, by in each.items()]})

        kept: Sequence[Any] = context.unit("costs", found).numbers["costs"]
        return {name: {int(bits): max(float(cost), 0.0) for bits, cost in by} for name, by in kept}

    def sizes(
        self, model: Model, edit: Quantizers, widths: dict[str, tuple[int, ...]], context: Context
    ) -> dict[str, dict[int, float]]:
        """Return what each width of each weight takes, in the unit of the budget."""
        from mcomp_stages.methods.quantization.mixed.costs import multiply_adds, weight_bytes

        shapes = {name: model.module.get_parameter(name).shape for name in edit.weights}
        total = sum(shape.numel() for shape in shapes.values())
        if self.budget.kind == "bit_operations":
            macs = multiply_adds(model, edit, context)
            share = self.activations.bits / 8 / sum(macs.values())
            return {name: {bits: macs[name] * bits / 8 * share for bits in widths[name]} for name in shapes}
        if self.budget.kind == "mean_bits":
            return {
                name: {bits: shapes[name].numel() * bits / total for bits in widths[name]} for name in shapes
            }
        return {name: {bits: weight_bytes(shapes[name], bits) for bits in widths[name]} for name in shapes}

    def choice(self, costs: Costs, sizes: dict[str, dict[int, float]]) -> tuple[Choice, bool]:
        """Return the widths, and whether they are the best. Raises StageError with the smallest reachable."""
        from mcomp_stages.methods.quantization.mixed.choose import Option, smallest_cost, smallest_size

        layers = [
            [Option(bits, sizes[name][bits], cost) for bits, cost in each.items()]
            for name, each in costs.items()
        ]
        kind, limit = self.budget.kind, self.budget.limit
        solve = smallest_size if kind == "accuracy_drop" else smallest_cost
        found = solve(layers, limit)
        if found is None:
            least = [
                min(each.cost if kind == "accuracy_drop" else each.size for each in every) for every in layers
            ]
            smallest = rounded_up(sum(least))
            raise StageError(
                f"budget.{kind}: {limit:g} cannot be met; the smallest reachable is {smallest}: "
                "raise it, or allow smaller widths",
            )
        return found

    def edit_with(self, model: Model, bits: dict[str, int], context: Context) -> Quantizers:
        """Return the quantizers with the chosen widths, and the methods that go with them."""
        from mcomp_stages.methods.quantization.learned.assign import with_methods

        edit = self.edit(model, context)
        sites = {
            name: site.model_copy(update={"bits": bits[name], "scale": "follows"})
            for name, site in edit.weights.items()
        }
        chosen = edit.model_copy(update={"weights": sites, "methods": {}})
        return with_methods(chosen, self.method.type if self.method else None, context.example)


def rounded_up(value: float) -> str:
    """Return a number that is at least `value` as text: whole, or with four digits behind the point."""
    from math import ceil

    return str(ceil(value)) if value >= 100 else f"{ceil(value * 1e4) / 1e4:g}"
