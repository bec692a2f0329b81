# O = outputs, I = inputs of one output and position, R = rows, C = columns, G = C / m
"""N:M patterns: at most n weights that are not zero in every m neighbours along one axis of a layer.

Source: Mishra et al. 2021, arXiv:2104.08378 (2:4, along the inputs).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp_stages.methods.sparsity.chosen import Chosen
from mcomp_stages.methods.sparsity.config import Axis, Pattern

AXES: dict[Axis, int] = {"output": 0, "input": 1}
SHOWN = 3


def nm_mask(score_RC: Tensor, n: int, m: int) -> Tensor:
    """Return a mask like the scores with just `n` True in every `m` neighbours of a row: the highest.

    Of equal scores the first stay. Raises ValueError if the columns are no multiple of `m`.
    """
    if score_RC.shape[-1] % m:
        raise ValueError(f"there are {score_RC.shape[-1]} columns, not a multiple of {m}")
    score_RGm = score_RC.reshape(*score_RC.shape[:-1], -1, m)
    # A stable sort, not topk: topk leaves the order of ties to the device.
    kept = score_RGm.argsort(dim=-1, descending=True, stable=True)[..., :n]
    return torch.zeros_like(score_RGm, dtype=torch.bool).scatter_(-1, kept, True).flatten(-2)


def lines(weight: Tensor, axis: Axis) -> Tensor:
    """Return a weight (O, I, ...) as rows (R, C) that run along the axis."""
    return weight.movedim(AXES[axis], -1).flatten(0, -2)


def from_lines(rows_RC: Tensor, shape: torch.Size, axis: Axis) -> Tensor:
    """Return what `lines` made rows of, in its own shape."""
    position = AXES[axis]
    moved = [size for other, size in enumerate(shape) if other != position]
    return rows_RC.view(*moved, shape[position]).movedim(-1, position)


def pattern_mask(weight: Tensor, pattern: Pattern, axis: Axis, held: Tensor | None = None) -> Tensor:
    """Return the mask of a pattern that keeps the largest weights; what `held` has as False goes first."""
    score = weight.detach().abs()
    if held is not None:
        score = score.masked_fill(~held, -1.0)
    return from_lines(nm_mask(lines(score, axis), pattern.keep, pattern.of), weight.shape, axis)


def require_divisible(chosen: Sequence[Chosen], pattern: Pattern, axis: Axis) -> None:
    """Raise StageError naming the layers whose axis cannot be parted into groups of m."""
    wrong = [each for each in chosen if each.parameter.shape[AXES[axis]] % pattern.of]
    if wrong:
        lengths = [each.parameter.shape[AXES[axis]] for each in wrong]
        sizes = [
            f"{each.path} has {length} {axis}{'s' if length > 1 else ''}"
            for each, length in zip(wrong, lengths, strict=True)
        ]
        more = f" and {len(sizes) - SHOWN} more" if len(sizes) > SHOWN else ""
        raise StageError(
            f"{', '.join(sizes[:SHOWN])}{more}: not a multiple of {pattern.of}; add them to skip, or take "
            "another axis or number"
        )


def require_pattern(model: Model, chosen: Sequence[Chosen], pattern: Pattern, axis: Axis) -> None:
    """Raise StageError naming the first layer that has too many weights in some neighbourhood."""
    for each in chosen:
        rows = lines(model.module.get_parameter(each.name), axis)
        most = int((rows != 0).reshape(len(rows), -1, pattern.of).sum(-1).max())
        if most > pattern.keep:
            raise StageError(
                f"{most} of {pattern.of} neighbours are not zero, {pattern.keep} may be", module=each.path
            )
