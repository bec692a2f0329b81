from __future__ import annotations

import pytest

from mcomp.errors import RecipeError
from mcomp.recipe.overrides import MAX_JOBS, listed, product, split_launch_options


def expand(overrides: list[str]) -> list[tuple[str, ...]]:
    return product(listed(overrides))


def test_the_first_sweep_changes_slowest() -> None:
    assert expand(["a=1,2", "c=x", "b=range(1,3)"]) == [
        ("a=1", "c=x", "b=1"),
        ("a=1", "c=x", "b=2"),
        ("a=2", "c=x", "b=1"),
        ("a=2", "c=x", "b=2"),
    ]


@pytest.mark.parametrize(
    ("overrides", "jobs"),
    [
        ([], [()]),
        (["a=choice(x,y)"], [("a=x",), ("a=y",)]),
        (["a=range(0.25,0.75,0.25)"], [("a=0.25",), ("a=0.5",)]),
        (["pipeline=[a,b],[c]"], [("pipeline=[a,b]",), ("pipeline=[c]",)]),
        (["a='x,y'"], [("a='x,y'",)]),
        (["~a", "b=1,2"], [("~a", "b=1"), ("~a", "b=2")]),
        (["a=1,2", "b=3", "++a=4"], [("++a=4", "b=3")]),
    ],
)
def test_jobs_of_a_sweep(overrides: list[str], jobs: list[tuple[str, ...]]) -> None:
    assert expand(overrides) == jobs


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("a=range(1,1)", "gives no value to try"),
        ("a=glob(*)", "cannot be listed"),
        ("a=interval(0,1)", "cannot be listed"),
        ("a=range(0,1000000000000)", f"more than {MAX_JOBS}"),
        ("hydra.sweep.dir=x,y", "this part of Hydra cannot be configured"),
        ("a=${b:c},1", "only plain references"),
    ],
)
def test_sweeps_that_cannot_be_run(override: str, what: str) -> None:
    with pytest.raises(RecipeError, match=what):
        expand([override, "b=1,2"])


def test_the_choice_of_launcher_is_no_part_of_the_recipe() -> None:
    options = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert split_launch_options(("seed=1,2", *options)) == (options, ("seed=1,2",))
    assert split_launch_options(("hydra.launcher._target_=x",)) == ((), ("hydra.launcher._target_=x",))
