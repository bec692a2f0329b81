"""Set single weights, rows of kernels, kernels or blocks to zero, and hold them there.

    prune:
      type: prune.unstructured
      sparsity: 0.9
      unit: weight
      importance: l1
      scope: global
      schedule: {type: gradual, end: 0.7}
      recover: {epochs: 8}

The masks stay with the model: distillation, further training and quantization-aware training leave the zeros
as they are, structured pruning slices the masks, and the export counts the zeros in the file. A runtime for
dense models is no faster for them. What zeros buy is bytes, of a file that is compressed when it is stored or
sent, and of the checkpoint.

`unit`: a `weight`, a `vector` (one row of a kernel), a `kernel` (from one input channel to one output
channel) or a `block` of the weight as a matrix of outputs and inputs. `importance`: `l1` and `l2` are
magnitudes, `movement` is how far training pushes a weight from zero (only with a gradual schedule), `random`
is a control. `scope: layer` takes the same share of every layer, `global` compares all weights.

`schedule`: `one_shot`, then `recover`; `iterative`, in rounds of pruning and `recover`, with `rewind` back to
the weights of another model of the same structure each time (lottery tickets); `gradual` inside of `recover`,
which wants a training long enough to go on for a while after the last mask.

Sources: Han et al. 2015, arXiv:1506.02626 (magnitude, rounds); Mao et al. 2017, arXiv:1705.08922 (grains);
Zhu & Gupta 2017, arXiv:1710.01878 (gradual); Sanh et al. 2020, arXiv:2005.07683 (movement); Frankle & Carbin
2019, arXiv:1803.03635 (rewinding). Differs: see `mcomp_stages/methods/sparsity`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mcomp.stage import Context, Form, StageConfig, StageResult
from mcomp_stages.methods.distillation.config import DistilledTraining
from mcomp_stages.methods.sparsity.config import (
    ChosenLayers,
    Importance,
    OneShot,
    Schedule,
    Scope,
    Share,
    Unit,
)

if TYPE_CHECKING:
    from mcomp.model.model import Model
    from mcomp.sensitivity.trials import Trials
    from mcomp_stages.methods.sparsity.schedules import Pruning


class PruneUnstructured(ChosenLayers, StageConfig):
    """Zeros inside of weights, by magnitude or movement: at once, in rounds, or while training."""

    forms = {Form.FLOAT: Form.FLOAT}
    varies: ClassVar[str | None] = "sparsity"

    type: Literal["prune.unstructured"] = "prune.unstructured"
    sparsity: Share
    unit: Annotated[Unit, Field(description="what becomes zero as a whole")] = "weight"
    block: Annotated[
        tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]],
        Field(description="outputs and inputs of a block"),
    ] = (1, 4)
    importance: Annotated[Importance, Field(description="what a unit is scored by")] = "l1"
    scope: Annotated[Scope, Field(description="compare units within a layer, or all")] = "global"
    biases: Annotated[bool, Field(description="prune biases too, one by one")] = False
    schedule: Annotated[Schedule, Field(description="when weights become zero")] = OneShot()
    recover: Annotated[
        DistilledTraining | None, Field(description="training of what stays, also with teachers")
    ] = None

    @model_validator(mode="after")
    def fits_together(self) -> PruneUnstructured:
        """Refuse fields that need another, or that would be ignored."""
        if self.recover is None and self.schedule.type != "one_shot":
            raise ValueError(f"schedule {self.schedule.type} trains: say how under recover")
        if self.importance == "movement" and self.schedule.type != "gradual":
            raise ValueError("movement is seen while training: it needs schedule: {type: gradual}")
        if "block" in self.model_fields_set and self.unit != "block":
            raise ValueError(f"block is the size of blocks, and unit is {self.unit}: leave one of them out")
        if self.schedule.type == "gradual" and self.schedule.initial >= self.sparsity:
            raise ValueError("the schedule's initial sparsity must be below sparsity")
        return self

    def run(self, model: Model, context: Context) -> StageResult:
        from mcomp_stages.methods.sparsity.masks import require_zeros
        from mcomp_stages.methods.sparsity.schedules import SCHEDULES

        pruning = self.pruning(model, context)
        result = SCHEDULES[self.schedule.type](model, pruning, self.schedule, context)
        zeros = require_zeros(result.model, tuple(pruning.selector.shapes), self.sparsity)
        return StageResult(result.model, facts={**zeros, **result.facts})

    def trials(self, model: Model, context: Context, levels: tuple[float, ...]) -> Trials:
        """Return one layer after the other with zeros, before any training. Raises StageError."""
        from mcomp.errors import StageError
        from mcomp_stages.methods.sparsity.masks import held_masks, with_masks
        from mcomp_stages.methods.sparsity.trials import sparsity_trials

        if self.importance == "movement":
            raise StageError("movement is seen while training, and trials do not train: set importance: l1")
        selector = self.pruning(model, context).selector

        def sparse(path: str, share: float) -> Model:
            alone = selector.of_layer(path)
            weights = {name: model.module.get_parameter(name) for name in alone.shapes}
            return with_masks(model, alone.masks(weights, held_masks(model.state, tuple(weights)), share))

        shares = levels or (0.5, 0.7, 0.9)
        return sparsity_trials(model, selector.layers, sparse, self.sparsity, self.skip, shares)

    def pruning(self, model: Model, context: Context) -> Pruning:
        """Return what is pruned, how much, and how the rest is trained."""
        from mcomp.fingerprint import sub_seed
        from mcomp_stages.methods.sparsity.chosen import chosen_weights
        from mcomp_stages.methods.sparsity.masks import selector_of
        from mcomp_stages.methods.sparsity.schedules import Pruning

        chosen = chosen_weights(model.module, self.layers, self.skip, biases=self.biases)
        selector = selector_of(
            chosen,
            importance=self.importance,
            unit=self.unit,
            block=self.block,
            scope=self.scope,
            seed=sub_seed(context.seed, "importance"),
        )
        return Pruning(selector, self.sparsity, self.recover)
