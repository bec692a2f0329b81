"""What teachers say about the samples of the training split: their outputs, and features at some places."""

# S = samples of the split, N = samples in a batch
from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from mcomp.data.contract import Batch, Split
from mcomp.recipe.schema import Compute, RecipeRef
from mcomp.stage import Checkpoint, Context, Unit
from mcomp.training.device import to_device
from mcomp_stages.methods.distillation.taps import Taps

BATCH_SIZE = 256
PORTION = 32 * BATCH_SIZE  # samples that a teacher is asked about again at most if the step is interrupted
OUTPUT, INDICES, FEATURE = "output", "indices", "feature:"
PRECISIONS = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}

Answer = Mapping[str, Tensor]
"""A teacher's output under OUTPUT, and its features by module path."""


class Teacher(Protocol):
    """Answers a batch."""

    def __call__(self, batch: Batch) -> Answer: ...


class LiveTeacher:
    """A module in inference mode that is asked for each batch, in the precision of the training."""

    def __init__(
        self, module: nn.Module, paths: Sequence[str], compute: Compute, device: torch.device
    ) -> None:
        self.module, self.device = module, device
        self.taps = Taps(module, paths)
        self.precision = PRECISIONS.get(compute.precision)

    def __call__(self, batch: Batch) -> Answer:
        """Return the answer without gradients, in 32 bits. `batch` is on the device."""
        with torch.no_grad(), self.autocast():
            output = self.module(**batch.inputs)
        return {OUTPUT: output.float(), **self.taps.features()}

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which the module computes."""
        if self.precision is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.precision)


@dataclass(frozen=True)
class Table:
    """Answers that were given once for every sample. `rows` (S,) has their places by ascending index."""

    answers: Mapping[str, Tensor]
    indices: Tensor
    rows: Tensor

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], device: torch.device) -> Table:
        """Return the table that `asked_once` computed, on a device."""
        ascending = tensors[INDICES].sort()
        answers = {
            name.removeprefix(FEATURE): tensor.to(device)
            for name, tensor in tensors.items()
            if name != INDICES
        }
        return cls(answers, ascending.values, ascending.indices)

    def __call__(self, batch: Batch) -> Answer:
        """Return the answers for the samples of a batch."""
        rows = self.rows[torch.searchsorted(self.indices, batch.indices)]
        return {name: tensor[rows.to(tensor.device)] for name, tensor in self.answers.items()}


def asked_once(teacher: LiveTeacher, split: Split, label: str, unit: Unit) -> Checkpoint:
    """Return a teacher's answers for every sample of a split, in its order.

    Where there are many samples, `unit` keeps portions of the answers (`mcomp.stage.Context.unit`).
    """
    portions = torch.split(torch.arange(len(split)), PORTION)
    if len(portions) == 1:
        return answers(teacher, split, portions[0])
    found = [
        unit(f"{label}-{number}", partial(answers, teacher, split, some)).tensors
        for number, some in enumerate(portions)
    ]
    return Checkpoint({name: torch.cat([each[name] for each in found]) for name in found[0]})


def answers(teacher: LiveTeacher, split: Split, positions: Tensor) -> Checkpoint:
    """Return a teacher's answers for some samples of a split."""
    found: dict[str, list[Tensor]] = {}
    for some in torch.split(positions, BATCH_SIZE):
        batch = split.batch(some)
        answer = teacher(to_device(batch, teacher.device))
        named = {OUTPUT: answer[OUTPUT], **{f"{FEATURE}{path}": answer[path] for path in teacher.taps.paths}}
        for name, value in {**named, INDICES: batch.indices}.items():
            found.setdefault(name, []).append(value.cpu())
    return Checkpoint({name: torch.cat(values) for name, values in found.items()})


def why_not_once(split: Split, answer: Answer, context: Context, limit_bytes: int) -> str:
    """Return why a teacher has to be asked for each batch, "" if once for each sample will do.

    `answer` is what it says about two samples.
    """
    if split.augmented:
        return "samples are augmented at random"
    if context.example.varying and any(value.ndim != 2 for value in answer.values()):
        return "samples differ in length"
    size = sum(value[0].numel() * value.element_size() for value in answer.values()) * len(split)
    if size > limit_bytes:
        return (
            f"its answers would take {size / 1e6:.0f} MB, more than cache_bytes ({limit_bytes / 1e6:.0f} MB)"
        )
    return ""


def ready(
    live: LiveTeacher, reference: RecipeRef, context: Context, limit_bytes: int, label: str
) -> tuple[Teacher, str]:
    """Return a teacher that answers as cheaply as it can, and why it is asked for each batch, or "".

    `label` is no other teacher's in the step.
    """
    split, example = context.data.split("train"), context.example.to(live.device)
    nobody = torch.zeros(0)
    answer = live(Batch(nobody, dict(example), nobody))
    reason = why_not_once(split, answer, context, limit_bytes)
    if reason:
        return live, reason
    what = {"kind": "teacher's answers", "split": "train", "at": list(live.taps.paths), "batch": BATCH_SIZE}
    kept = context.shared.get(what, reference, lambda: asked_once(live, split, label, context.unit))
    live.taps.remove()
    return Table.of(kept.tensors, live.device), ""
