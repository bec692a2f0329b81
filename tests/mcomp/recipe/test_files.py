from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from mcomp import plugins
from mcomp.config import no_effect
from mcomp.data.contract import DataConfig, DataFacts
from mcomp.errors import Problem, RecipeError
from mcomp.fingerprint import effective
from mcomp.recipe.build import load_recipe
from mcomp.recipe.files import NamedPath

Write = Callable[..., Path]


@plugins.data("test.folder")
class Folder(DataConfig):
    type: Literal["test.folder"] = "test.folder"
    path: NamedPath = no_effect()

    def facts(self) -> DataFacts:
        if (self.path / "wrong").exists():
            raise RecipeError([Problem("", "path", "is wrong", "repair it"), Problem("", "", "as a whole")])
        return DataFacts(num_classes=7)


def located(path: Path, overrides: tuple[str, ...] = ()) -> Path:
    data = load_recipe(path, overrides).recipe.data
    assert isinstance(data, Folder)
    return data.path


def folder_recipe(write: Write) -> Path:
    return write("{type: lab.images}", "{type: test.folder, path: images}", name="sub/r.yaml")


def test_a_path_is_relative_to_the_recipe_also_on_the_command_line(write: Write, tmp_path: Path) -> None:
    recipe = folder_recipe(write)
    for name in ("images", "others"):
        (tmp_path / "sub" / name).mkdir()
    assert located(recipe) == tmp_path / "sub" / "images"
    assert located(recipe, ("data.path=others",)) == tmp_path / "sub" / "others"
    assert located(recipe, (f"data.path={tmp_path}",)) == tmp_path


def test_without_a_recipe_a_path_is_relative_to_here(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    assert Folder(path=Path("images")).path == tmp_path / "images"


def test_where_the_files_lie_is_in_no_key(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    assert effective(Folder(path=Path("images"))) == effective(Folder(path=tmp_path))


@pytest.mark.parametrize(
    ("overrides", "place"), [((), "sub/r.yaml:4:33: data.path"), (("data.path=imges",), "command line")]
)
def test_a_missing_path_is_blamed_on_its_place_with_the_nearest_name(
    overrides: tuple[str, ...], place: str, write: Write, tmp_path: Path
) -> None:
    recipe = folder_recipe(write)
    (tmp_path / "sub" / "image").mkdir()
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, overrides)
    (said,) = map(str, caught.value.problems)
    assert said.startswith(place)
    assert said.endswith(f"; did you mean {tmp_path / 'sub' / 'image'}?")


def test_what_the_data_finds_wrong_is_blamed_on_its_field(write: Write, tmp_path: Path) -> None:
    recipe = folder_recipe(write)
    (tmp_path / "sub" / "images" / "wrong").mkdir(parents=True)
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe)
    assert [str(problem) for problem in caught.value.problems] == [
        "sub/r.yaml:4:33: data.path: is wrong; repair it",
        "sub/r.yaml:4:7: data: as a whole",
    ]
