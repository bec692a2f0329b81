"""Shortened recipes: what is changed in them, and that their keys are their own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import pytest

from mcomp.config import Config, shortens_to
from mcomp.plan import make_plan
from mcomp.recipe.build import LoadedRecipe, load_recipe
from mcomp.recipe.resolved import resolved_text
from mcomp.recipe.schema import Recipe, RecipeRef
from mcomp.recipe.shorten import QUICK, REHEARSAL, is_shortened, quick, shortened, with_little_work
from mcomp_stages.distill.offline import DistillOffline
from mcomp_stages.prune.channels import PruneChannels
from tests.tiny import write_recipes


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedRecipe:
    return load_recipe(write_recipes(tmp_path, "measure: {rounds: 3", "measure: {rounds: 30"))


def load_quick(path: Path, overrides: tuple[str, ...] = ()) -> LoadedRecipe:
    return quick(load_recipe(path, overrides))


def test_amounts_of_work_are_cut_down_wherever_they_stand(loaded: LoadedRecipe) -> None:
    overridden = load_recipe(
        loaded.path, ["stages.distill.training.epochs=9", "stages.prune.recover.epochs=5"]
    )
    short = shortened(overridden, REHEARSAL).recipe
    distill, prune = (
        cast(DistillOffline, short.stages["distill"]),
        cast(PruneChannels, short.stages["prune"]),
    )
    assert (distill.training.epochs, short.measure.rounds) == (1, 3)
    assert prune.recover is not None
    assert prune.recover.epochs == 1


class Trials(Config):
    number: Annotated[int, shortens_to(4, ge=1)] = 100
    most: Annotated[int | None, shortens_to(2)] = None


class Search(Config):
    by_name: dict[str, Trials] = {"first": Trials()}
    in_order: tuple[Trials, ...] = (Trials(number=3, most=9),)


def test_a_field_of_a_plugin_says_itself_how_far_it_shrinks() -> None:
    short = with_little_work(Search())
    assert short.by_name == {"first": Trials(number=4)}
    assert short.in_order == (Trials(number=3, most=2),)


def test_what_was_left_at_its_default_does_not_count_as_set(loaded: LoadedRecipe) -> None:
    recipe = loaded.recipe
    short = shortened(loaded, REHEARSAL).recipe
    assert short.stages["export"].model_fields_set == recipe.stages["export"].model_fields_set
    assert short.data.model_fields_set == recipe.data.model_fields_set | {"shortened"}


def test_nothing_else_is_changed(loaded: LoadedRecipe) -> None:
    data = loaded.recipe.data.model_copy(update={"shortened": QUICK})
    measure = loaded.recipe.measure.model_copy(update={"rounds": 3})
    prune = loaded.recipe.stages["prune"].model_copy(update={"samples": 8})
    stages = {**loaded.recipe.stages, "prune": prune}
    changed = {"name": "tiny-quick", "data": data, "measure": measure, "stages": stages}
    expected = loaded.recipe.model_copy(update=changed)
    assert quick(loaded).recipe == expected
    assert (is_shortened(loaded.recipe), is_shortened(expected)) == (False, True)


def test_no_step_is_shared_with_the_real_run(loaded: LoadedRecipe) -> None:
    real = make_plan(loaded)
    short = make_plan(quick(loaded), load_quick)
    assert {step.key for step in real.steps}.isdisjoint(step.key for step in short.steps)
    assert [step.label.replace("-quick", "") for step in short.steps] == [step.label for step in real.steps]
    assert all("-quick/" in step.label for step in short.steps)


def test_the_recipe_that_is_kept_runs_again_to_the_same_keys(loaded: LoadedRecipe, tmp_path: Path) -> None:
    kept = tmp_path / "elsewhere" / "recipe.yaml"
    kept.parent.mkdir()
    kept.write_text(resolved_text(quick(loaded), "run", "now"))
    assert "mcomp run --quick recipe.yaml" in kept.read_text()
    again = make_plan(load_quick(kept), load_quick)
    assert [step.key for step in again.steps] == [
        step.key for step in make_plan(quick(loaded), load_quick).steps
    ]


def test_a_long_name_keeps_its_mark(loaded: LoadedRecipe) -> None:
    recipe = loaded.recipe.model_copy(update={"name": "x" * 64})
    named = quick(LoadedRecipe(recipe, loaded.composed, loaded.path)).recipe
    assert named.name == "x" * 58 + "-quick"
    assert (
        Recipe.model_validate(
            named.model_dump()
            | {"model": named.model, "data": named.data, "task": named.task, "stages": named.stages}
        ).name
        == named.name
    )


def test_references_stay_what_they_are(loaded: LoadedRecipe) -> None:
    distill = cast(DistillOffline, quick(loaded).recipe.stages["distill"])
    assert distill.teachers == (RecipeRef(recipe="teacher.yaml"),)
