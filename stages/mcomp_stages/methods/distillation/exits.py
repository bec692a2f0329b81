"""Heads inside a network that follow its last layer (Be Your Own Teacher)."""

# N = samples, C = classes
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from mcomp.data.contract import Batch
from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp.model.select import select_modules
from mcomp.stage import Context
from mcomp.training.companions import Companions
from mcomp.training.config import Training
from mcomp.training.device import borrowed_generators, device_of
from mcomp.training.loop import Fit, fit, num_updates
from mcomp_stages.methods.distillation.adapters import (
    Shape,
    pooled,
    projection,
    require_adaptable,
    same_places,
    shape_of,
    width,
)
from mcomp_stages.methods.distillation.early_exit import ended, ending_at, require_same
from mcomp_stages.methods.distillation.losses import kd
from mcomp_stages.methods.distillation.outputs import require_labels
from mcomp_stages.methods.distillation.proposals import (
    blocks,
    called_once,
    example_features,
    feature_shapes,
    last_by_size,
)
from mcomp_stages.methods.distillation.self_config import OwnTeacher
from mcomp_stages.methods.distillation.taps import Taps


class Exit(nn.Module):
    """Brings early features to the shape of the last ones, and classifies them."""

    def __init__(self, early: Shape, last: Shape, num_classes: int) -> None:
        super().__init__()
        require_adaptable(early, last)
        self.bottleneck = nn.Sequential(projection(early, last), nn.ReLU())
        self.classifier = nn.Linear(width(last), num_classes)

    def forward(self, early: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, C), and the mean squared difference from the last features, a scalar."""
        early, last = same_places(early, last.detach())
        features = self.bottleneck(early)
        return self.classifier(pooled(features)), (features - last).square().mean()


class WithExits(Companions):
    """A student with heads behind some of its modules. While training all of them answer."""

    def __init__(
        self,
        student: nn.Module,
        paths: Sequence[str],
        example: Mapping[str, Tensor],
        num_updates: int,
        keep: str | None = None,
    ) -> None:
        """`paths` are in order; the last one gives the features that the heads behind the others follow.

        In inference the head behind `keep` answers, or the student without one.
        """
        super().__init__(student, num_updates)
        self.paths, self.keep = tuple(paths), keep
        found = example_features(student, self.paths, example)
        num_classes = called_once(student, example).shape[1]
        last = shape_of(found[self.paths[-1]])
        self.exits = nn.ModuleList(
            Exit(shape_of(found[path]), last, num_classes) for path in self.paths[:-1]
        ).to(device_of(student))
        self.taps = Taps(student, self.paths)

    def forward(self, **inputs: Tensor) -> Any:
        """Return the student's output and, while training, what each head gives."""
        output = super().forward(**inputs)
        if not self.training and self.keep is None:
            return output
        found = self.taps.features()
        last = found[self.paths[-1]]
        if not self.training and self.keep is not None:
            return self.exit(self.keep)(found[self.keep], last)[0]
        return output, [self.exit(path)(found[path], last) for path in self.paths[:-1]]

    def exit(self, path: str) -> Exit:
        """Return the head behind a module."""
        return cast(Exit, self.exits[self.paths.index(path)])

    def ended(self, model: Model, path: str, example: Mapping[str, Tensor]) -> Model:
        """Return the model that ends at the head behind `path`. Raises StageError if it cannot."""
        edit, head = ending_at(model.module, path, self.paths[-1], example), self.exit(path)
        return ended(model, edit, head.bottleneck, head.classifier)

    def release(self) -> None:
        self.taps.remove()


@dataclass(frozen=True)
class OwnTeaching:
    """The loss of a network whose heads follow its own output."""

    config: OwnTeacher
    context: Context

    def __call__(self, batch: Batch, given: tuple[Tensor, list[tuple[Tensor, Tensor]]]) -> Tensor:
        """Return the loss of the student and of all heads (equations 4 to 6)."""
        output, heads = given
        loss = self.context.task.loss
        parts = [loss(output, batch.target)]
        for logits, difference in heads:
            distance = kd(logits, output.detach(), self.config.temperature).mean()
            labels = loss(logits, batch.target)
            parts.append((1 - self.config.weight) * labels + self.config.weight * distance)
            parts.append(self.config.hint * difference)
        return torch.stack(parts).sum()


def fit_with_exits(model: Model, config: OwnTeacher, training: Training, context: Context) -> Fit:
    """Return the student as it was trained with heads, which are gone. Raises StageError."""
    require_labels(config, context.data.split("train").batch(torch.arange(2)).target, "byot")
    paths = exit_paths(model.module, config, context)

    keep = kept_path(model, config, paths)
    require_can_end(model, paths, keep, context.example)
    made: list[WithExits] = []

    def beside(student: nn.Module) -> WithExits:
        example = context.example.to(device_of(student))
        made.append(WithExits(student, paths, example, num_updates(training, context), keep))
        return made[0]

    result = fit(model, training, context, label="byot", loss=OwnTeaching(config, context), beside=beside)
    goes_on = made[0].cpu().ended(result.model, keep, context.example) if keep else result.model
    facts = {"heads": list(paths[:-1]), "last": paths[-1], **({"kept": keep} if keep else {})}
    return Fit(goes_on, result.history, result.kept, facts)


def kept_path(model: Model, config: OwnTeacher, paths: Sequence[str]) -> str | None:
    """Return the module behind which the network will end, if any. Raises StageError if no head is there."""
    if config.keep is None:
        return None
    (path, *more) = select_modules(model.module, [config.keep])
    if more or path not in paths[:-1]:
        raise StageError(
            f"byot: keep: {config.keep}: no single head is there; they are behind {', '.join(paths[:-1])}",
            about=config.keep,
        )
    return path


def require_can_end(
    model: Model, paths: Sequence[str], keep: str | None, example: Mapping[str, Tensor]
) -> None:
    """Raise StageError unless the model that ends at a fresh head says what that head says."""
    if keep is None:
        return
    with borrowed_generators(0):
        heads = WithExits(model.copy().module, paths, example, num_updates=1, keep=keep).eval()
    said = called_once(heads, example)
    heads.release()
    require_same(heads.ended(model, keep, example), said, keep, example)


def exit_paths(module: nn.Module, config: OwnTeacher, context: Context) -> tuple[str, ...]:
    """Return where heads stand, and at the end the place that they follow. Raises StageError."""
    shapes = feature_shapes(module, context.example)
    proposed = blocks(shapes) or list(last_by_size(shapes).values())
    if not proposed:
        raise StageError("byot: the model has no features that a head could stand behind")
    last = proposed[-1]
    said = select_modules(module, config.heads) if config.heads else tuple(proposed[:-1])
    paths = tuple(path for path in said if path != last)
    if not paths:
        raise StageError(
            f"byot: there is no head before {last}, whose features all others follow; say `heads`"
        )
    return (*paths, last)
