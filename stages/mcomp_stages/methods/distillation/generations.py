"""Generations of a network, each of which starts anew and follows the one before (Born-Again)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mcomp.model.model import Model
from mcomp.recipe.schema import RecipeRef
from mcomp.stage import Context, NotShared
from mcomp.training.config import Training
from mcomp.training.loop import Fit
from mcomp.training.state import merit
from mcomp_stages.methods.distillation.config import DistilledTraining
from mcomp_stages.methods.distillation.fresh import fresh, require_as_built
from mcomp_stages.methods.distillation.self_config import BornAgain
from mcomp_stages.methods.distillation.training import fit_with_teachers


def born_again(
    model: Model, config: BornAgain, training: Training, context: Context
) -> tuple[Model, dict[str, Any]]:
    """Return the generation that is best on validation, and facts about all. Raises StageError."""
    require_as_built(model, "born_again")
    plain = {name: getattr(training, name) for name in type(training).model_fields}
    first = fit_with_teachers(model, DistilledTraining(**plain), context, "generation_0")
    found = [first]
    for number in range(1, config.generations):
        before = RecipeRef(recipe=f"generation {number - 1}")
        # What an earlier generation says is of no use to another stage or job.
        alone = replace(context, models={before: found[-1].model}, shared=NotShared())
        following = DistilledTraining(**plain, teachers=(before,), loss=config.loss)
        start = fresh(model.spec, context.seed, f"generation {number}")
        found.append(fit_with_teachers(start, following, alone, f"generation_{number}"))
    best = max(found, key=lambda each: merit(each.kept, context.task.direction))
    return best.model, {**best.facts(), "chosen": found.index(best), "generations": told(found)}


def told(generations: list[Fit]) -> dict[str, Any]:
    """Return how good each generation became."""
    return {
        str(number): {"validation": each.kept.metric, "loss": each.kept.validation_loss}
        for number, each in enumerate(generations)
    }
