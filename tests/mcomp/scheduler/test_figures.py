from __future__ import annotations

import pytest

from mcomp.scheduler import is_answered, set_aside
from mcomp.store.store import Store
from tests.mcomp.scheduler.runs import MakePlan, execute, files_below_names, keys, remove, statuses
from tests.mcomp.toys import ToyExport
from tests.mcomp.voices import Quiet

ALL = ["fit", "more", "export", "export of the baseline"]


# Figures


def test_figures_are_taken_once_for_the_same_bytes(plan: MakePlan, store: Store) -> None:
    first, second = Quiet(), Quiet()
    execute(plan(), store, first)
    execute(plan(), store, second)
    measuring = "measuring the exported file and the baseline's in turns"
    assert (first.said, second.said) == ([measuring], [])


def test_a_file_of_the_same_key_and_other_bytes_gets_figures_of_its_own(
    plan: MakePlan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = execute(plan(), store)
    remove(store, keys(first)[2])
    monkeypatch.setattr(ToyExport, "remark", "made on another machine")
    second = execute(plan(), store).ledger.rows[2]
    assert second.key == keys(first)[2]
    assert second.served is not None
    assert second.served.size_bytes == second.figures.size_bytes
    assert second.figures.size_bytes != first.ledger.rows[2].figures.size_bytes


def test_another_way_of_measuring_measures_again_and_computes_nothing(plan: MakePlan, store: Store) -> None:
    execute(plan(), store)
    again = execute(plan(overrides=("measure.rounds=4",)), store).ledger
    assert statuses(again) == [f"{stage} hit" for stage in ALL]
    assert again.rows[2].served is not None
    assert again.rows[2].served.latency[1].rounds == 4


def test_what_is_set_aside_is_computed_and_measured_again(plan: MakePlan, store: Store) -> None:
    first = execute(plan(), store)
    assert is_answered(plan(), store)
    set_aside(plan(), store)
    assert not is_answered(plan(), store)
    reporter = Quiet()
    second = execute(plan(), store, reporter)
    assert statuses(second.ledger) == [f"{stage} computed" for stage in ALL]
    assert len(reporter.said) == 1
    assert files_below_names(second) == files_below_names(first)
    assert len(list((store.root / "replaced").iterdir())) == len(ALL)


def test_a_store_answers_only_with_all_results_and_all_figures(plan: MakePlan, store: Store) -> None:
    assert not is_answered(plan(), store)
    outcome = execute(plan(), store)
    assert is_answered(plan(), store)
    assert not is_answered(plan(overrides=("measure.rounds=4",)), store)
    remove(store, keys(outcome)[0])
    assert not is_answered(plan(), store)


# Requirements


@pytest.mark.parametrize(("bound", "code"), [("{min: 0.9}", 0), ("{min: 1.1}", 3)])
def test_a_requirement_that_is_not_met_is_exit_code_3_at_every_run(
    bound: str, code: int, plan: MakePlan, store: Store
) -> None:
    bounded = plan(overrides=(f"+require.size_ratio={bound}",))
    outcomes = [execute(bounded, store) for _ in range(2)]
    assert [each.exit_code for each in outcomes] == [code, code]
    assert [each.ledger.require[0].met for each in outcomes] == [code == 0] * 2
    assert outcomes[1].files["export"].is_file()
    assert statuses(outcomes[1].ledger) == [f"{stage} hit" for stage in ALL]


def test_the_baseline_of_a_recipe_without_one_is_its_first_trained_model(
    plan: MakePlan, store: Store
) -> None:
    ledger = execute(plan(), store).ledger
    assert ledger.baseline is not None
    fit_file = store.artifact_folder(ledger.rows[3].key) / "files" / "model.onnx"
    assert ledger.baseline.size_bytes == fit_file.stat().st_size
    assert ledger.rows[2].served is not None
    assert ledger.rows[2].served.size_ratio == 1.0
