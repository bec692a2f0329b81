"""Files and folders that a recipe names: relative to the recipe, and there before anything starts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

from mcomp.recipe.load import similar_files

FOLDER = "folder"


def located(path: Path, info: ValidationInfo) -> Path:
    """Return the absolute path of what a recipe in the context's folder names; without one, of what is named
    from here.

    Raises ValueError, with the nearest name, if nothing is there.
    """
    folder = (info.context or {}).get(FOLDER, Path())
    absolute = Path(os.path.abspath(folder / path))
    if not absolute.exists():
        raise ValueError("; ".join(filter(None, (f"there is no {absolute}", similar_files(absolute)))))
    return absolute


NamedPath = Annotated[Path, AfterValidator(located)]
"""A field for a file or folder; give it `no_effect`, and put its content's digest into the key."""
