from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from mcomp.recipe.build import load_recipe, refs
from mcomp.recipe.schema import RecipeRef

Write = Callable[..., Path]


def test_a_right_recipe_is_validated_by_the_plugins_it_names(write: Write) -> None:
    loaded = load_recipe(write(), ["stages.cut.round_to=16"])
    assert [type(stage).__name__ for stage in loaded.recipe.stages.values()] == ["Train", "Prune", "Export"]
    assert loaded.recipe.stages["cut"].round_to == 16  # type: ignore[attr-defined]  # a plugin's own field
    assert loaded.recipe.order() == ("learn", "cut", "write")
    assert loaded.where(("stages", "cut", "target", "macs")) == "r.yaml:14:20"
    assert loaded.where(("stages", "cut", "round_to")) == "command line"


def test_the_model_is_fitted_to_the_data(write: Write) -> None:
    assert load_recipe(write()).recipe.model.num_classes == 7  # type: ignore[attr-defined]  # a plugin's own field


def test_stages_outside_the_pipeline_are_unused_and_legal(write: Write) -> None:
    assert load_recipe(write(), ["pipeline=[learn,write]"]).unused_stages == ("cut",)


def test_without_a_pipeline_the_order_is_that_of_the_stages(write: Write) -> None:
    assert load_recipe(write("pipeline: [learn, cut, write]\n")).recipe.order() == ("learn", "cut", "write")


def test_every_reference_to_a_recipe_is_found_with_its_path(write: Write) -> None:
    write(name="sub/other.yaml")
    teachers = "type: lab.train\n    teachers: [{recipe: other.yaml}, {recipe: other.yaml, stage: cut}]"
    path = write("type: lab.train", teachers, name="sub/r.yaml")
    loaded = load_recipe(path, ["model.checkpoint={recipe: other.yaml, overrides: ['seed=1']}"])
    assert list(refs(loaded.recipe)) == [
        (("model", "checkpoint"), RecipeRef(recipe="other.yaml", overrides=("seed=1",))),
        (("stages", "learn", "teachers", 0), RecipeRef(recipe="other.yaml")),
        (("stages", "learn", "teachers", 1), RecipeRef(recipe="other.yaml", stage="cut")),
    ]
    assert loaded.relative("../other.yaml") == Path("other.yaml")


def test_reading_a_recipe_loads_no_torch_and_only_composing_loads_hydra() -> None:
    program = (
        "import sys\n"
        "import mcomp.plugins, mcomp.recipe.load, mcomp.recipe.explain, mcomp.recipe.schema\n"
        "assert 'hydra' not in sys.modules and 'torch' not in sys.modules\n"
        "import mcomp.recipe.build\n"
        "assert 'hydra' in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
