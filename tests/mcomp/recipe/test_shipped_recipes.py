from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from mcomp.recipe.build import load_recipe

FOLDER = Path(__file__).parents[3] / "recipes"
RECIPES = sorted(path.relative_to(FOLDER) for path in FOLDER.rglob("*.yaml"))


@pytest.fixture(scope="session")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipes with what their scripts write beside them."""
    folder = tmp_path_factory.mktemp("shipped") / "recipes"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("text_model"))
    spec = importlib.util.spec_from_file_location("make_text_model", FOLDER / "make_text_model.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.FOLDER = folder / "text_model"
    script.main()
    return folder


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_right_and_named_after_its_file(path: Path, recipes: Path) -> None:
    loaded = load_recipe(recipes / path)
    assert loaded.recipe.name == path.stem
    assert not loaded.unused_stages
