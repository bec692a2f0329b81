from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from mcomp.recipe.build import load_recipe
from tests.stages.data.pictures import digits_folder

FOLDER = Path(__file__).parents[3] / "recipes"
WRITTEN = ("text_model", "minilm", "photographs")  # by the scripts, some from packages that tests do without
RECIPES = sorted(path.relative_to(FOLDER) for path in FOLDER.rglob("*.yaml"))


@pytest.fixture(scope="session")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipes with what their scripts write beside them."""
    folder = tmp_path_factory.mktemp("shipped") / "recipes"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns(*WRITTEN))
    spec = importlib.util.spec_from_file_location("make_text_model", FOLDER / "make_text_model.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.FOLDER = folder / "text_model"
    script.main()
    shutil.copytree(folder / "text_model", folder / "minilm")
    shutil.copytree(folder / "minilm" / "tokenizer", folder / "minilm" / "model", dirs_exist_ok=True)
    digits_folder(folder / "photographs" / "images" / "train", 40)
    digits_folder(folder / "photographs" / "images" / "test", 10)
    (folder / "photographs" / "efficientnet_lite0.pth").touch()
    return folder


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_right_and_named_after_its_file(path: Path, recipes: Path) -> None:
    loaded = load_recipe(recipes / path)
    assert loaded.recipe.name == path.stem
    assert not loaded.unused_stages
