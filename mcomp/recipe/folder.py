"""The files of a recipe's folder: what a recipe may build on, read strictly and once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mcomp.recipe.load import Source, load
from mcomp.recipe.marks import Marks


class RecipeFiles:
    """A recipe and the files beside and below it, by their path in its folder without `.yaml`.

    `marks` are there while the files' values are replaced by marks.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name.removesuffix(".yaml")
        self.sources: dict[str, Source] = {}
        self.marks: Marks | None = None

    def source(self, name: str) -> Source:
        """Return a file of the folder. Raises RecipeError if it breaks the rules."""
        if name not in self.sources:
            self.sources[name] = load(self.path if name == self.name else self.path.parent / f"{name}.yaml")
        return self.sources[name]

    def inside(self, name: str) -> Path | None:
        """Return where a name leads, or None if that is outside the recipe's folder or Hydra's own."""
        folder = os.path.realpath(self.path.parent)
        target = Path(os.path.realpath(os.path.join(folder, name)))
        inside = target.is_relative_to(folder) and name.split("/")[0] != "hydra"
        return target if inside else None

    def is_file(self, name: str) -> bool:
        """Whether a name is a file that a recipe may build on."""
        target = self.inside(f"{name}.yaml")
        return target is not None and os.path.isfile(target)

    def is_folder(self, name: str) -> bool:
        """Whether a name is a folder of files to choose from."""
        target = self.inside(name)
        return target is not None and os.path.isdir(target)

    def files(self, group: str) -> list[str]:
        """Return the names of the files in a folder, without their ending."""
        folder = self.inside(group)
        return sorted(path.stem for path in folder.glob("*.yaml")) if folder and folder.is_dir() else []

    def data(self, name: str) -> dict[str, Any]:
        """Return what a file holds, or marks in its place."""
        source = self.source(name)
        return self.marks.marked(source) if self.marks else source.data
