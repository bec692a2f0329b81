"""When weights become zero: at once, in rounds, or while training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from mcomp.data.sampler import cut_batches
from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp.stage import Context
from mcomp.training.constraints import ZeroedWeights
from mcomp.training.device import borrowed_threads
from mcomp_stages.methods.distillation.config import DistilledTraining
from mcomp_stages.methods.distillation.training import fit_with_teachers
from mcomp_stages.methods.sparsity.config import Gradual, Iterative, OneShot
from mcomp_stages.methods.sparsity.gradual import GradualMasks, growth_of
from mcomp_stages.methods.sparsity.masks import Selector, held_masks, with_masks


@dataclass(frozen=True)
class Pruning:
    """Among what weights are chosen, what share becomes zero, and how the rest is trained."""

    selector: Selector
    sparsity: float
    recover: DistilledTraining | None


@dataclass(frozen=True)
class Pruned:
    """A model with its masks, and what the report says of its training."""

    model: Model
    facts: Mapping[str, Any] = field(default_factory=dict)


def at_once(model: Model, pruning: Pruning, schedule: OneShot, context: Context) -> Pruned:
    """Prune, then train if asked to."""
    masked = pruned_to(model, pruning.selector, pruning.sparsity, context)
    if pruning.recover is None:
        return Pruned(masked)
    fit = fit_with_teachers(masked, pruning.recover, context, "recover")
    return Pruned(fit.model, fit.facts())


def in_rounds(model: Model, pruning: Pruning, schedule: Iterative, context: Context) -> Pruned:
    """Prune and train, several times; each round takes the same share of what is left."""
    assert pruning.recover is not None
    rounds: list[dict[str, Any]] = []
    facts: dict[str, Any] = {}
    for number in range(1, schedule.rounds + 1):
        share = 1 - (1 - pruning.sparsity) ** (number / schedule.rounds)
        model = pruned_to(model, pruning.selector, share, context)
        if schedule.rewind is not None:
            model = rewound(model, context.models[schedule.rewind], schedule.rewind)
        fit = fit_with_teachers(model, pruning.recover, context, f"round-{number}")
        model, facts = fit.model, fit.facts()
        rounds.append({"sparsity": round(share, 4), context.task.metric_name: fit.kept.metric})
    return Pruned(model, {**facts, "rounds": rounds})


def while_training(model: Model, pruning: Pruning, schedule: Gradual, context: Context) -> Pruned:
    """Prune more and more while training, then train on."""
    assert pruning.recover is not None
    steps = len(cut_batches(len(context.data.split("train")), context.batch_size))
    growth = growth_of(schedule, pruning.sparsity, pruning.recover.epochs * steps)
    held = held_masks(model.state, tuple(pruning.selector.shapes))
    bound: list[GradualMasks] = []

    def constrain(module: nn.Module) -> GradualMasks:
        bound.append(GradualMasks(module, pruning.selector, growth, held))
        return bound[-1]

    fit = fit_with_teachers(model, pruning.recover, context, "recover", constrain=constrain)
    masks = {name: mask.cpu() for name, mask in bound[-1].masks.items()}
    facts = {**fit.facts(), "masks_until_update": growth.last}
    return Pruned(with_masks(fit.model, masks), facts)


def pruned_to(model: Model, selector: Selector, share: float, context: Context) -> Model:
    """Return a copy in which this share of the weights is zero."""
    names = tuple(selector.shapes)
    weights = {name: model.module.get_parameter(name) for name in names}
    with borrowed_threads(context.compute.threads):
        return with_masks(model, selector.masks(weights, held_masks(model.state, names), share))


def rewound(model: Model, earlier: Model, about: object) -> Model:
    """Return a copy with the numbers of an earlier model where the masks let them be.

    Raises StageError if it is of another structure.
    """
    here, there = model.module.state_dict(), earlier.module.state_dict()
    differing = [name for name in here if name not in there or there[name].shape != here[name].shape]
    if differing or here.keys() != there.keys():
        name = differing[0] if differing else next(iter(there.keys() - here.keys()))
        raise StageError(
            f"the model to rewind to has another structure: {name} is not in both with one shape", about=about
        )
    result = model.copy()
    result.module.load_state_dict(there)
    ZeroedWeights(result.module, result.state).apply()
    return result


Run = Callable[[Model, Pruning, Any, Context], Pruned]
SCHEDULES: Mapping[str, Run] = {"one_shot": at_once, "iterative": in_rounds, "gradual": while_training}
