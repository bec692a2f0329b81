"""Layers made sparse one by one, for `mcomp sensitivity`, and the layers to skip that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp.sensitivity.trials import Levels, Patch, Trial, Trials
from mcomp_stages.methods.sparsity.config import Pattern

Sparse = Callable[[str, float], Model]
"""Gives the model with the layer at a path sparse, by a share of zeros."""

CLOSE = 1e-6  # a share that is typed is not exactly a quotient


def sparsity_trials(
    model: Model,
    paths: Sequence[str],
    sparse: Sparse,
    own: float,
    skip: Sequence[str] = (),
    levels: Sequence[float] = (),
) -> Trials:
    """Return the trials of a stage that sets `own` as the share of zeros of each layer.

    `levels` are other shares; the stage's own is always tried, for the patch is about it. Raises StageError
    for shares that are none.
    """
    wrong = [level for level in levels if not 0 < level < 1]
    if wrong:
        raise StageError(f"a share of zeros lies between 0 and 1, not {wrong[0]:g}")
    trials = [
        Trial(path, share, partial(module_of, sparse, path, share))
        for path in paths
        for share in sorted({own, *levels})
    ]
    return Trials(model.copy().module.eval(), tuple(trials), partial(skip_patch, own, tuple(skip)))


@contextmanager
def module_of(sparse: Sparse, path: str, share: float) -> Iterator[nn.Module]:
    """Give a sparse model's module in inference mode."""
    yield sparse(path, share).module.eval()


def pattern_of(pattern: Pattern, share: float) -> Pattern:
    """Return the pattern of as many neighbours that has a share of zeros. Raises StageError if none has."""
    zeros = share * pattern.of
    if abs(zeros - round(zeros)) > CLOSE * pattern.of or not 0 < round(zeros) < pattern.of:
        raise StageError(f"of {pattern.of} neighbours no whole number is {share:g}; try 1/{pattern.of} or so")
    return pattern.model_copy(update={"keep": pattern.of - round(zeros)})


def skip_patch(own: float, skip: tuple[str, ...], levels: Levels) -> Patch:
    """Return the layers to skip: those that do not bear the stage's own share of zeros."""
    over = [path for path, share in levels.items() if share is None or share < own]
    if not over:
        return Patch(said=f"every layer bears {own:.0%} zeros alone: nothing to change")
    if len(over) == len(levels):
        return Patch(said=f"no layer bears {own:.0%} zeros alone: ask for fewer, or train what stays")
    fields: dict[str, Any] = {"skip": [*skip, *over]}
    return Patch(fields, f"{len(over)} of {len(levels)} layers do not bear {own:.0%} zeros: they are skipped")
