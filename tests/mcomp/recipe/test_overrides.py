from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcomp.errors import RecipeError
from mcomp.recipe.overrides import MAX_JOBS, listed, parse, product, split_launch_options, written

# What a recipe may hold as text and an override too: no NUL, no half of a surrogate pair, no reference.
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="$"), max_size=8)


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


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
NAMES = st.from_regex(r"[a-d][a-z0-9_]{0,3}", fullmatch=True)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@given(VALUES)
def test_a_value_of_a_recipe_is_read_back_from_an_override(value: object) -> None:
    (override,) = parse([f"key={written(value)}"])
    assert not override.is_sweep_override()
    assert json.dumps(override.value()) == json.dumps(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("l2", "l2"),
        ("true", "'true'"),
        ("1e3", "'1e3'"),
        ("a,b", "'a,b'"),
        ("it's \\", r"'it\'s \\'"),
        ("A²", "'A²'"),
    ],
)
def test_only_texts_that_could_be_read_otherwise_are_quoted(value: str, text: str) -> None:
    assert written(value) == text
