"""Training that follows teachers, or only the labels if there are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from mcomp.data.contract import Batch
from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp.recipe.schema import RecipeRef
from mcomp.stage import Context
from mcomp.training.constraints import Constrain
from mcomp.training.device import chosen_device
from mcomp.training.loop import Fit, Prepare, fit, num_updates
from mcomp.training.optimizers import OwnRates
from mcomp_stages.methods.distillation.config import DistilledTraining
from mcomp_stages.methods.distillation.ensemble import WEIGHTS
from mcomp_stages.methods.distillation.links import Link, paths
from mcomp_stages.methods.distillation.outputs import output_distance, require_classes, require_labels
from mcomp_stages.methods.distillation.proposals import called_once, example_features, proposed_taps
from mcomp_stages.methods.distillation.schedule import value_at
from mcomp_stages.methods.distillation.taught import Taught
from mcomp_stages.methods.distillation.teachers import OUTPUT, Answer, LiveTeacher, Teacher, ready
from mcomp_stages.methods.distillation.terms import FeatureTerm, FeatureTerms, OutputTerm, OutputTerms, Tap

NOTHING = 1e-9


def fit_with_teachers(
    model: Model,
    training: DistilledTraining,
    context: Context,
    label: str,
    *,
    own_rates: OwnRates | None = None,
    prepare: Prepare | None = None,
    constrain: Constrain | None = None,
) -> Fit:
    """Return a trained copy of `model` (see `mcomp.training.loop.fit`), distilled if there are teachers.

    Raises StageError before training if teachers do not fit the student, the terms or the data.
    """
    task = context.task
    train = partial(
        fit,
        model,
        training,
        context,
        label=label,
        own_rates=own_rates,
        prepare=prepare,
        constrain=constrain,
    )
    if not training.teachers:
        return train(loss=lambda batch, output: task.loss(output, batch.target))
    lesson = Lesson(training, context, label)
    return replace(train(loss=lesson.loss, beside=lesson.beside), notes={"distillation": lesson.notes})


@dataclass
class Lesson:
    """What one student is taught: its teachers, ready to answer, and the loss that follows from them.

    `label` is that of the training.
    """

    training: DistilledTraining
    context: Context
    label: str
    teachers: list[Teacher] = field(default_factory=list)
    taught: Taught | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def output_terms(self) -> list[OutputTerms]:
        """The terms that compare outputs."""
        return [term for term in self.training.loss if isinstance(term, OutputTerm)]

    @property
    def feature_terms(self) -> list[FeatureTerms]:
        """The terms that compare features."""
        return [term for term in self.training.loss if isinstance(term, FeatureTerm)]

    def beside(self, student: nn.Module) -> Taught:
        """Return the student with what it learns through; the teachers are asked what can be asked before."""
        device = chosen_device(self.context.compute)
        modules = [teacher_module(reference, self.context, device) for reference in self.training.teachers]
        self.require_fit(student, modules)
        links = self.links(student, modules)
        self.taught = Taught(student, num_updates(self.training, self.context), links)
        self.teachers = [
            self.ready(number, LiveTeacher(module, tapped(links, number), self.context.compute, device))
            for number, module in enumerate(modules)
        ]
        self.taught.links.to(device)
        return self.taught

    def require_fit(self, student: nn.Module, modules: Sequence[nn.Module]) -> None:
        """Raise StageError if outputs, terms and targets do not go together."""
        example = self.context.example.to(chosen_device(self.context.compute))
        output = called_once(student, example)
        target = self.context.data.split("train").batch(torch.arange(2)).target
        for reference, module in zip(self.training.teachers, modules, strict=True):
            if self.output_terms:
                require_shape(called_once(module, example).shape, output.shape, reference)
        for term in self.output_terms:
            require_classes(term, output)
            if term.type == "dkd":
                require_labels(term, target, "dkd")
        if self.training.ensemble.type == "confidence":
            require_labels(self.training.ensemble, target, "confidence")

    def links(self, student: nn.Module, modules: Sequence[nn.Module]) -> list[Link]:
        """Return a link for each term about features and each of its pairs of places."""
        found = []
        example = self.context.example.to(chosen_device(self.context.compute))
        for term in self.feature_terms:
            teacher = modules[term.of]
            for tap in term.taps or proposed_taps(student, teacher, example):
                ours, theirs = paths(term, tap)
                link = Link(
                    term,
                    tap,
                    example_features(student, ours, example),
                    example_features(teacher, theirs, example),
                )
                self.note_tap(term, tap, link)
                found.append(link)
        return found

    def note_tap(self, term: FeatureTerms, tap: Tap, link: Link) -> None:
        """Note for the report what a term compares, and through how many weights of an adapter."""
        weights = sum(each.numel() for each in link.adapter.parameters())
        through = f", adapter of {weights} weights" if weights else ""
        self.notes.setdefault("taps", []).append(f"{term.type}: {tap.student} from {tap.teacher}{through}")

    def ready(self, number: int, live: LiveTeacher) -> Teacher:
        """Return a teacher that answers as cheaply as it can; say so if that is for each batch."""
        reference = self.training.teachers[number]
        label = f"{self.label}-teacher-{number}"
        teacher, reason = ready(live, reference, self.context, self.training.cache_bytes, label)
        self.notes.setdefault("teachers_asked", []).append(f"each batch: {reason}" if reason else "once")
        if reason:
            self.context.reporter.log(f"{reference.recipe} is asked for each batch: {reason}")
        return teacher

    def loss(self, batch: Batch, given: tuple[Tensor, dict[str, Tensor]]) -> Tensor:
        """Return the loss of what the taught student gave."""
        assert self.taught is not None
        output, features = given
        answers = [teacher(batch) for teacher in self.teachers]
        parts = [*self.of_outputs(batch, output, answers), *self.of_features(batch, features, answers)]
        share = self.label_weight(self.taught.progress)
        if share > NOTHING:
            parts.append(share * self.context.task.loss(output, batch.target))
        return torch.stack(parts).sum()

    def of_outputs(self, batch: Batch, output: Tensor, answers: Sequence[Answer]) -> list[Tensor]:
        """Return the weighted terms about outputs."""
        assert self.taught is not None
        if not self.output_terms:
            return []
        outputs = [answer[OUTPUT] for answer in answers]
        progress = self.taught.progress
        found = []
        for term in self.output_terms:
            distances = [
                output_distance(term, output, teacher, batch.target, progress) for teacher in outputs
            ]
            distance_N = (
                distances[0] if len(outputs) == 1 else self.weighted(distances, outputs, batch.target)
            )
            found.append(value_at(term.weight, progress) * distance_N.mean())
        return found

    def weighted(self, distances: list[Tensor], outputs: list[Tensor], target: Tensor) -> Tensor:
        """Return the distances of a student from several teachers, weighed sample by sample, (N,)."""
        ensemble = self.training.ensemble
        weights_TN = WEIGHTS[ensemble.type](ensemble, torch.stack(outputs), target)
        return (weights_TN * torch.stack(distances)).sum(dim=0)

    def of_features(
        self, batch: Batch, features: dict[str, Tensor], answers: Sequence[Answer]
    ) -> list[Tensor]:
        """Return the weighted terms about features; several pairs of places of a term are averaged."""
        assert self.taught is not None
        found = []
        for term in self.feature_terms:
            links = [cast(Link, link) for link in self.taught.links if cast(Link, link).config is term]
            distances = [link(features, answers[term.of], batch) for link in links]
            weight = value_at(term.weight, self.taught.progress)
            found.append(weight * torch.stack(distances).mean())
        return found

    def label_weight(self, progress: float) -> float:
        """Return the weight of the task's own loss: what is said, or what the output terms leave of 1."""
        if self.training.labels is not None:
            return self.training.labels
        return 1 - sum(value_at(term.weight, progress) for term in self.output_terms)


def tapped(links: Sequence[Link], number: int) -> list[str]:
    """Return where the links tap one of the teachers."""
    return [path for link in links if link.config.of == number for path in link.teacher_paths]


def teacher_module(reference: RecipeRef, context: Context, device: torch.device) -> nn.Module:
    """Return what serves a teacher, on `device`, with nothing shared. Raises StageError if it has no room."""
    model = context.models[reference].copy()
    try:
        return model.inference_module(context.example).to(device)
    except torch.OutOfMemoryError as error:
        size = sum(each.numel() * each.element_size() for each in model.module.state_dict().values())
        what = f"the teacher {reference.recipe} takes {size / 1e9:.2f} GB, for which {device} has no room"
        raise StageError(f"{what} ({error})", about=reference) from error


def require_shape(teacher: torch.Size, student: torch.Size, reference: RecipeRef) -> None:
    """Raise StageError if a teacher does not answer the student's question."""
    if teacher != student:
        raise StageError(
            f"the teacher {reference.recipe} gives {tuple(teacher[1:])} for a sample, the student "
            f"{tuple(student[1:])}; they must have the same classes",
            about=reference,
        )
