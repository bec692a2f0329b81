"""Parts of a pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcomp.errors import RecipeError
from mcomp.plan import make_plan
from mcomp.recipe.build import LoadedRecipe, load_recipe
from mcomp.recipe.partial import up_to
from mcomp.recipe.schema import Require
from tests.tiny import write_recipes


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedRecipe:
    return load_recipe(write_recipes(tmp_path))


@pytest.mark.parametrize(
    ("stage", "labels"),
    [
        ("distill", ["teacher/train", "tiny/distill"]),
        ("prune", ["teacher/train", "tiny/distill", "tiny/prune"]),
        ("export", None),
    ],
)
def test_steps_up_to_a_stage_are_those_of_the_whole(
    stage: str, labels: list[str] | None, loaded: LoadedRecipe
) -> None:
    whole, part = make_plan(loaded), make_plan(up_to(loaded, stage))
    keys = {step.label: step.key for step in whole.steps}
    assert {step.label: step.key for step in part.steps} == {label: keys[label] for label in labels or keys}


def test_nothing_is_required_of_an_export_that_is_cut_off(loaded: LoadedRecipe) -> None:
    assert up_to(loaded, "qat").recipe.require == Require()
    assert up_to(loaded, "export").recipe.require == loaded.recipe.require


@pytest.mark.parametrize(
    ("stage", "labels"),
    [
        ("export", ["tiny/export"]),
        ("qat", ["tiny/qat", "tiny/export"]),
        ("distill", ["tiny/distill", "tiny/prune", "tiny/qat", "tiny/export"]),
    ],
)
def test_steps_from_a_stage_on(stage: str, labels: list[str], loaded: LoadedRecipe) -> None:
    assert [step.label for step in make_plan(loaded).onward(stage)] == labels


def test_what_rests_on_a_stage_follows_it_also_in_the_baseline(loaded: LoadedRecipe) -> None:
    """Without `baseline:` the first trained model of the pipeline is the baseline."""
    own = load_recipe(loaded.path, ["~baseline"])
    assert [step.label for step in make_plan(own).onward("distill")][-1] == "tiny/export of the baseline"
    assert [step.label for step in make_plan(own).onward("prune")] == [
        "tiny/prune",
        "tiny/qat",
        "tiny/export",
    ]


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ("prun", "there is no stage 'prun' in the pipeline; did you mean 'prune'?"),
        ("zzz", "there is no stage 'zzz' in the pipeline; it must be one of 'distill', 'qat', 'export'"),
        ("prune", "the stage 'prune' is not in the pipeline; it holds distill, qat, export"),
    ],
)
def test_a_stage_that_is_not_there_is_refused_with_the_nearest(
    stage: str, said: str, loaded: LoadedRecipe
) -> None:
    overrides = [] if stage == "prun" else ["pipeline=[distill,qat,export]"]
    loaded = load_recipe(loaded.path, overrides)
    with pytest.raises(RecipeError) as until:
        up_to(loaded, stage)
    with pytest.raises(RecipeError) as start:
        make_plan(loaded).onward(stage)
    assert str(until.value) == f"command line: --until {stage}: {said}"
    assert str(start.value) == f"command line: --from {stage}: {said}"
