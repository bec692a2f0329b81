"""Figures of a stage's parts, one after the other, each kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mcomp.errors import RecipeError, StageError
from mcomp.plan import Plan, make_plan
from mcomp.recipe.build import load_recipe
from mcomp.scheduler import Scheduler
from mcomp.sensitivity.measure import measured
from mcomp.sensitivity.needs import before, measurable
from mcomp.sensitivity.record import Asked, Sensitivity
from mcomp.store.store import Store
from tests.mcomp import toys  # noqa: F401  registers the toy stages
from tests.mcomp.sensitivity.toys import RECIPE, ToyShift
from tests.mcomp.voices import Quiet

ALL = [(f"class {number}", level) for number in range(3) for level in (0.0, 100.0)]


@pytest.fixture(autouse=True)
def nothing_measured() -> Iterator[None]:
    yield
    ToyShift.measured.clear()
    ToyShift.stops_at = None


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "toy.yaml").write_text(RECIPE)
    return make_plan(load_recipe(tmp_path / "toy.yaml", ()))


@pytest.fixture
def store(tmp_path: Path, plan: Plan) -> Store:
    """A store with what the stage needs."""
    store = Store(tmp_path / "store")
    Scheduler(before(plan, measurable(plan, "shift")), store, Quiet()).execute()
    return store


def found(plan: Plan, store: Store, asked: Asked) -> Sensitivity:
    return measured(measurable(plan, "shift"), store, Quiet(), asked)


def test_the_steps_before_are_run_and_not_the_stage_itself(plan: Plan, store: Store) -> None:
    (step,) = before(plan, measurable(plan, "shift")).steps
    assert step.stage == "fit"
    assert store.find(step.key) is not None
    assert store.find(plan.pipeline["shift"]) is None


def test_the_cost_is_what_the_metric_drops_by(plan: Plan, store: Store) -> None:
    result = found(plan, store, Asked("task", 0.005))
    assert result.reference is not None
    for each in result.costs:
        assert each.cost == pytest.approx(result.reference - each.value, abs=1e-6)
    assert {each.cost for each in result.costs if each.level == 0} == {0.0}
    # With 100 more for one class every sample is of that class, and each class has a third.
    assert {round(each.value, 4) for each in result.costs if each.level == 100} == {0.3333}
    assert result.varies == "shift"


def test_without_labels_the_cost_is_the_noise_over_the_signal(plan: Plan, store: Store) -> None:
    result = found(plan, store, Asked("sqnr", 20.0, samples=5))
    assert result.reference is None
    assert result.limit == pytest.approx(0.1)
    assert result.samples == 5
    assert result.of("class 0")[0].value == 140
    assert all(each.cost > 1 for each in result.costs if each.level == 100)


def test_what_was_interrupted_goes_on_and_gives_the_same(plan: Plan, store: Store) -> None:
    whole = found(plan, Store(store.root), Asked("task", 0.005))
    assert ToyShift.measured == ALL
    ToyShift.measured.clear()
    asked = Asked("task", 0.005, samples=12)  # another name in the store: the same samples, measured anew
    ToyShift.stops_at = 2
    with pytest.raises(KeyboardInterrupt):
        found(plan, store, asked)
    ToyShift.stops_at = None
    resumed = found(plan, store, asked)
    assert ToyShift.measured == ALL  # each once, over both tries
    assert resumed.costs == whole.costs


def test_the_patch_has_what_every_part_bears(plan: Plan, store: Store) -> None:
    loose, strict = (found(plan, store, Asked("task", limit)) for limit in (1.0, -1.0))
    assert loose.patch == {"classes": [0, 1, 2]}
    assert strict.patch == {}
    assert strict.said == "0 classes bear it"


def test_levels_are_handed_to_the_stage(plan: Plan, store: Store) -> None:
    result = found(plan, store, Asked("task", 0.005, levels=(1.0,)))
    assert {each.level for each in result.costs} == {1.0}


def test_a_figure_that_is_not_finite_names_the_part(
    plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcomp.sensitivity.figures.outputs_sqnr_db", lambda *sides: float("nan"))
    with pytest.raises(StageError, match="class 0"):
        found(plan, store, Asked("sqnr", 20.0))


def test_a_stage_without_parts_is_refused_before_anything_runs(plan: Plan) -> None:
    with pytest.raises(RecipeError, match=r"toy\.fit has no parts .* choose shift"):
        measurable(plan, "fit")
    with pytest.raises(RecipeError, match="did you mean 'shift'"):
        measurable(plan, "shaft")
