"""Train networks that learn from each other, and choose the best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from mcomp.data.contract import Batch
from mcomp.errors import StageError
from mcomp.measure.size import parameter_count
from mcomp.model.model import Model
from mcomp.stage import Context
from mcomp.training.config import Training
from mcomp.training.device import chosen_device
from mcomp.training.loop import Fit, fit, num_updates
from mcomp_stages.methods.distillation.branches import Branched, branch_paths
from mcomp_stages.methods.distillation.fresh import beside, fresh, require_as_built
from mcomp_stages.methods.distillation.mutual import (
    TEACHERS,
    followed_distance,
    gated_sum,
    mutual_distance,
)
from mcomp_stages.methods.distillation.online_config import Branches, Collaborative, Mutual
from mcomp_stages.methods.distillation.outputs import require_labels
from mcomp_stages.methods.distillation.peers import Peers, rank
from mcomp_stages.methods.distillation.proposals import called_once


@dataclass
class Class:
    """Networks that learn together: the student, and `others` that are trained beside it."""

    model: Model
    method: Mutual | Collaborative | Branches
    others: Sequence[Model]
    training: Training
    context: Context
    peers: Peers | None = field(default=None)

    def trained(self) -> Fit:
        """Return the student as it was trained beside the others."""
        self.require_fit()
        loss = LOSSES[self.method.type]
        return fit(
            self.model,
            self.training,
            self.context,
            label="peers",
            loss=lambda batch, given: loss(self.method, self.context, batch, given),
            beside=self.together,
        )

    def require_fit(self) -> None:
        """Raise StageError if the outputs are no classes, or not the same, or there are no labels."""
        example = self.context.example
        shapes = [called_once(each.module, example).shape for each in (self.model, *self.others)]
        if len(shapes[0]) != 2 or len(set(shapes)) > 1:
            told = ", ".join(str(tuple(shape[1:])) for shape in shapes)
            raise StageError(f"peers must give the same classes; they give {told} for a sample")
        target = self.context.data.split("train").batch(torch.arange(2)).target
        require_labels(self.method, target, self.method.type)

    def together(self, student: nn.Module) -> Peers:
        """Return the student beside its peers."""
        device = chosen_device(self.context.compute)
        others = [other.module.to(device) for other in self.others]
        updates = num_updates(self.training, self.context)
        if isinstance(self.method, Branches):
            own = branch_paths(student, self.method.branch)
            self.peers = Branched(student, own, others, self.context.example.to(device), updates)
        else:
            self.peers = Peers(student, others, updates)
        return self.peers

    def best(self, result: Fit, names: Sequence[str], keep: str) -> tuple[Model, dict[str, Any]]:
        """Return the model that goes on, and what the report says of all of them."""
        assert self.peers is not None
        self.peers.cpu()
        validation, task = self.context.data.split("validation"), self.context.task
        models = [self.model_of(number, result) for number in range(len(names))]
        quality = [Peers(model.module, [], 1).eval() for model in models]
        reached = [each.each_evaluated(each, validation, task, torch.device("cpu"))[0] for each in quality]
        places = range(len(models))
        chosen = 0 if keep == "first" else max(places, key=lambda each: rank(reached[each], task))
        told = {
            name: {
                "validation": evaluation.metric,
                "loss": evaluation.loss,
                "parameters": parameter_count(model.module),
            }
            for name, evaluation, model in zip(names, reached, models, strict=True)
        }
        return models[chosen], {"peers": told, "chosen": names[chosen]}

    def model_of(self, number: int, result: Fit) -> Model:
        """Return a peer as a model of its own."""
        assert self.peers is not None
        if number == 0:
            return result.model
        if isinstance(self.peers, Branched):
            made = result.model.copy()
            made.module.load_state_dict(self.peers.chosen(number), strict=False)
            return made
        return replace(self.others[number - 1], module=self.peers.others[number - 1].eval())


def labels(context: Context, batch: Batch, outputs: Sequence[Tensor]) -> Tensor:
    """Return the sum of the peers' own losses."""
    return torch.stack([context.task.loss(output, batch.target) for output in outputs]).sum()


def mutual_loss(config: Mutual, context: Context, batch: Batch, outputs: list[Tensor]) -> Tensor:
    """Return the labels' loss and the distances among the peers."""
    return labels(context, batch, outputs) + config.weight * mutual_distance(outputs, config.temperature)


def collaborative_loss(
    config: Collaborative, context: Context, batch: Batch, outputs: list[Tensor]
) -> Tensor:
    """Return the labels' loss and the distance of all peers from the teacher made of them."""
    teacher = TEACHERS[config.teacher](torch.stack(outputs).detach(), batch.target)
    distance = followed_distance(outputs, teacher, config.temperature)
    return labels(context, batch, outputs) + config.weight * distance


def branches_loss(
    config: Branches, context: Context, batch: Batch, given: tuple[list[Tensor], Tensor]
) -> Tensor:
    """Return the losses of the branches and of their gated sum, and the branches' distance from it."""
    outputs, gates_NK = given
    teacher = gated_sum(outputs, gates_NK)
    distance = followed_distance(outputs, teacher, config.temperature)
    return labels(context, batch, [*outputs, teacher]) + config.weight * distance


LOSSES: dict[str, Callable[[Any, Context, Batch, Any], Tensor]] = {
    "dml": mutual_loss,
    "kdcl": collaborative_loss,
    "one": branches_loss,
}


def learn_together(
    model: Model,
    method: Mutual | Collaborative | Branches,
    num_peers: int,
    architectures: Sequence[Mapping[str, Any]],
    training: Training,
    context: Context,
    keep: str,
) -> tuple[Model, dict[str, Any]]:
    """Return the network that goes on, and facts about all of them. Raises StageError."""
    require_as_built(model, method.type)
    said = architectures or [{}] * (num_peers - 1)
    specs = [beside(model.spec, each) for each in said]
    others = [fresh(spec, context.seed, f"peer {number}") for number, spec in enumerate(specs, start=1)]
    names = [f"{number} {spec.type}" for number, spec in enumerate([model.spec, *specs])]
    together = Class(model, method, others, training, context)
    result = together.trained()
    chosen, facts = together.best(result, names, keep)
    return chosen, {**result.facts(), **facts}
