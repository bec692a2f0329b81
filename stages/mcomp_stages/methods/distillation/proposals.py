"""Pairs of places in a student and a teacher that fit each other, found by the shapes of their features."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp.measure.accuracy import in_inference_mode
from mcomp_stages.methods.distillation.adapters import Shape, shape_of
from mcomp_stages.methods.distillation.taps import Taps, paths_of, removed, tappable
from mcomp_stages.methods.distillation.terms import Tap

SHOWN = 6


def proposed_taps(student: nn.Module, teacher: nn.Module, example: Mapping[str, Tensor]) -> tuple[Tap, ...]:
    """Return pairs of places by shape.

    Of tokens: blocks in a row that give the same shape, evenly spread over the teacher's (the last with the
    last). Where there are none, of maps: the last module that gives each height and width that both have.
    Raises StageError if nothing fits.
    """
    ours, theirs = feature_shapes(student, example), feature_shapes(teacher, example)
    taps = tuple(of_blocks(ours, theirs) or of_maps(ours, theirs))
    if not taps:
        raise StageError(
            "no features of student and teacher have shapes that fit; say `taps` "
            f"(the student has {listed(ours)}; the teacher {listed(theirs)})"
        )
    return taps


def feature_shapes(module: nn.Module, example: Mapping[str, Tensor]) -> dict[str, Shape]:
    """Return what each module gives for a sample, in the order in which they are done."""
    asked = tappable(module)
    taps = Taps(asked, paths_of(asked))
    with removed(taps):
        called_once(asked, example)
    return {path: shape_of(value) for path, value in taps.found.items() if value.ndim > 1}


def called_once(module: nn.Module, example: Mapping[str, Tensor]) -> Tensor:
    """Return what a module says about an example in inference mode; its own mode is restored."""
    with in_inference_mode(module), torch.no_grad():
        output: Tensor = module(**example)
    return output


def of_maps(student: Mapping[str, Shape], teacher: Mapping[str, Shape]) -> list[Tap]:
    """Return the last modules of each height and width that both have."""
    ours, theirs = last_by_size(student), last_by_size(teacher)
    return [Tap(student=path, teacher=theirs[size]) for size, path in ours.items() if size in theirs]


def last_by_size(shapes: Mapping[str, Shape]) -> dict[Shape, str]:
    """Return the last module that gives maps of each height and width above 1."""
    return {shape[1:]: path for path, shape in shapes.items() if len(shape) == 3 and min(shape[1:]) > 1}


def of_blocks(student: Mapping[str, Shape], teacher: Mapping[str, Shape]) -> list[Tap]:
    """Return each of the student's blocks of tokens with the one as deep in the teacher."""
    ours, theirs = blocks(student), blocks(teacher)
    if not ours or not theirs:
        return []
    at = [max(1, round((number + 1) * len(theirs) / len(ours))) - 1 for number in range(len(ours))]
    return [Tap(student=path, teacher=theirs[place]) for path, place in zip(ours, at, strict=True)]


def blocks(shapes: Mapping[str, Shape]) -> list[str]:
    """Return the longest row of numbered modules that give tokens of one shape (`encoder.layer.3`)."""
    rows: dict[tuple[str, Shape], list[str]] = {}
    for path, shape in shapes.items():
        if len(shape) == 2 and re.search(r"(^|\.)\d+$", path):
            rows.setdefault((path.rpartition(".")[0], shape), []).append(path)
    return max(rows.values(), key=len, default=[])


def listed(shapes: Mapping[str, Shape]) -> str:
    """Return a few modules with the shapes of their features."""
    shown = [f"{path} {shape}" for path, shape in list(shapes.items())[:SHOWN]]
    more = [f"and {len(shapes) - SHOWN} more"] if len(shapes) > SHOWN else []
    return ", ".join([*shown, *more]) or "none"


def example_features(
    module: nn.Module, paths: Iterable[str], example: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the features at some paths; the module stays as it was.

    Raises StageError for a path that is none, with the nearest.
    """
    asked = tappable(module)
    taps = Taps(asked, paths)
    with removed(taps):
        called_once(asked, example)
    return taps.features()
