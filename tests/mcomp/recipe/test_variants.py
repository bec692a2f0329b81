from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcomp.errors import RecipeError
from mcomp.recipe import variants
from mcomp.recipe.compose import compose
from mcomp.recipe.variants import Recipes, Variants

Write = Callable[..., Path]
OVERRIDES = (
    "seed=1",
    "seed=2",
    "model.depth=56",
    "stages.cut.target.macs=0.25",
    "stages.cut.target={params: 0.3}",
    "stages.cut.layers=[a,b]",
    "pipeline=[learn,write]",
    "pipeline.1=write",
    "++stages.cut.round_to=4",
    "+description=x",
    "~stages.cut",
    "~require",
    "+stages.cut.target.params=0.1",
    "name=${stages.cut.importance}",
    "task=big",
    "task=small",
    "task=huge",
    "baseline=null",
    "model={depth: 20}",
    "description='a, b: c'",
    "stages.cut=null",
    "stages.cut.round_to=[1]",
    "require.speedup=[{min: 1}]",
)


def write_group(write: Write) -> Path:
    """Write a recipe whose task is a choice of two files."""
    write(name="task/big.yaml", text="type: lab.sorting\n")
    write(name="task/small.yaml", text="type: lab.sorting\n")
    return write("task: {type: lab.sorting}\n", "defaults: [{task: big}, _self_]\n")


def outcome(composer: Callable[[list[str]], object], overrides: list[str]) -> object:
    try:
        return composer(overrides)
    except RecipeError as error:
        return str(error)


@given(st.lists(st.lists(st.sampled_from(OVERRIDES), max_size=4), min_size=1, max_size=2))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_variants_are_what_hydra_composes_one_by_one(write: Write, jobs: list[list[str]]) -> None:
    path = write_group(write)
    together = Variants(path)
    for overrides in jobs:
        assert outcome(together.compose, overrides) == outcome(lambda job: compose(path, job), overrides)


def test_hydra_composes_once_for_each_choice_of_files(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path, composed = write_group(write), []
    by_hydra = variants.config_by_hydra

    def counted(reading: object, lines: object) -> object:
        composed.append(lines)
        return by_hydra(reading, lines)  # type: ignore[arg-type] -- passed on as it came

    monkeypatch.setattr(variants, "config_by_hydra", counted)
    together = Variants(path)
    for task in ("big", "small"):
        for seed in range(4):
            assert together.compose([f"seed={seed}", f"task={task}"]).data["seed"] == seed
    assert composed == [("task=big",), ("task=small",)]


def test_what_one_job_sets_is_not_there_in_the_next(write: Write) -> None:
    together = Variants(write())
    assert together.compose(["stages.cut.layers=[a]"]).data["stages"]["cut"]["layers"] == ["a"]
    assert "layers" not in together.compose(["seed=1"]).data["stages"]["cut"]


def test_a_recipe_is_validated_once_for_the_same_overrides(write: Write) -> None:
    path, recipes = write(), Recipes()
    assert recipes.load(path, ["seed=1"]) is recipes.load(Path("./sub/..") / path, ["seed=1"])
    assert recipes.load(path, ["seed=2"]).recipe.seed == 2


def test_a_mistake_is_told_each_time(write: Write) -> None:
    path, recipes = write(), Recipes()
    for _ in range(2):
        with pytest.raises(RecipeError, match="command line: seed=-1"):
            recipes.load(path, ["seed=-1"])
