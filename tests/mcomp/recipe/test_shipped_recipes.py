from __future__ import annotations

from pathlib import Path

import pytest

from mcomp.recipe.build import load_recipe

RECIPES = sorted(Path(__file__).parents[3].joinpath("recipes").rglob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_right_and_named_after_its_file(path: Path) -> None:
    loaded = load_recipe(path)
    assert loaded.recipe.name == path.stem
    assert not loaded.unused_stages
