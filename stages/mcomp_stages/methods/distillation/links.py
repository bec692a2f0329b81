"""A term of the loss at one pair of places: what it taps, what it adapts, and what distance it takes."""

# N = samples, C = channels, P = places
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mcomp.data.contract import Batch
from mcomp.errors import StageError
from mcomp_stages.methods.distillation import features
from mcomp_stages.methods.distillation.adapters import (
    Adapter,
    Embedding,
    Shape,
    pooled,
    same_places,
    shape_of,
)
from mcomp_stages.methods.distillation.relations import relation_divergence, token_relations
from mcomp_stages.methods.distillation.terms import FeatureTerms, Projections, Relations, Tap

Features = Mapping[str, Tensor]


class Link(nn.Module):
    """One term at one pair of places. Its adapter is trained with the student."""

    def __init__(self, config: FeatureTerms, tap: Tap, student: Features, teacher: Features) -> None:
        """`student` and `teacher` are features of an example.

        Raises StageError for those that cannot be compared.
        """
        super().__init__()
        self.config, self.tap = config, tap
        self.student_paths, self.teacher_paths = paths(config, tap)
        try:
            self.adapter = ADAPTERS[config.type](
                config, self.chosen(student, self.student_paths), self.chosen(teacher, self.teacher_paths)
            )
        except StageError as error:
            raise StageError(
                f"{config.type}: {tap.student} and {tap.teacher}: {error.what}", about=tap
            ) from error

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """Return the distance, a scalar."""
        ours, theirs = (
            self.chosen(student, self.student_paths),
            self.chosen(teacher, self.teacher_paths),
        )
        return DISTANCES[self.config.type](self.config, self.adapter, ours, theirs, batch)

    def chosen(self, found: Features, names: tuple[str, ...]) -> list[Tensor]:
        """Return the features that this term is about, in order."""
        return [found[name] for name in names]


def paths(config: FeatureTerms, tap: Tap) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what a term taps in the student and in the teacher."""
    if not isinstance(config, Relations):
        return (tap.student,), (tap.teacher,)
    return projections(tap.student, config.student), projections(tap.teacher, config.teacher)


def projections(attention: str, names: Projections) -> tuple[str, ...]:
    """Return the paths of the queries, keys and values of an attention."""
    return tuple(f"{attention}.{name}" for name in (names.q, names.k, names.v))


# Adapters: (config, student's features, teacher's features) -> module


def adapter(config: Any, student: list[Tensor], teacher: list[Tensor]) -> nn.Module:
    """Return what brings the student's features to the teacher's shape."""
    return Adapter(shape_of(student[0]), shape_of(teacher[0]))


def token_adapter(config: Any, student: list[Tensor], teacher: list[Tensor]) -> nn.Module:
    """Return the same for hidden states: of every token, so the tokens must be the same."""
    require_tokens(shape_of(student[0]), shape_of(teacher[0]))
    return adapter(config, student, teacher)


def embedding(config: Any, student: list[Tensor], teacher: list[Tensor]) -> nn.Module:
    """Return what brings both to vectors of one width."""
    return Embedding(shape_of(student[0]), shape_of(teacher[0]), config.dimensions)


def maps_only(config: Any, student: list[Tensor], teacher: list[Tensor]) -> nn.Module:
    """Return nothing to train for features that have places."""
    for who, found in (("student", student), ("teacher", teacher)):
        if found[0].ndim not in (3, 4):
            raise StageError(f"the {who} gives {shape_of(found[0])} for a sample: no places to attend to")
    return nn.Identity()


def batch_only(config: Any, student: list[Tensor], teacher: list[Tensor]) -> nn.Module:
    """Return nothing to train: what is compared are relations among samples, of any shape."""
    return nn.Identity()


def heads_fit(config: Any, student: list[Tensor], teacher: list[Tensor]) -> nn.Module:
    """Return nothing to train for tokens whose width the heads divide."""
    for ours, theirs in zip(student, teacher, strict=True):
        require_tokens(shape_of(ours), shape_of(theirs))
        for found in (ours, theirs):
            if found.shape[2] % config.heads:
                raise StageError(f"a width of {found.shape[2]} does not part into {config.heads} heads")
    return nn.Identity()


def require_tokens(student: Shape, teacher: Shape) -> None:
    """Raise StageError unless both are features of the same tokens."""
    if len(student) != 2 or len(teacher) != 2 or student[0] != teacher[0]:
        raise StageError(
            f"the student gives {student} for a sample, the teacher {teacher}: not the same tokens (L, D); "
            "name other places in taps, or take fitnet, which fits maps and lengths to each other"
        )


# Distances: (config, adapter, student's features, teacher's features, batch) -> scalar


def fitnet(
    config: Any, adapter: nn.Module, student: list[Tensor], teacher: list[Tensor], batch: Batch
) -> Tensor:
    return features.squared_difference(*adapter(student[0], teacher[0]))


def hidden(
    config: Any, adapter: nn.Module, student: list[Tensor], teacher: list[Tensor], batch: Batch
) -> Tensor:
    ours, theirs = adapter(student[0], teacher[0])
    return features.squared_difference(ours, theirs, batch.inputs.get(config.mask))


def at(config: Any, adapter: nn.Module, student: list[Tensor], teacher: list[Tensor], batch: Batch) -> Tensor:
    ours, theirs = same_places(student[0], teacher[0])
    return features.attention_distance(channels_first(ours), channels_first(theirs))


def sp(config: Any, adapter: nn.Module, student: list[Tensor], teacher: list[Tensor], batch: Batch) -> Tensor:
    return features.similarity_distance(student[0], teacher[0])


def rkd(
    config: Any, adapter: nn.Module, student: list[Tensor], teacher: list[Tensor], batch: Batch
) -> Tensor:
    ours, theirs = pooled(student[0]), pooled(teacher[0])
    return features.relation_distance(ours, theirs, config.distance, config.angle)


def crd(
    config: Any, adapter: nn.Module, student: list[Tensor], teacher: list[Tensor], batch: Batch
) -> Tensor:
    ours, theirs = adapter(student[0], teacher[0])
    others = is_other(batch, len(ours)).to(ours.device)
    return features.contrastive_distance(ours, theirs, others, config.temperature)


def relations(
    config: Any, adapter: nn.Module, student: list[Tensor], teacher: list[Tensor], batch: Batch
) -> Tensor:
    mask_NL = batch.inputs.get(config.mask)
    place = {"q": 0, "k": 1, "v": 2}
    terms = []
    for left, right in config.relations:
        ours, theirs = (
            token_relations(each[place[left]], each[place[right]], config.heads, mask_NL)
            for each in (student, teacher)
        )
        terms.append(relation_divergence(ours, theirs, mask_NL))
    return torch.stack(terms).sum()


def channels_first(features: Tensor) -> Tensor:
    """Return features (N, C, places); tokens have their channels last."""
    return features.transpose(1, 2) if features.ndim == 3 else features


def is_other(batch: Batch, num_samples: int) -> Tensor:
    """Return which pairs are of different classes, or of different samples where there are no classes."""
    target = batch.target
    if target.ndim == 1 and not target.is_floating_point():
        return target[:, None] != target[None]
    return ~torch.eye(num_samples, dtype=torch.bool)


ADAPTERS: dict[str, Callable[[Any, list[Tensor], list[Tensor]], nn.Module]] = {
    "fitnet": adapter,
    "hidden": token_adapter,
    "at": maps_only,
    "sp": batch_only,
    "rkd": batch_only,
    "crd": embedding,
    "relations": heads_fit,
}
DISTANCES: dict[str, Callable[[Any, nn.Module, list[Tensor], list[Tensor], Batch], Tensor]] = {
    "fitnet": fitnet,
    "hidden": hidden,
    "at": at,
    "sp": sp,
    "rkd": rkd,
    "crd": crd,
    "relations": relations,
}
