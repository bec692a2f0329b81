from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcomp import fingerprint
from mcomp.plan import Plan, make_plan
from mcomp.recipe.build import load_recipe
from mcomp.report.why import why
from tests.tiny import TEACHER, write_recipes

Recipe = Callable[..., Plan]

NUMBERS = {"train": 0, "distill": 1, "prune": 2, "qat": 3, "export": 4}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = tmp_path_factory.mktemp("recipes")

    def planned(*overrides: str, teacher: str = TEACHER) -> Plan:
        path = write_recipes(folder)
        (folder / "teacher.yaml").write_text(teacher)
        return make_plan(load_recipe(path, overrides))

    return planned


@pytest.fixture(scope="module")
def before(recipe: Recipe) -> Plan:
    return recipe()


def changes(step: str, before: Plan, after: Plan) -> list[str]:
    """Return why a step of a plan is not the step of another plan."""
    names = {each.key: f"step {number}" for number, each in enumerate(after.steps, start=1)}
    old, new = (plan.steps[NUMBERS[step]].key_json for plan in (before, after))
    return why(new, old, names)


SAID = {
    ("prune", "stages.prune.target.macs=0.4"): ["target.macs: 0.6 -> 0.4"],
    ("distill", "stages.distill.training.epochs=3"): ["training.epochs: 1 -> 3"],
    ("distill", "stages.distill.loss={type: dkd}"): ["loss.0.type: kd -> dkd"],
    ("prune", "stages.prune.skip=[conv1]"): ['skip: [] -> ["conv1"]'],
    ("qat", "stages.prune.importance=l1"): ["its input changed (see step 3)"],
    ("distill", "seed=3"): ["seed: 0 -> 3"],
    ("prune", "data.image_size=16"): ["its input changed (see step 2)", "data.image_size: 12 -> 16"],
    ("export", "compute.threads=2"): ["its input changed (see step 4)", "compute.threads: not set -> 2"],
    ("distill", "model={type: resnet, width: 8}"): ["model.type: lenet5 -> resnet"],
    ("distill", "model.image_size=16"): ["model.image_size: 12 -> 16"],
}  # fmt: skip


@pytest.mark.parametrize(("step", "override"), SAID)
def test_what_an_override_changed_is_said_in_the_words_of_the_recipe(
    step: str, override: str, recipe: Recipe, before: Plan
) -> None:
    assert changes(step, before, recipe(override)) == SAID[step, override]


def test_a_part_that_was_left_out_is_cut_to_a_line(recipe: Recipe, before: Plan) -> None:
    (said,) = changes("distill", before, recipe("+stages.distill.training.early_stop={patience: 3}"))
    assert said == 'training.early_stop: not set -> {"patience": 3}'
    said = changes("prune", before, recipe("~stages.prune.recover"))[0]
    assert said.startswith('recover: {"epochs": 1')
    assert said.endswith("... -> not set")
    assert len(said) < 100


def test_a_teacher_that_learned_otherwise_is_named_by_its_step(recipe: Recipe, before: Plan) -> None:
    after = recipe(teacher=TEACHER.replace("epochs: 1", "epochs: 2"))
    assert changes("train", before, after) == ["training.epochs: 1 -> 2"]
    assert changes("distill", before, after) == ["teachers.0 changed (see step 1)"]


def test_other_libraries_and_other_sources_are_named(before: Plan) -> None:
    old = before.steps[0].key_json
    new = {
        **old,
        "makers": {**old["makers"], "torch": "99.1"},
        "sources": {**old["sources"], "mcomp_stages": "1" * 64},
        "source": {**old["source"], "sources": {**old["sources"], "mcomp_stages": "1" * 64}},
    }
    said = why(new, old)
    assert said == ["the sources of mcomp_stages changed", f"torch {old['makers']['torch']} -> 99.1"]


KEY: dict[str, Any] = {
    "format": 1,
    "stage": {"version": "1", "type": "cut", "target": {"macs": 0.5}, "teachers": ["a" * 64]},
    "source": "b" * 64,
    "data": {"version": "1", "content": "c" * 64, "type": "digits"},
    "task": {"version": "1", "type": "classification"},
    "seed": 0,
    "compute": {},
    "makers": {"torch": "2.12.0"},
    "sources": {},
}
FRESH = {"model": {"type": "net", "width": 16}, "version": "1", "sources": {}, "weights": 0}


def changed(part: str, value: Any) -> dict[str, Any]:
    """Return the key with one part replaced."""
    return {**KEY, part: value}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (KEY, KEY, []),
        (KEY, changed("format", 2), ["this version of mcomp names its results in another way"]),
        (KEY, changed("source", FRESH), ["it starts from another model"]),
        (KEY, changed("data", {**KEY["data"], "content": "d" * 64}), ["the content of the data changed"]),
        (
            KEY,
            changed("stage", {**KEY["stage"], "version": "2"}),
            ["stage.version: 1 -> 2 (it gives other results now)"],
        ),
        (
            changed("source", FRESH),
            changed("source", {**FRESH, "version": "2"}),
            ["model.version: 1 -> 2 (it gives other results now)"],
        ),
        (
            changed("source", {**FRESH, "weights": "e" * 64}),
            changed("source", {**FRESH, "weights": "f" * 64}),
            ["the bytes of the checkpoint changed"],
        ),
        (
            changed("source", FRESH),
            changed("source", {**FRESH, "weights": "f" * 64}),
            ["the weights it starts from are others"],
        ),
        (
            changed("source", FRESH),
            {**changed("source", {**FRESH, "weights": 1}), "seed": 1},
            ["seed: 0 -> 1"],
        ),
        (
            KEY,
            changed("stage", {**KEY["stage"], "teachers": ["a" * 64, "b" * 64]}),
            [f'teachers: ["{"a" * 12}"] -> ["{"a" * 12}", "{"b" * 12}"]'],
        ),
    ],
)
def test_what_is_no_field_of_the_recipe_is_said_in_words(
    old: dict[str, Any], new: dict[str, Any], said: list[str]
) -> None:
    assert why(new, old) == said


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from([0.0, 1.0, 0.5, "1", "a" * 64]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "x", "y"]), inner),
    max_leaves=6,
)


@given(
    st.fixed_dictionaries({part: st.dictionaries(st.sampled_from(["type", "x", "y"]), JSON) for part in KEY}),
    st.fixed_dictionaries({part: st.dictionaries(st.sampled_from(["type", "x", "y"]), JSON) for part in KEY}),
)
def test_something_is_said_exactly_where_the_keys_differ(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert bool(why(new, old)) == (fingerprint.fingerprint(new) != fingerprint.fingerprint(old))
    assert why(old, old) == []
