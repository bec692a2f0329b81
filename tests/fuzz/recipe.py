"""Any text as a recipe: read strictly, and, if it is one, composed and validated."""

from __future__ import annotations

from pathlib import Path

from mcomp.errors import PluginError, RecipeError
from mcomp.recipe.build import load_recipe
from mcomp.recipe.load import load
from tests.fuzz.properties import require_good_words
from tests.hostile.recipes import GOOD, RECIPES

SEEDS = [GOOD.encode()] + [
    content.encode() if isinstance(content, str) else content
    for hostile in RECIPES.values()
    for content in hostile.files.values()
    if len(content) < 2000
]
IS_JSON = False


def attempt(data: bytes) -> None:
    """Read the bytes as a recipe."""
    path = Path("r.yaml")
    path.write_bytes(data)
    try:
        load(path)
        load_recipe(path)
    except (RecipeError, PluginError) as error:
        require_good_words(error)
