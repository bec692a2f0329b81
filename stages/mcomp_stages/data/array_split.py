"""Rows of arrays as batches; only the rows that are asked for leave the disk."""

# N = samples in a batch or split
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mcomp.data.contract import Batch
from mcomp.errors import Problem, RecipeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK = 4096


@dataclass(frozen=True)
class ArraySplit:
    """A split whose samples are the rows (N,) of arrays; `indices` (N,) are stable.

    `scale` says by input what its numbers are divided by.
    """

    indices: Tensor
    rows: Tensor
    inputs: Mapping[str, NDArray[Any]]
    target: NDArray[Any]
    scale: Mapping[str, float]
    augmented: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, positions: Tensor, draw: int | None = None) -> Batch:
        rows = self.rows[positions].numpy()
        inputs = {name: tensor(array[rows], self.scale.get(name)) for name, array in self.inputs.items()}
        return Batch(self.indices[positions], inputs, tensor(self.target[rows]))


def tensor(numbers: NDArray[Any], scale: float | None = None) -> Tensor:
    """Return numbers for torch: floats, and what is scaled, in 32 bits; integers in 64."""
    if scale is not None:
        return torch.from_numpy(numbers.astype(np.float32)) / scale
    kind = {"f": np.float32, "b": np.bool_}.get(numbers.dtype.kind, np.int64)
    return torch.from_numpy(np.array(numbers, dtype=kind))


def require_finite(name: str, array: NDArray[Any]) -> None:
    """Raise RecipeError for numbers that are not finite in 32 bits; names the first row that has one."""
    if array.dtype.kind != "f":
        return
    for start in range(0, len(array), CHUNK):
        with np.errstate(over="ignore"):
            rows = array[start : start + CHUNK].astype(np.float32)
        finite = np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            what = f"{name} holds a number that is not finite, first in row {row}"
            raise RecipeError(Problem("", "path", what, "remove the sample, or replace the number"))
