"""Set weights to zero by what the outputs, or the loss, would lose; no training.

    prune:
      type: prune.hessian
      method: obs
      sparsity: 0.6
      samples: 256
      damping: 0.1

Layer after layer, on unlabelled calibration samples and on what the sparse layers before it give: `obs`
chooses weights by the inverse Hessian of the layer's output error and lets the rest of each row make up for
them; `wanda` chooses in every row by weights times the size of their inputs, and `obd` in the whole layer by
the same, without changing the rest. `fisher` looks at the loss on labelled samples: blocks of the empirical
Fisher information say which weights cost least, and how the others change.

`sparsity` is the share of every chosen layer; `pattern: {keep: 2, of: 4}` in its place leaves at most 2 of
every 4 neighbouring inputs. `damping` is added to the diagonal of each Hessian, relative to its mean: more
of it helps where inputs depend on each other or samples are few. A linear that runs once for each sample
wants more samples than it has inputs: with fewer, `obs` fits what it has seen. Memory is that of the model
and the Hessians of the layers that read one input; finished layers are kept when the stage is interrupted.
Masks stay, as those of `prune.unstructured` do.

Sources: LeCun et al. 1990 (obd); Hassibi & Stork 1993 (obs); Frantar & Alistarh 2023, arXiv:2301.00774
(SparseGPT: obs in one sweep); Sun et al. 2023, arXiv:2306.11695 (wanda); Singh & Alistarh 2020,
arXiv:2004.14340 (fisher). Differs: see `mcomp_stages/methods/sparsity`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mcomp.config import shortens_to
from mcomp.stage import Context, Form, StageConfig, StageResult
from mcomp_stages.methods.distillation.config import DistilledTraining
from mcomp_stages.methods.sparsity.config import ChosenLayers, Pattern

if TYPE_CHECKING:
    from mcomp.model.model import Model
    from mcomp.sensitivity.trials import Trials
    from mcomp_stages.methods.sparsity.chosen import Chosen
    from mcomp_stages.methods.sparsity.second_order import Goal


class PruneHessian(ChosenLayers, StageConfig):
    """Zeros without training: optimal brain surgeon by layers, Wanda, the Hessian's diagonal, or Fisher."""

    version = "2"

    forms = {Form.FLOAT: Form.FLOAT}
    varies: ClassVar[str | None] = "sparsity"

    type: Literal["prune.hessian"] = "prune.hessian"
    method: Annotated[
        Literal["obs", "wanda", "obd", "fisher"], Field(description="fisher needs labels, the others none")
    ] = "obs"
    sparsity: Annotated[
        float | None, Field(gt=0, lt=1, description="share of every chosen layer that becomes zero")
    ] = None
    pattern: Annotated[
        Pattern | None, Field(description="in place of sparsity: n of every m neighbouring inputs stay")
    ] = None
    samples: int = shortens_to(8, default=128, ge=2, description="calibration samples")
    damping: Annotated[
        float, Field(gt=0, lt=1, description="added to a Hessian's diagonal, relative to its mean")
    ] = 0.1
    recover: Annotated[
        DistilledTraining | None, Field(description="training of what stays, also with teachers")
    ] = None

    @model_validator(mode="after")
    def says_how_much(self) -> PruneHessian:
        """Refuse a stage that says nothing, or two things."""
        if (self.sparsity is None) == (self.pattern is None):
            raise ValueError("say how much to set to zero: sparsity or pattern, one of them")
        return self

    def run(self, model: Model, context: Context) -> StageResult:
        from mcomp.training.device import borrowed_threads
        from mcomp_stages.methods.distillation.training import fit_with_teachers
        from mcomp_stages.methods.sparsity.chosen import chosen_weights
        from mcomp_stages.methods.sparsity.masks import require_zeros
        from mcomp_stages.methods.sparsity.nm import require_divisible, require_pattern

        chosen = chosen_weights(model.module, self.layers, self.skip)
        if self.pattern is not None:
            require_divisible(chosen, self.pattern, "input")
        with borrowed_threads(context.compute.threads):
            result, facts = self.pruned(model, chosen, context)
        if self.recover is not None:
            fit = fit_with_teachers(result, self.recover, context, "recover")
            result, facts = fit.model, {**facts, **fit.facts()}
        if self.pattern is not None:
            require_pattern(result, chosen, self.pattern, "input")
        zeros = require_zeros(result, [each.name for each in chosen], self.goal().share)
        return StageResult(result, facts={**zeros, **facts})

    def trials(self, model: Model, context: Context, levels: tuple[float, ...]) -> Trials:
        """Return one layer after the other with zeros, on what the dense layers before it give."""
        from mcomp_stages.methods.sparsity.chosen import chosen_weights
        from mcomp_stages.methods.sparsity.nm import require_divisible
        from mcomp_stages.methods.sparsity.trials import sparsity_trials

        chosen = {each.path: each for each in chosen_weights(model.module, self.layers, self.skip)}
        if self.pattern is not None:
            require_divisible(tuple(chosen.values()), self.pattern, "input")
        own = self.goal().share
        stages = {share: self.at(share) for share in (*levels, own)}

        def sparse(path: str, share: float) -> Model:
            return stages[share].pruned(model, (chosen[path],), context)[0]

        return sparsity_trials(model, list(chosen), sparse, own, self.skip, levels)

    def at(self, share: float) -> PruneHessian:
        """Return the stage with another share of zeros. Raises StageError if its pattern cannot have it."""
        from mcomp_stages.methods.sparsity.trials import pattern_of

        if self.pattern is None:
            return self.model_copy(update={"sparsity": share})
        return self.model_copy(update={"pattern": pattern_of(self.pattern, share)})

    def goal(self) -> Goal:
        """Return how many weights go."""
        from mcomp_stages.methods.sparsity.second_order import Goal

        if self.pattern is not None:
            return Goal(1 - self.pattern.keep / self.pattern.of, self.pattern)
        assert self.sparsity is not None
        return Goal(self.sparsity)

    def pruned(
        self, model: Model, chosen: tuple[Chosen, ...], context: Context
    ) -> tuple[Model, dict[str, Any]]:
        """Return the model with masks, and what the report says of what was lost."""
        from mcomp_stages.methods.calibration import calibration_inputs
        from mcomp_stages.methods.pruning.evidence import Evidence
        from mcomp_stages.methods.pruning.structured import calibration_batches
        from mcomp_stages.methods.sparsity.fisher import pruned_by_fisher
        from mcomp_stages.methods.sparsity.layerwise import LayerPruning, pruned_by_layers

        if self.method == "fisher":
            module = model.copy().module
            evidence = Evidence(
                module, batches=lambda: calibration_batches(context, self.samples), loss=context.task.loss
            )
            return pruned_by_fisher(model, chosen, evidence, self.goal(), self.damping, context.unit), {}
        samples = calibration_inputs(context, self.samples)
        pruning = LayerPruning(self.method, self.goal(), self.damping, samples)
        result, losses = pruned_by_layers(model, chosen, pruning, context.unit)
        return result, {"output_error": losses}
