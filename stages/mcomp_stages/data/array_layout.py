"""Which arrays belong to which split, and whether they fit each other. Reads labels, and no inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mcomp.data.contract import SplitName
from mcomp.errors import Problem, RecipeError
from mcomp.recipe.nearest import did_you_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

TARGET = "target"
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")

Arrays = Mapping[str, "NDArray[Any]"]
ArraysBySplit = Mapping[SplitName, Arrays]


def by_split(arrays: Arrays) -> ArraysBySplit:
    """Return the arrays of each split by their names without `train_`, `validation_` or `test_`.

    Without such names everything is train's. Raises RecipeError for arrays that do not fit each other.
    """
    owned: dict[SplitName, Arrays] = {
        split: of_split(arrays, split) for split in SPLITS if of_split(arrays, split)
    }
    strays = [name for name in arrays if not name.startswith(tuple(f"{split}_" for split in SPLITS))]
    if owned and strays:
        what = f"the array {strays[0]} belongs to no split"
        raise RecipeError(Problem("", "path", what, "its name must start with train_, validation_ or test_"))
    if owned and "train" not in owned:
        raise RecipeError(Problem("", "path", "there is no array for train", "add train_target and inputs"))
    found: ArraysBySplit = owned or {"train": arrays}
    problems = [problem for split, each in found.items() for problem in within(each, split)]
    problems = problems or [problem for split in found for problem in between(found, split)]
    problems = problems or list(labels(found))
    if problems:
        raise RecipeError(problems)
    return found


def of_split(arrays: Arrays, split: SplitName) -> Arrays:
    """Return the arrays whose names start with the split's."""
    prefix = f"{split}_"
    return {name.removeprefix(prefix): each for name, each in arrays.items() if name.startswith(prefix)}


def within(arrays: Arrays, split: SplitName) -> Iterator[Problem]:
    """Yield what is wrong with the arrays of one split."""
    if TARGET not in arrays:
        near = did_you_mean(TARGET, arrays) or f"there are {', '.join(arrays) or 'no arrays'}"
        yield Problem("", "path", f"{split} has no array `target`", f"{near}; rename what holds the labels")
        return
    if len(arrays) == 1:
        next_step = "add an array named as the model's argument, such as `image`"
        yield Problem("", "path", f"{split} has no inputs", next_step)
    for name, array in arrays.items():
        if array.ndim == 0:
            yield Problem("", "path", f"{split}: {name} is a single number", "its first axis must be samples")
        elif len(array) != np.atleast_1d(arrays[TARGET]).shape[0]:
            what = f"{split}: {name} has {len(array)} samples, and target has {np.size(arrays[TARGET], 0)}"
            yield Problem("", "path", what, "each must have one row a sample")
        elif len(array) == 0:
            yield Problem("", "path", f"{split}: {name} is empty", "add samples, or remove the split")


def between(found: ArraysBySplit, split: SplitName) -> Iterator[Problem]:
    """Yield where the arrays of a split differ from train's."""
    train, arrays = found["train"], found[split]
    if arrays.keys() != train.keys():
        odd = sorted(arrays.keys() ^ train.keys())
        yield Problem(
            "", "path", f"{split} and train do not both have {', '.join(odd)}", "add what is missing"
        )
    for name in sorted(arrays.keys() & train.keys()):
        here, there = arrays[name], train[name]
        if here.shape[1:] != there.shape[1:]:
            what = f"{name} has samples of shape {here.shape[1:]} in {split} and {there.shape[1:]} in train"
            yield Problem("", "path", what, "make them alike")
        if here.dtype.kind != there.dtype.kind:
            what = f"{name} holds {here.dtype} in {split} and {there.dtype} in train"
            yield Problem("", "path", what, "convert one with astype")


def labels(found: ArraysBySplit) -> Iterator[Problem]:
    """Yield what is wrong with labels that are numbers of classes: they go from 0 up to train's highest."""
    if not are_classes(found["train"][TARGET]):
        return
    for split, arrays in found.items():
        if int(arrays[TARGET].min()) < 0:
            what = f"{split} has the label {int(arrays[TARGET].min())}"
            yield Problem("", "path", what, "classes are numbered from 0")
        if int(arrays[TARGET].max()) >= num_classes(found):
            what = f"{split} has the label {int(arrays[TARGET].max())}, and train none above"
            yield Problem(
                "", "path", f"{what} {num_classes(found) - 1}", "train needs samples of every class"
            )
    if not (found["train"][TARGET] == 0).any():
        yield Problem(
            "", "path", "no label of train is 0", "classes are numbered from 0; subtract the lowest"
        )
    if num_classes(found) == 1:
        yield Problem("", "path", "every label of train is 0", "it takes two classes")


def are_classes(target: NDArray[Any]) -> bool:
    """Return whether a target is one number of a class for each sample."""
    return target.ndim == 1 and target.dtype.kind in "iu"


def num_classes(found: ArraysBySplit) -> int:
    """Return the number of classes, by the highest label of train."""
    return int(found["train"][TARGET].max()) + 1
