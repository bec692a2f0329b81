"""A reporter that keeps what it is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mcomp.plan import Step
from mcomp.store.ledger import Row


class Quiet:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []
        self.steps: list[str] = []

    def step_started(self, step: Step, number: int, total: int) -> None:
        self.steps.append(f"{number}/{total} {step.label}")

    def step_ended(self, row: Row) -> None:
        self.steps.append(f"{row.stage} {row.status}")

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Any]:
        yield self

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        pass

    def log(self, message: str) -> None:
        self.said.append(message)

    def warn(self, message: str) -> None:
        self.warned.append(message)
