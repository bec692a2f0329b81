"""Where a test keeps what a step has done, and updates that are stopped."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from safetensors.torch import load
from safetensors.torch import save as saved

from mcomp.data.contract import Batch
from mcomp.fingerprint import canonical
from mcomp.signals import raising
from mcomp.stage import Checkpoint, require_label
from mcomp.training import loop
from mcomp.training.update import Update


@dataclass
class Memory:
    """Checkpoints that went through bytes: all of them, by label, oldest first."""

    kept: dict[str, list[tuple[bytes, str]]] = field(default_factory=dict)

    def load(self, label: str) -> Checkpoint | None:
        require_label(label)
        if label not in self.kept:
            return None
        tensors, numbers = self.kept[label][-1]
        return Checkpoint(load(tensors), json.loads(numbers))

    def save(self, label: str, checkpoint: Checkpoint) -> None:
        copies = {name: tensor.detach().contiguous().clone() for name, tensor in checkpoint.tensors.items()}
        numbers = canonical(dict(checkpoint.numbers)).decode()
        self.kept.setdefault(label, []).append((saved(copies), numbers))

    def forget(self, label: str) -> None:
        self.kept.pop(label, None)


def terminated_in(owner: type, name: str, call: int, run: Callable[[], Any]) -> Any:
    """Return what `run` gives, or None if SIGTERM in one call of a method ends it."""
    method, numbers = getattr(owner, name), iter(range(1_000_000))

    def stopped(self: Any, *arguments: Any) -> Any:
        if next(numbers) == call:
            terminate()
        return method(self, *arguments)

    with pytest.MonkeyPatch.context() as patch, raising():
        patch.setattr(owner, name, stopped)
        try:
            return run()
        except KeyboardInterrupt:
            return None


class Crash(Exception):
    """Something that no training expects."""


def crash() -> None:
    raise Crash


def terminate() -> None:
    signal.raise_signal(signal.SIGTERM)


def interrupted_at(
    update: int, do: Callable[[], None], run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Return what `run` gives, or None if what is done within one of its updates ends it."""
    numbers = iter(range(1_000_000))

    class Stopped(Update):
        def __call__(self, batch: Batch, where: str) -> float:
            if next(numbers) == update:
                do()
            return super().__call__(batch, where)

    with monkeypatch.context() as patch, raising():
        patch.setattr(loop, "Update", Stopped)
        try:
            return run()
        except (KeyboardInterrupt, Crash):
            return None
