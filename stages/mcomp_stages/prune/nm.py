"""Keep a few of so many neighbouring weights: N:M, the pattern that sparse tensor cores read (2:4).

    prune:
      type: prune.nm
      keep: 2
      of: 4
      axis: input
      permute: true
      skip: [conv1]
      recover: {epochs: 8}

The largest `keep` weights of every `of` neighbours along `axis` stay, in every layer that is chosen; a layer
whose axis is no multiple of `of` is an error, so skip the first (3 or 1 inputs). `input` is what hardware
wants: for each output and position of a kernel, neighbours are input channels. `permute` first puts channels
into an order in which the pattern costs less; the model computes the same in any order, and this is proven.
Masks stay, as those of `prune.unstructured` do. ONNX Runtime on a processor is no faster for the pattern; the
file is smaller when it is compressed.

Sources: Mishra et al. 2021, arXiv:2104.08378 (2:4 and retraining); Pool & Yu 2021, Channel Permutations for
N:M Sparsity. Differs: channels are permuted together wherever several layers share them (residual sums), by
the groups of `prune.channels`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from mcomp.stage import Checkpoint, Context, Form, StageConfig, StageResult
from mcomp_stages.methods.distillation.config import DistilledTraining
from mcomp_stages.methods.sparsity.config import Axis, ChosenLayers, Pattern

if TYPE_CHECKING:
    from mcomp.model.model import Model
    from mcomp.sensitivity.trials import Trials


class PruneNm(Pattern, ChosenLayers, StageConfig):
    """At most n weights in every m neighbours, exactly, then training of what stays."""

    forms = {Form.FLOAT: Form.FLOAT}
    varies: ClassVar[str | None] = "sparsity"

    type: Literal["prune.nm"] = "prune.nm"
    keep: Annotated[int, Field(ge=1, description="weights that stay")] = 2
    of: Annotated[int, Field(ge=2, description="of so many neighbours")] = 4
    axis: Annotated[Axis, Field(description="neighbours along the inputs or the outputs of a layer")] = (
        "input"
    )
    permute: Annotated[bool, Field(description="reorder channels first, where that keeps more")] = False
    recover: Annotated[
        DistilledTraining | None, Field(description="training of what stays, also with teachers")
    ] = None

    def run(self, model: Model, context: Context) -> StageResult:
        from mcomp_stages.methods.distillation.training import fit_with_teachers
        from mcomp_stages.methods.pruning.edit import edited, read_edits
        from mcomp_stages.methods.sparsity.chosen import chosen_weights
        from mcomp_stages.methods.sparsity.masks import require_zeros, with_masks
        from mcomp_stages.methods.sparsity.nm import require_divisible, require_pattern

        chosen = chosen_weights(model.module, self.layers, self.skip)
        require_divisible(chosen, self, self.axis)
        done = context.unit("pattern", lambda: self.masks(model, context))
        result = with_masks(edited(model, read_edits(done.numbers["edits"])), done.tensors)
        facts: dict[str, Any] = dict(done.numbers["facts"])
        if self.recover is not None:
            fit = fit_with_teachers(result, self.recover, context, "recover")
            result, facts = fit.model, {**facts, **fit.facts()}
        require_pattern(result, chosen, self, self.axis)
        zeros = require_zeros(result, tuple(done.tensors), 1 - self.keep / self.of)
        return StageResult(result, facts={**zeros, **facts})

    def trials(self, model: Model, context: Context, levels: tuple[float, ...]) -> Trials:
        """Return one layer after the other with the pattern, in the order that channels have."""
        from mcomp_stages.methods.sparsity.chosen import chosen_weights
        from mcomp_stages.methods.sparsity.masks import with_masks
        from mcomp_stages.methods.sparsity.nm import pattern_mask, require_divisible
        from mcomp_stages.methods.sparsity.trials import pattern_of, sparsity_trials

        chosen = {each.path: each for each in chosen_weights(model.module, self.layers, self.skip)}
        require_divisible(tuple(chosen.values()), self, self.axis)
        patterns = {level: pattern_of(self, level) for level in (*levels, 1 - self.keep / self.of)}

        def sparse(path: str, share: float) -> Model:
            each = chosen[path]
            held = model.state.get(f"masks.{each.name}")
            return with_masks(
                model, {each.name: pattern_mask(each.parameter, patterns[share], self.axis, held)}
            )

        return sparsity_trials(model, list(chosen), sparse, 1 - self.keep / self.of, self.skip, levels)

    def masks(self, model: Model, context: Context) -> Checkpoint:
        """Return the masks by weight, after the edits that reorder channels."""
        from mcomp.training.device import borrowed_threads
        from mcomp_stages.methods.pruning.edit import stored
        from mcomp_stages.methods.sparsity.chosen import chosen_weights
        from mcomp_stages.methods.sparsity.nm import pattern_mask
        from mcomp_stages.methods.sparsity.reorder import reordered

        names = [each.name for each in chosen_weights(model.module, self.layers, self.skip)]
        with borrowed_threads(context.compute.threads):
            kept = {"as_is": self.kept(model, names)}
            if self.permute:
                before, model = model, reordered(model, names, self, self.axis, context.example, context.unit)
                kept["reordered"] = self.kept(model, names)
            masks = {
                name: pattern_mask(
                    model.module.get_parameter(name), self, self.axis, model.state.get(f"masks.{name}")
                )
                for name in names
            }
        edits = stored(model.edits[len(before.edits) :]) if self.permute else []
        return Checkpoint(masks, {"edits": edits, "facts": {"kept_magnitude": kept}})

    def kept(self, model: Model, names: list[str]) -> float:
        """Return the share of all the absolute weights that the pattern keeps."""
        from mcomp_stages.methods.sparsity.nm import lines
        from mcomp_stages.methods.sparsity.permutation import kept_magnitude

        weights = [lines(model.module.get_parameter(name).detach().abs(), self.axis) for name in names]
        kept = sum(kept_magnitude(rows, self.keep, self.of) for rows in weights)
        return round(kept / sum(float(rows.sum()) for rows in weights), 4)
