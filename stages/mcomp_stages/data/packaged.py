"""Data that comes inside of an installed Python package; the package itself is not imported."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from mcomp.errors import Problem, RecipeError


def packaged(module: str, name: str, install: str) -> Path:
    """Return the file or folder `name` inside of the package `module`.

    Raises RecipeError with the command `install` if the package is missing or is not what it was.
    """
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise RecipeError(
            Problem("", "", f"comes with the package {module}, which is not installed", install)
        )
    path = Path(spec.origin).parent / name
    if not path.exists():
        raise RecipeError(Problem("", "", f"{path} is missing", f"install {module} again"))
    return path
