"""A student while it learns from teachers: with taps in it, and adapters beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from mcomp.training.companions import Companions
from mcomp_stages.methods.distillation.links import Link
from mcomp_stages.methods.distillation.taps import Taps


class Taught(Companions):
    """A student and the links to its teachers. While training it gives its output and its features."""

    def __init__(self, student: nn.Module, num_updates: int, links: Sequence[Link]) -> None:
        super().__init__(student, num_updates)
        self.links = nn.ModuleList(links)
        self.taps = Taps(student, [path for link in links for path in link.student_paths])

    def forward(self, **inputs: Tensor) -> Any:
        output = super().forward(**inputs)
        if not self.training:
            return output
        return output, self.taps.features()

    def release(self) -> None:
        self.taps.remove()
