"""Leave out whole blocks: fewer layers, the same widths.

    prune:
      type: prune.layers
      importance: influence
      target: {blocks: 8}
      recover: {epochs: 8}

A block that adds to its input (a residual block, a layer of a transformer) can be replaced by its input if
both have one shape. By default these are the numbered members of sequences and lists; `blocks` names others
by pattern. Blocks that change the shape, run twice, or add nothing stay.

`importance`: `influence` (1 - cosine of what a block gets and gives, over calibration samples), `magnitude`
(mean absolute weight), `trial` (the loss on validation without the block), `random` (a control). `target` is
a number of blocks, a share of `macs` or `params` to keep at most, or a `latency_ms`. With
`schedule: {steps: N}` the blocks go in N portions, scored anew each time, with training between if there is
`recover`. Depth is what a runtime feels most: each block left out saves its whole time.

Source: Men et al. 2024, arXiv:2403.03853 (block influence, equation 1). Differs: of a feature map, every
pixel is a vector; blocks may also go in portions with training between.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mcomp.config import module_patterns, shortens_to
from mcomp.stage import Checkpoint, Context, Form, StageConfig, StageResult
from mcomp_stages.methods.blocks.config import BlockImportance, BlocksTarget
from mcomp_stages.methods.distillation.config import DistilledTraining
from mcomp_stages.methods.pruning.config import Schedule

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mcomp.model.model import Model
    from mcomp.sensitivity.trials import Trials
    from mcomp_stages.methods.blocks.influence import Witness


class PruneLayers(StageConfig):
    """Leave out the blocks that do least, then train what is left."""

    forms: ClassVar[Mapping[Form, Form]] = {Form.FLOAT: Form.FLOAT}
    varies: ClassVar[str | None] = "blocks"

    type: Literal["prune.layers"] = "prune.layers"
    importance: Annotated[BlockImportance, Field(description="what a block is scored by")] = "influence"
    target: Annotated[
        BlocksTarget, Field(description="how much goes: one of blocks, macs, params, latency_ms")
    ]
    blocks: Annotated[
        tuple[str, ...],
        module_patterns(description="patterns of blocks that may go; default: numbered members"),
    ] = ()
    skip: Annotated[tuple[str, ...], module_patterns(description="patterns of blocks that stay")] = ()
    samples: Annotated[
        int, shortens_to(8, ge=1, description="calibration samples that influence looks at")
    ] = 256
    schedule: Annotated[Schedule, Field(description="in how many portions blocks go")] = Schedule()
    recover: Annotated[
        DistilledTraining | None, Field(description="training afterwards, also with teachers")
    ] = None

    @model_validator(mode="after")
    def steps_need_a_countable_target(self) -> PruneLayers:
        """Refuse portions of what cannot be divided, and training that nothing describes."""
        if self.schedule.steps > 1 and self.target.latency_ms is not None:
            raise ValueError("a schedule of several steps needs a target of blocks, macs or params")
        if self.schedule.epochs is not None and self.recover is None:
            raise ValueError("schedule.epochs are those of recover, and there is none")
        return self

    def timed(self) -> bool:
        return self.target.latency_ms is not None

    def run(self, model: Model, context: Context) -> StageResult:
        """Leave blocks out of a copy of `model`, and train it, at once or in steps. Raises StageError."""
        from mcomp_stages.methods.blocks.edit import RemovedBlocks
        from mcomp_stages.methods.pruning.recovery import recovered, trained_between
        from mcomp_stages.methods.size import shares, totals

        whole, now = totals(model, context.example), model
        steps: list[Mapping[str, Any]] = []
        for number in range(1, self.schedule.steps + 1):
            removed = sum(len(step["removed"]) for step in steps)
            done = context.unit(
                f"blocks_{number}", partial(self.choose, now, whole, number, removed, context)
            )
            steps.append(done.numbers["facts"])
            edit = RemovedBlocks.model_validate(done.numbers["edit"])
            now = now.edited(edit) if edit.blocks else now
            if number < self.schedule.steps and self.recover is not None:
                epochs = self.schedule.epochs
                now = trained_between(now, self.recover, epochs, context, f"recover_{number}")
        names = [name for step in steps for name in step["removed"]]
        facts = {**steps[0], "removed": names, **shares(now, whole, context.example)}
        return recovered(now, self.recover, facts, context)

    def trials(self, model: Model, context: Context, levels: tuple[float, ...]) -> Trials:
        """Return the model without one block after the other. Raises StageError."""
        from mcomp_stages.methods.blocks.blocks import removable_blocks
        from mcomp_stages.methods.blocks.trials import block_trials
        from mcomp_stages.methods.latency_target import Stopwatch

        blocks = removable_blocks(model.module, context.example, self.blocks, self.skip)
        return block_trials(model, blocks, self.skip, levels, lambda: Stopwatch(model, context, 1, 1))

    def choose(
        self, model: Model, whole: Mapping[str, float], number: int, removed: int, context: Context
    ) -> Checkpoint:
        """Return the blocks of one step as an edit, and what the report says of it. Raises StageError."""
        from mcomp.errors import StageError
        from mcomp_stages.methods.blocks.blocks import removable_blocks
        from mcomp_stages.methods.blocks.choice import next_blocks, step_target, timed_blocks, without
        from mcomp_stages.methods.blocks.influence import BLOCK_IMPORTANCE

        blocks = removable_blocks(model.module, context.example, self.blocks, self.skip)
        scores = BLOCK_IMPORTANCE[self.importance](blocks, self.witness(model, context, number))
        order = [blocks[path] for path in sorted(blocks, key=scores.__getitem__)]
        facts: dict[str, Any] = {}
        if self.target.latency_ms is not None:
            chosen, facts = timed_blocks(model, order, self.target, context)
        else:
            wanted = step_target(self.target, number, self.schedule.steps, whole)
            chosen = next_blocks(model, order, wanted, removed, context)
        if not chosen and self.schedule.steps == 1:
            raise StageError("nothing was cut: the target is met by the model as it is")
        facts |= {
            "blocks": len(blocks),
            "removed": [block.module for block in chosen],
            "scores": {path: round(score, 6) for path, score in scores.items()},
        }
        return Checkpoint(numbers={"edit": without(chosen).model_dump(mode="json"), "facts": facts})

    def witness(self, model: Model, context: Context, step: int) -> Witness:
        """Return what blocks are scored by in a step."""
        from itertools import count

        from mcomp.measure.accuracy import evaluate
        from mcomp.training.device import chosen_device
        from mcomp_stages.methods.blocks.influence import Witness
        from mcomp_stages.methods.calibration import calibration_inputs

        device = chosen_device(context.compute)
        validation, numbers = context.data.split("validation"), count()

        def samples() -> list[dict[str, Tensor]]:
            batches = calibration_inputs(context, self.samples)
            return [{name: value.to(device) for name, value in inputs.items()} for inputs in batches]

        def loss(module: nn.Module) -> float:
            label = f"trial_{step}_{next(numbers)}"
            return context.figure(
                label, lambda: evaluate(module, validation, context.task, device=device).loss
            )

        return Witness(
            model.copy().module.to(device).eval(),
            samples,
            loss,
            context.generator("importance"),
        )
