from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mcomp.errors import RecipeError
from mcomp.recipe.build import load_recipe
from mcomp.recipe.variants import Recipes
from mcomp.sweep.jobs import Sweep
from mcomp.sweep.listing import Listing, list_jobs
from tests.mcomp.toys import RECIPE

OWN = """\
sweep:
  launcher: joblib
  jobs: 2
  parameters:
    stages.more.by: [0.25, 0.5]
    seed: [0, 1]
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write the toy recipe with a sweep of its own; places are then relative to its folder."""
    monkeypatch.chdir(tmp_path)

    def recipe(sweep: str = OWN) -> Path:
        Path("toy.yaml").write_text(RECIPE + sweep)
        return Path("toy.yaml")

    return recipe


def listing(path: Path, *overrides: str) -> Listing:
    return list_jobs(path, overrides, Recipes())


def problems(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        Sweep.resolve(path, overrides)
    return str(caught.value).splitlines()


def test_a_recipe_sweeps_over_its_own_parameters_with_its_own_launcher(recipe: Callable[..., Path]) -> None:
    found = listing(recipe())
    assert found.jobs == [
        ("stages.more.by=0.25", "seed=0"),
        ("stages.more.by=0.25", "seed=1"),
        ("stages.more.by=0.5", "seed=0"),
        ("stages.more.by=0.5", "seed=1"),
    ]
    assert found.options == ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


@pytest.mark.parametrize(
    ("overrides", "jobs"),
    [
        (("seed=7",), [("stages.more.by=0.25", "seed=7"), ("stages.more.by=0.5", "seed=7")]),
        (
            ("++seed=8,9", "stages.more.by=1"),
            [("++seed=8", "stages.more.by=1"), ("++seed=9", "stages.more.by=1")],
        ),
        (
            ("stages.more.by=1", "seed=5", "model.breaks=true,false"),
            [
                ("stages.more.by=1", "seed=5", "model.breaks=True"),
                ("stages.more.by=1", "seed=5", "model.breaks=False"),
            ],
        ),
    ],
)
def test_the_command_line_replaces_what_the_recipe_sweeps_and_adds_to_it(
    overrides: tuple[str, ...], jobs: list[tuple[str, ...]], recipe: Callable[..., Path]
) -> None:
    assert listing(recipe(), *overrides).jobs == jobs


def test_the_launcher_of_the_command_line_counts(recipe: Callable[..., Path]) -> None:
    options = listing(recipe(), "hydra.launcher.n_jobs=1").options
    assert options[-1] == "hydra.launcher.n_jobs=1"
    assert Sweep.resolve(recipe(), ("hydra/launcher=basic",)).options[-1] == "hydra/launcher=basic"


@pytest.mark.parametrize(
    ("values", "parsed"),
    [
        ("[[fit, export], [fit, more, export]]", [("fit", "export"), ("fit", "more", "export")]),
        ("[[fit]]", [("fit",)]),
    ],
)
def test_lists_are_values(values: str, parsed: list[tuple[str, ...]], recipe: Callable[..., Path]) -> None:
    sweep = Sweep.resolve(recipe(f"sweep: {{parameters: {{pipeline: {values}}}}}\n"))
    assert [plan.recipe.pipeline for plan in sweep.plans] == parsed


def test_the_sweep_of_a_recipe_is_in_no_key(recipe: Callable[..., Path]) -> None:
    with_sweep = Sweep.resolve(recipe(), ("seed=0", "stages.more.by=0.5"))
    without = Sweep.resolve(recipe(""), ("seed=0",))
    assert [step.key for step in with_sweep.plans[0].steps] == [step.key for step in without.plans[0].steps]


def test_a_plain_run_ignores_the_sweep(recipe: Callable[..., Path]) -> None:
    assert load_recipe(recipe()).recipe.seed == 0


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("0.5]", "much]", "toy.yaml:14:28: sweep.parameters.stages.more.by.1: must be a number, not 'much'"),
        ("more.by", "more.bi", "toy.yaml:14:5: sweep.parameters.stages.more.bi: unknown key; did"),
        ("[0, 1]", "[0, -1]", "toy.yaml:15:15: sweep.parameters.seed.1: must be at least 0"),
        ("stages.more.by", "hydra.run", "toy.yaml:14:5: sweep.parameters.hydra.run: cannot be swept"),
        ("stages.more.by", "more by", "toy.yaml:14:5: sweep.parameters.more by: is not the path of a key"),
        ("jobs: 2", "jobs: 0", "toy.yaml:12:9: sweep.jobs: must be at least 1"),
        ("launcher: joblib", "launcher: basic", "launcher basic runs one job after the other"),
        ("[0, 1]", "[]", "toy.yaml:15:11: sweep.parameters.seed: "),
        ("jobs: 2", "sampler: tpe", "toy.yaml:12:12: sweep.sampler: must be 'grid'"),
    ],
)  # fmt: skip
def test_mistakes_in_a_sweep_are_told_at_their_place(
    old: str, new: str, told: str, recipe: Callable[..., Path]
) -> None:
    assert old in OWN
    (problem,) = problems(recipe(OWN.replace(old, new, 1)))
    assert told in problem


def test_what_is_wrong_with_every_value_is_told_once_at_the_key(recipe: Callable[..., Path]) -> None:
    told = problems(recipe(""), "stages.more.bi=1,2,3", "seed=0,-1")
    assert len(told) == 2
    assert told[0] == "command line: stages.more.bi: unknown key; did you mean 'by'?"
    assert told[1].startswith("command line: seed=-1: must be at least 0")


def test_combinations_are_checked_together(recipe: Callable[..., Path]) -> None:
    pipelines = "[[fit, more, export], [more, export]]"
    path = recipe(
        f"sweep: {{parameters: {{pipeline: {pipelines}, stages.more.type: [toy.fit, toy.idle]}}}}\n"
    )
    path.write_text(path.read_text().replace(", by: 0.5", ""))
    (told,) = problems(path)
    assert "toy.idle needs trained weights" in told
