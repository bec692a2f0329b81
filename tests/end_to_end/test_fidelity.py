"""A task whose targets are what the baseline says: planned, computed, measured, judged, checked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mcomp.check.recipe import check
from mcomp.data.following import FollowingData
from mcomp.errors import RecipeError
from mcomp.executor import Executor
from mcomp.plan import Origin, Plan, make_plan
from mcomp.recipe.build import load_recipe
from mcomp.scheduler import Outcome, Scheduler
from mcomp.store.store import Store
from tests.mcomp.toys import RECIPE, ToyPoints
from tests.mcomp.voices import Quiet

TEACHER = RECIPE.replace("name: toy", "name: teacher").split("  more:")[0]
FOLLOWING = RECIPE.replace(
    "data: {type: toy.points}",
    "data: {type: toy.points}\nbaseline: {recipe: teacher.yaml}\ntask: {type: fidelity, by: agreement}",
)


def planned(folder: Path, text: str = FOLLOWING, teacher: str = TEACHER) -> Plan:
    (folder / "teacher.yaml").write_text(teacher)
    (folder / "toy.yaml").write_text(text)
    return make_plan(load_recipe(folder / "toy.yaml"))


def run(plan: Plan, folder: Path) -> Outcome:
    return Scheduler(plan, Store(folder / "store"), Quiet()).execute()


def test_the_baseline_agrees_with_itself_and_the_result_is_judged_against_it(tmp_path: Path) -> None:
    text = FOLLOWING + "require: {accuracy_drop: {max: 1.0}, accuracy: {min: 1.1}}\n"
    ledger = run(planned(tmp_path, text), tmp_path).ledger
    assert (ledger.metric, ledger.direction) == ("agreement", "higher")
    assert ledger.baseline is not None
    assert ledger.baseline.test == 1
    served = next(row.served for row in ledger.rows if row.served)
    assert served.metric_drop == pytest.approx(1 - served.test)
    assert served.per_class == ()
    assert [(each.what, each.met) for each in ledger.require] == [
        ("accuracy", False),
        ("accuracy_drop", True),
    ]


def test_metrics_on_validation_are_agreement_with_the_baseline(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    ledger = run(plan, tmp_path).ledger
    executor = Executor(Store(tmp_path / "store"), Quiet())
    step = plan.step(plan.pipeline["fit"])
    points = executor.loaded_data(step.recipe).split("validation").batch(torch.arange(12)).inputs
    assert step.target is not None
    with torch.no_grad():
        said, wanted = (
            executor.model(source).module(**points).argmax(1) for source in (step.key, step.target)
        )
    expected = float((said == wanted).double().mean())
    row = next(row for row in ledger.rows if row.stage == "fit" and row.recipe == "toy")
    assert row.figures.validation == pytest.approx(expected)


def test_the_baseline_is_asked_once_for_all_steps(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    run(plan, tmp_path)
    executor = Executor(Store(tmp_path / "store"), Quiet())
    followed = {id(executor.data_of(plan.step(plan.pipeline[name]))) for name in ("fit", "more")}
    assert len(followed) == 1
    assert isinstance(executor.data_of(plan.step(plan.pipeline["fit"])), FollowingData)


def test_another_baseline_is_in_the_key_of_every_step(tmp_path: Path) -> None:
    before = planned(tmp_path)
    after = planned(tmp_path, teacher=TEACHER.replace("by: 1.0", "by: 2.0"))
    assert all(before.pipeline[name] != after.pipeline[name] for name in before.pipeline)
    plain = planned(tmp_path, FOLLOWING.replace("task: {type: fidelity, by: agreement}\n", ""))
    assert all(before.pipeline[name] != plain.pipeline[name] for name in before.pipeline)
    assert plain.step(plain.pipeline["fit"]).target is None


def test_the_steps_of_the_baseline_come_first(tmp_path: Path) -> None:
    labels = [step.label for step in planned(tmp_path).steps]
    assert labels[0] == "teacher/fit"
    assert sorted(labels[1:]) == ["toy/export", "toy/export of the baseline", "toy/fit", "toy/more"]


def test_without_a_baseline_it_is_the_trained_model_that_the_pipeline_starts_from(tmp_path: Path) -> None:
    text = FOLLOWING.replace("baseline: {recipe: teacher.yaml}\n", "").replace(
        "{type: toy.net}", "{type: toy.net, checkpoint: {recipe: teacher.yaml}}"
    )
    plan = planned(tmp_path, text)
    teacher = next(step.key for step in plan.steps if step.label == "teacher/fit")
    assert {plan.step(key).target for key in plan.pipeline.values()} == {teacher}
    assert run(plan, tmp_path).ledger.status == "done"


def test_with_no_trained_model_at_all_it_is_a_mistake_of_the_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="fidelity compares with a trained model") as caught:
        planned(tmp_path, FOLLOWING.replace("baseline: {recipe: teacher.yaml}\n", ""))
    (problem,) = caught.value.problems
    assert (problem.path, problem.where) == ("task", f"{tmp_path / 'toy.yaml'}:5:7")


def test_data_without_labels_needs_a_task_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = replace(ToyPoints().facts(), labelled=False)
    monkeypatch.setattr(ToyPoints, "facts", lambda self: facts)
    with pytest.raises(RecipeError, match=r"toy\.points has no labels.*write task: \{type: fidelity\}"):
        planned(tmp_path, RECIPE)


def test_check_rehearses_it_with_a_fresh_model_in_place_of_the_teacher(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    findings = check(plan.loaded, plan, Store(tmp_path / "store"), lambda said: None)
    assert [row.stage for row in findings.rows] == ["fit", "more", "export"]
    assert findings.untrained == ("teacher/fit",)
    assert [label.rpartition("/")[2] for label in findings.unexported] == ["export of the baseline"]


def test_a_run_is_repeated_from_what_it_kept(tmp_path: Path) -> None:
    outcome = run(planned(tmp_path), tmp_path)
    again = make_plan(load_recipe(outcome.run.folder / "recipe.yaml"))
    assert {step.key for step in again.steps} == {row.key for row in outcome.ledger.rows}
    keys = json.loads(json.dumps([dict(step.key_json) for step in again.steps]))
    assert all(isinstance(step.target, str | Origin | None) for step in again.steps)
    assert ["target" in key for key in keys].count(False) == 1
