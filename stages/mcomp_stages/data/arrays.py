"""Your own arrays: a .npz file, or a folder of .npy files.

    data:
      type: arrays
      path: digits.npz             # numpy.savez("digits.npz", image=..., target=...)
      scale: {image: 255}          # divide by this; without it integers stay integers
      splits: {validation: 0.15, test: 0.15}

`target` holds the labels; every other array is an input, named as the model's argument. The first axis is
the sample. Names that start with `train_`, `validation_` and `test_` are arrays of these splits; a split
without arrays takes its share of train: which rows, their numbers decide. `calibration` rows of train, from
all over it, are the calibration split.

Arrays stay on the disk and are mapped into memory, unless they lie compressed in a .npz. Pickled objects
are refused. Floats become 32 bits wide, integers 64.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from mcomp.config import no_effect
from mcomp.data.contract import DataConfig, DataFacts, Serving, SplitName
from mcomp.data.digests import content_digest
from mcomp.data.fractions import Fractions, shared_out, spread
from mcomp.errors import Problem, RecipeError
from mcomp.fingerprint import fingerprint
from mcomp.recipe.files import NamedPath
from mcomp.recipe.nearest import did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

    from mcomp.data.splits import Splits
    from mcomp_stages.data.array_layout import ArraysBySplit


class ArraysConfig(DataConfig):
    """Inputs and targets as they lie in the arrays, row by row."""

    type: Literal["arrays"] = "arrays"
    path: NamedPath = no_effect(description="a .npz file or a folder of .npy files, relative to the recipe")
    scale: Annotated[
        dict[str, Annotated[float, Field(gt=0)]], Field(description="by input: what it is divided by")
    ] = {}
    splits: Fractions = Fractions()
    calibration: Annotated[int, Field(ge=2, description="rows of train that quantizers are set by")] = 256

    @cached_property
    def arrays(self) -> ArraysBySplit:
        """The arrays of each split. Raises RecipeError for what is broken or does not fit."""
        from mcomp_stages.data.array_files import open_arrays
        from mcomp_stages.data.array_layout import TARGET, by_split

        arrays = by_split(open_arrays(self.path))
        problems = [
            Problem("", f"scale.{name}", "is no input", did_you_mean(name, arrays["train"]))
            for name in self.scale
            if name == TARGET or name not in arrays["train"]
        ]
        problems += [
            Problem("", f"splits.{split}", f"does nothing: {split} has arrays of its own", "remove it")
            for split in arrays
            if split in self.splits.model_fields_set
        ]
        if problems:
            raise RecipeError(problems)
        return arrays

    def facts(self) -> DataFacts:
        from mcomp_stages.data.array_layout import TARGET, are_classes, num_classes

        target = self.arrays["train"][TARGET]
        classes = num_classes(self.arrays) if are_classes(target) else None
        shapes = [each.shape[1:] for name, each in self.arrays["train"].items() if name != TARGET]
        if len(shapes) == 1 and len(shapes[0]) == 3:
            channels, height, width = shapes[0]
            return DataFacts(channels, height if height == width else None, classes)
        return DataFacts(num_classes=classes)

    def serving(self, facts: Mapping[str, Any]) -> Serving | None:
        from mcomp_stages.data.array_layout import TARGET

        inputs = {
            name: {"shape": list(array.shape[1:]), "scale": self.scale.get(name), "kind": array.dtype.kind}
            for name, array in self.arrays["train"].items()
            if name != TARGET
        }
        return Serving({"kind": "array", "inputs": inputs})

    @cached_property
    def content(self) -> str:
        """What `digest` returns: every step of a plan asks for it."""
        if self.path.is_dir():
            files = sorted(file for file in self.path.glob("*.npy") if not file.name.startswith("."))
            return fingerprint([[file.name, content_digest(file)] for file in files])
        return content_digest(self.path)

    def digest(self) -> str:
        return self.content

    def load(self) -> Splits:
        """Load the splits. Raises RecipeError for a number that is not finite."""
        from mcomp.data.splits import Splits
        from mcomp_stages.data.array_layout import TARGET
        from mcomp_stages.data.array_split import ArraySplit, require_finite

        for split, arrays in self.arrays.items():
            for name, array in arrays.items():
                require_finite(f"{split}: {name}", array)
        splits: dict[SplitName, ArraySplit] = {}
        for name, (owner, rows, first) in self.rows().items():
            inputs = {key: array for key, array in self.arrays[owner].items() if key != TARGET}
            splits[name] = ArraySplit(rows + first, rows, inputs, self.arrays[owner][TARGET], self.scale)
        return Splits(splits, {"samples": {name: len(split) for name, split in splits.items()}})

    def rows(self) -> dict[SplitName, tuple[SplitName, Tensor, int]]:
        """Return, by split, whose arrays it is in, which rows it has, and the index of the first row there.

        Raises RecipeError if a split has too few.
        """
        import torch

        own: dict[SplitName, int] = {split: len(arrays["target"]) for split, arrays in self.arrays.items()}
        held_out: tuple[SplitName, ...] = ("validation", "test")
        shares = {split: getattr(self.splits, split) for split in held_out if split not in own}
        shared = shared_out([str(row) for row in range(own["train"])], shares, self.splits.seed)
        few = [split for split, rows in shared.items() if len(rows) < (2 if split == "train" else 1)]
        if few:
            raise RecipeError(f"{self.path}: {few[0]} gets too few samples; add some, or change `splits`")
        chosen = spread([str(row) for row in shared["train"]], self.calibration, self.splits.seed)
        shared["calibration"] = [shared["train"][at] for at in chosen]
        found: dict[SplitName, tuple[SplitName, Tensor, int]] = {
            split: ("train", torch.tensor(rows), 0) for split, rows in shared.items()
        }
        first = own.pop("train")
        for split, num_rows in own.items():
            found[split] = (split, torch.arange(num_rows), first)
            first += num_rows
        return found
