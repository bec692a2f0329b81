"""A stage with three parts that can be changed alone, and how often each was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import nn

from mcomp import plugins
from mcomp.model.model import Model
from mcomp.sensitivity.trials import Levels, Patch, Trial, Trials
from mcomp.stage import Context, Form, StageConfig, StageResult

RECIPE = """\
version: 1
name: toy
model: {type: toy.net}
data: {type: toy.points}
pipeline: [fit, shift, export]
stages:
  fit: {type: toy.fit, by: 1.0}
  shift: {type: toy.shift}
  export: {type: toy.export}
require: {size_ratio: {min: 9}}
"""


@plugins.stage("toy.shift")
class ToyShift(StageConfig):
    """Adds a number to the bias of each class that is named."""

    forms = {Form.FLOAT: Form.FLOAT}
    varies = "shift"
    type: Literal["toy.shift"] = "toy.shift"
    classes: tuple[int, ...] = (0, 1, 2)
    measured: ClassVar[list[tuple[str, float]]] = []
    stops_at: ClassVar[int | None] = None

    def run(self, model: Model, context: Context) -> StageResult:
        raise AssertionError("sensitivity does not run the stage")

    def trials(self, model: Model, context: Context, levels: tuple[float, ...]) -> Trials:
        trials = [
            Trial(f"class {number}", level, partial(self.shifted, model, number, level))
            for number in self.classes
            for level in levels or (0.0, 100.0)
        ]
        return Trials(model.module.eval(), tuple(trials), self.patch)

    @contextmanager
    def shifted(self, model: Model, number: int, level: float) -> Iterator[nn.Module]:
        if len(self.measured) == self.stops_at:
            raise KeyboardInterrupt
        changed = model.copy().module.eval()
        with torch.no_grad():
            changed.fc.bias[number] += level
        yield changed
        self.measured.append((f"class {number}", level))

    def patch(self, levels: Levels) -> Patch:
        kept = [int(part.split()[1]) for part, level in levels.items() if level]
        return Patch({"classes": kept} if kept else {}, f"{len(kept)} classes bear it")
