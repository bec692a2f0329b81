"""Whether a library that a model comes from is there. Free of torch: `plan` asks."""

from __future__ import annotations

from importlib.util import find_spec

from mcomp.errors import Problem, RecipeError


def require_installed(library: str, install: str) -> None:
    """Raise RecipeError if a library is not there; nothing is imported."""
    if find_spec(library) is None:
        what = f"needs the package {library}, which is not installed"
        raise RecipeError(Problem("", "type", what, install))
