"""Hold figures that were taken on a device against the bounds of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

from mcomp import plainfile
from mcomp.bench.record import Bench, BenchedFile, Timing
from mcomp.errors import RecipeError
from mcomp.recipe.build import load_recipe
from mcomp.recipe.schema import Bound, TimedBound
from mcomp.report.summary import verdict
from mcomp.require import bounds, within
from mcomp.store.ledger import Requirement

LIMIT_BYTES = 16 * 2**20

# What a device can tell: of a file's bytes and the first's, or of one timing.
SIZES: dict[str, Callable[[BenchedFile, BenchedFile], float]] = {
    "size_bytes": lambda file, first: float(file.size_bytes),
    "size_ratio": lambda file, first: first.size_bytes / file.size_bytes,
}
TIMES: dict[str, Callable[[Timing], float | None]] = {
    "speedup": lambda timing: timing.speedup,
    "latency_ms": lambda timing: timing.latency.median_ms,
}


def judged_file(paths: Sequence[Path], recipe: Path) -> list[Requirement]:
    """Return each bound on bytes and times with its figure.

    Raises RecipeError for a file without figures, and if the recipe bounds neither.
    """
    if len(paths) != 1:
        raise RecipeError("--require takes one file: the figures.json that the device wrote")
    found = [
        judged(what, bound, figures)
        for figures in [read_figures(paths[0])]
        for what, bound in bounds(load_recipe(recipe, ()).recipe.require)
        if what in SIZES or what in TIMES
    ]
    if not found:
        raise RecipeError(f"{recipe} sets no bound on bytes or times, which is all that a device measures")
    return found


def read_figures(path: Path) -> Bench:
    """Return what a device wrote. Raises RecipeError if it is something else."""
    try:
        return Bench.model_validate_json(plainfile.read(path, LIMIT_BYTES))
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}") from error
    except (ValidationError, ValueError) as error:
        raise RecipeError(f"{path} holds no figures of a bench: take figures.json") from error


def judged(what: str, bound: Bound, figures: Bench) -> Requirement:
    """Return one bound with the figure of the file that it is about: that named `of`, or the last."""
    named = [file for file in figures.files if bound.of and Path(file.file).stem == bound.of]
    file = (named or figures.files)[-1]
    batch_size = bound.batch_size if isinstance(bound, TimedBound) else None
    if what in SIZES:
        value: float | None = SIZES[what](file, figures.files[0])
    else:
        fits = (each for each in figures.timings if (each.file, each.batch_size) == (file.file, batch_size))
        value = next((TIMES[what](each) for each in fits), None)
    met = value is not None and within(value, bound)
    return Requirement(
        what=what, stage=file.file, batch_size=batch_size, min=bound.min, max=bound.max, value=value, met=met
    )


def verdict_lines(requirements: Sequence[Requirement]) -> list[str]:
    """Return the bounds in words, one a line."""
    shown = [verdict(requirement, "accuracy") for requirement in requirements]
    return [f"{each.what}: {each.value}, {each.bound}: {'met' if each.met else 'missed'}" for each in shown]
