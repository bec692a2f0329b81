from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from mcomp.errors import StageError
from mcomp.plan import Plan, make_plan
from mcomp.recipe.build import load_recipe
from mcomp.report.plan import PlannedStep, plan_table, planned_steps, summary
from mcomp.scheduler import Scheduler, set_aside
from mcomp.store.store import Store
from tests.mcomp.toys import RECIPE
from tests.mcomp.voices import Quiet

MakePlan = Callable[..., Plan]

TAUGHT = """\
version: 1
name: taught
model: {type: toy.net}
data: {type: toy.points}
stages:
  fit: {type: toy.fit, teachers: [{recipe: toy.yaml}]}
  more: {type: toy.fit, by: 0.5, teachers: [{recipe: toy.yaml}]}
"""
BROKEN = RECIPE.replace("more: {type: toy.fit, by: 0.5}", "more: {type: toy.broken}")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def plan(tmp_path: Path) -> MakePlan:
    def plan(*overrides: str, text: str = RECIPE, name: str = "toy") -> Plan:
        path = tmp_path / f"{name}.yaml"
        path.write_text(text)
        return make_plan(load_recipe(path, overrides))

    return plan


def run(plan: Plan, store: Store) -> None:
    Scheduler(plan, store, Quiet()).execute()


def printed(plan: Plan, store: Store, width: int = 120) -> str:
    """Return what `mcomp plan` prints."""
    console = Console(width=width, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(plan_table(plan, store))
    return capture.get()


def reasons(steps: list[PlannedStep]) -> list[tuple[str, ...]]:
    """Return the reasons of each step."""
    return [step.reasons for step in steps]


def test_a_recipe_that_never_ran_has_no_times_and_says_so(plan: MakePlan, store: Store) -> None:
    steps = planned_steps(plan(), store)
    assert reasons(steps) == [("never run",)] * 4
    assert printed(plan(), store).splitlines()[-1].strip() == "4 steps, 4 to do"
    assert not store.root.exists()


def test_what_ran_is_in_the_store_with_its_time(plan: MakePlan, store: Store) -> None:
    run(plan(), store)
    steps = planned_steps(plan(), store)
    assert all(step.stored and not step.reasons and step.seconds for step in steps)
    assert "to do (" not in printed(plan(), store)


def test_a_changed_step_says_what_changed_and_those_behind_it_say_where(plan: MakePlan, store: Store) -> None:
    run(plan(), store)
    changed = planned_steps(plan("stages.more.by=0.25"), store)
    assert reasons(changed) == [(), ("by: 0.5 -> 0.25",), ("its input changed (see step 2)",), ()]
    assert changed[1].seconds == planned_steps(plan(), store)[1].seconds


def test_a_result_that_several_steps_use_says_which(plan: MakePlan, store: Store) -> None:
    plan()
    steps = planned_steps(plan(text=TAUGHT, name="taught"), store)
    assert [(step.label, step.for_steps) for step in steps] == [
        ("toy/fit", (2,)),
        ("toy/more", (3, 4)),
        ("taught/fit", (4,)),
        ("taught/more", ()),
    ]
    assert "toy/more (shared by steps 3, 4)" in printed(plan(text=TAUGHT, name="taught"), store)


def test_a_result_that_was_set_aside_is_said_to_be_gone(plan: MakePlan, store: Store) -> None:
    run(plan(), store)
    set_aside(plan(), store)
    assert (
        reasons(planned_steps(plan(), store))
        == [("its former result was set aside, or is broken or gone",)] * 4
    )
    # With no result left to compare with, the next change cannot be named.
    assert planned_steps(plan("stages.fit.by=2.0"), store)[0].reasons == (
        "its former results are gone from the store",
    )


def test_a_step_that_failed_says_in_which_run(plan: MakePlan, store: Store) -> None:
    with pytest.raises(StageError):
        run(plan(text=BROKEN), store)
    steps = planned_steps(plan(text=BROKEN), store)
    assert steps[1].reasons == (f"it failed in {store.runs()[0]}",)
    assert steps[1].seconds is None


def test_the_newest_of_the_earlier_results_is_compared_with(plan: MakePlan, store: Store) -> None:
    for value in ("0.1", "0.2"):
        run(plan(f"stages.more.by={value}"), store)
    assert planned_steps(plan("stages.more.by=0.3"), store)[1].reasons == ("by: 0.2 -> 0.3",)


def test_a_broken_ledger_hides_no_other(plan: MakePlan, store: Store) -> None:
    run(plan(), store)
    run(plan("stages.more.by=0.2"), store)
    (store.root / "runs" / store.runs()[0] / "ledger.json").write_text("{")
    assert planned_steps(plan("stages.more.by=0.3"), store)[1].reasons == ("by: 0.5 -> 0.3",)


def test_times_add_up_and_what_is_not_known_is_counted() -> None:
    line = {"label": "", "type": "", "key": "", "reasons": (), "for_steps": ()}
    steps = [
        PlannedStep(number=number, stored=stored, seconds=time, **line)
        for number, (stored, time) in enumerate([(True, 50.0), (False, 100.0), (False, 30.0), (False, None)])
    ]
    assert summary(steps) == "4 steps, 3 to do, about 2 min 10 s and 1 of unknown length"
    assert summary(steps[:3]) == "3 steps, 2 to do, about 2 min 10 s"
    assert summary(steps[:1]) == "1 steps, 0 to do"


@pytest.mark.parametrize("width", [40, 80, 200])
def test_what_a_recipe_says_cannot_steer_the_terminal(width: int, plan: MakePlan, store: Store) -> None:
    run(plan(), store)
    hostile = RECIPE.replace("{type: toy.export}", '{type: toy.export, name: "\\e[31m[bold]red"}')
    text = printed(plan(text=hostile), store, width)
    assert "\x1b" not in text
    assert "[bold]red" in text.replace("\n", "").replace(" ", "")
