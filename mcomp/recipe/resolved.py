"""The recipe of a run as it was resolved, so that it can be run again from anywhere."""

from __future__ import annotations

from typing import Any, cast

from mcomp import plugins
from mcomp.config import PluginConfig
from mcomp.model.spec import ModelConfig
from mcomp.recipe.build import LoadedRecipe, refs
from mcomp.recipe.comments import with_comments
from mcomp.recipe.dump import as_yaml
from mcomp.recipe.places import KeyPath, holds
from mcomp.recipe.schema import Recipe
from mcomp.recipe.shorten import is_shortened
from mcomp.report.text import clean


def resolved_text(loaded: LoadedRecipe, run: str, started: str) -> str:
    """Return a recipe as YAML that gives the same keys, with a header that says where it comes from.

    Overrides and bases are merged; the files and recipes that it names are given by their absolute paths.
    Comments stay beside their keys.
    """
    imports = "".join(f" --import {module}" for module in own_modules(loaded.recipe))
    header = [
        f"The recipe of the run {run} ({started}) as it was resolved.",
        f"To repeat it: mcomp run{imports}{' --quick' if is_shortened(loaded.recipe) else ''} recipe.yaml",
        f"From {loaded.path.absolute()}",
        *(f"with {override}" for override in loaded.composed.overrides),
    ]
    origin = "".join(f"# {clean(line)}\n" for line in header)
    return origin + "\n" + with_comments(as_yaml(resolved(loaded)), loaded.composed.places)


def resolved(loaded: LoadedRecipe) -> dict[str, Any]:
    """Return what a recipe says as plain data; defaults that it leaves alone are left out, and what `run -m`
    would try: a run is one of those.
    """
    plain = loaded.recipe.model_dump(mode="json", exclude_unset=True, exclude={"sweep"})
    return with_absolute_paths(plain, loaded)


def with_absolute_paths(plain: dict[str, Any], loaded: LoadedRecipe) -> dict[str, Any]:
    """Return the plain data of a recipe with its recipes and its checkpoint named as from anywhere."""
    for path, reference in refs(loaded.recipe):
        written = inside(plain, path)
        if written is not None:
            written["recipe"] = str(loaded.relative(reference.recipe).absolute())
    checkpoint = cast(ModelConfig, loaded.recipe.model).checkpoint
    if isinstance(checkpoint, str):
        plain["model"]["checkpoint"] = str(loaded.relative(checkpoint).absolute())
    return plain


def inside(value: Any, path: KeyPath) -> Any:
    """Return what stands at a path of plain data, None if nothing does."""
    for part in path:
        if not holds(value, part):
            return None
        value = value[part]
    return value


def own_modules(recipe: Recipe) -> list[str]:
    """Return the modules of a person's own that registered plugins of the recipe."""
    groups: dict[plugins.Group, list[PluginConfig]] = {
        "models": [recipe.model],
        "data": [recipe.data],
        "tasks": [recipe.task],
        "stages": list(recipe.stages.values()),
    }
    modules = {
        type(part).__module__
        for group, parts in groups.items()
        for part in parts
        if part.type not in plugins.installed(group)
    }
    return sorted(modules - {"__main__"})
