"""What a rehearsal does itself, what stands in for the rest, and how a stage's error finds its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcomp.check.rehearsal import blame, rehearsal_plan, short_plan
from mcomp.errors import StageError
from mcomp.plan import Origin, Plan
from mcomp.recipe.build import load_recipe
from mcomp.recipe.schema import RecipeRef
from tests.tiny import TINY, write_recipes


def rehearsal(path: Path, *overrides: str) -> Plan:
    return rehearsal_plan(short_plan(load_recipe(path, overrides)))


def sources(plan: Plan) -> dict[str, str]:
    """Return for each step what it starts from: another step, or the recipe of a fresh model."""
    labels = {step.key: step.stage for step in plan.steps}
    return {
        step.stage: f"fresh {step.source.recipe}" if isinstance(step.source, Origin) else labels[step.source]
        for step in plan.steps
    }


OTHER_ARCHITECTURE = ("{type: lenet5}", "{type: resnet, depth: 20, width: 8}")


def test_teachers_and_a_baseline_of_another_architecture_are_fresh_models(tmp_path: Path) -> None:
    plan = rehearsal(write_recipes(tmp_path, *OTHER_ARCHITECTURE))
    assert sources(plan) == {
        "distill": "fresh tiny",
        "prune": "distill",
        "qat": "prune",
        "export": "qat",
        "export of the baseline": "fresh teacher",
    }
    (teacher,) = plan.steps[0].models.values()
    assert isinstance(teacher, Origin)
    assert teacher.recipe == "teacher"


def test_what_the_pipeline_starts_from_is_made(tmp_path: Path) -> None:
    path = write_recipes(tmp_path, "{type: lenet5}", "{type: lenet5, checkpoint: {recipe: teacher.yaml}}")
    made = sources(rehearsal(path))
    assert (made["train"], made["distill"]) == ("fresh teacher", "train")


@pytest.mark.parametrize("override", ["seed=1", "~baseline"])
def test_a_baseline_of_the_same_architecture_is_not_exported_again(override: str, tmp_path: Path) -> None:
    plan = rehearsal(write_recipes(tmp_path), override)
    assert [step.stage for step in plan.steps] == ["distill", "prune", "qat", "export"]
    assert plan.baselines == {"export": plan.pipeline["export"]}


@pytest.mark.parametrize(
    ("step", "about", "told"),
    [
        ("tiny/prune", None, "tiny.yaml:12:3: stages.prune: no"),
        ("tiny/distill", RecipeRef(recipe="teacher.yaml"), "tiny.yaml:10:16: stages.distill.teachers.0: no"),
        ("tiny/distill", RecipeRef(recipe="other.yaml"), "tiny.yaml:8:3: stages.distill: no"),
        (
            "tiny/export of the baseline",
            None,
            "tiny.yaml:20:3: stages.export: no (in the export of the baseline)",
        ),
        ("", None, "tiny.yaml:20:3: stages.export: no"),
    ],
)
def test_an_error_is_blamed_on_the_value_or_on_the_stage(
    step: str, about: object, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_recipes(tmp_path, *OTHER_ARCHITECTURE)
    monkeypatch.chdir(tmp_path)
    plan = rehearsal(Path("tiny.yaml"))
    assert str(blame(plan, StageError("no", step=step, about=about))) == told
    assert TINY.splitlines()[11] == "  prune:"
