from __future__ import annotations

from typing import Any

import pytest

from mcomp.store.store import Store
from mcomp.store.verify import examined, items
from tests.mcomp.scheduler.runs import MakePlan, damage, execute, keys, remove, statuses
from tests.mcomp.store.protocols import DEAD
from tests.mcomp.voices import Quiet
from tests.tiny import files_below, unfinished

ALL = ["fit", "more", "export", "export of the baseline"]


def test_a_result_that_goes_while_a_run_needs_it_is_made_again(plan: MakePlan, store: Store) -> None:
    class Removing(Quiet):
        def step_started(self, step: Any, number: int, total: int) -> None:
            if number == 2 and not self.said:
                remove(store, plan().steps[0].key)

    reporter = Removing()
    outcome = execute(plan(), store, reporter)
    assert statuses(outcome.ledger) == [f"{stage} computed" for stage in ALL]
    assert reporter.said[0] == "what was broken is made again"


def test_a_run_is_under_way_until_it_ends(plan: MakePlan, store: Store) -> None:
    seen = []

    class Looking(Quiet):
        def step_started(self, step: Any, number: int, total: int) -> None:
            seen.append(store.run(store.runs()[0]).is_under_way)

    outcome = execute(plan(), store, Looking())
    assert seen == [True] * len(ALL)
    assert not outcome.run.is_under_way


def test_a_broken_model_is_set_aside_and_made_again_within_the_run(plan: MakePlan, store: Store) -> None:
    first = execute(plan(), store)
    before = {key: files_below(store.artifact_folder(key) / "model") for key in keys(first)[:2]}
    exported = first.files["export"].read_bytes()
    damage(store.artifact_folder(keys(first)[0]) / "model" / "weights.safetensors")
    remove(store, *keys(first)[1:])
    reporter = Quiet()
    second = execute(plan(), store, reporter)
    assert statuses(second.ledger) == [f"{stage} computed" for stage in ALL]
    assert before == {key: files_below(store.artifact_folder(key) / "model") for key in keys(first)[:2]}
    assert second.files["export"].read_bytes() == exported
    assert [path.name for path in (store.root / "quarantine").iterdir()] == [f"{keys(first)[0]}-1"]
    assert reporter.said[0] == "what was broken is made again"


def test_results_that_changed_places_are_set_aside_and_made_again(plan: MakePlan, store: Store) -> None:
    first = execute(plan(), store)
    before = {key: files_below(store.artifact_folder(key)) for key in keys(first)}
    one, other = map(store.artifact_folder, keys(first)[:2])
    one.rename(store.root / "third")
    other.rename(one)
    (store.root / "third").rename(other)
    assert [examined(store, item, move=False).state for item in items(store)].count("broken") == 2
    assert statuses(execute(plan(), store).ledger)[:2] == ["fit computed", "more computed"]
    assert before == {key: files_below(store.artifact_folder(key)) for key in keys(first)}
    assert {path.name for path in (store.root / "quarantine").iterdir()} == {
        f"{key}-1" for key in keys(first)[:2]
    }


def test_what_a_killed_run_left_of_a_result_that_is_there_goes_with_the_next_run(
    plan: MakePlan, store: Store
) -> None:
    first = execute(plan(), store)
    for name in (keys(first)[0], first.run.id):
        (store.root / "work" / f"{name}-{DEAD}-00000000" / "scratch").mkdir(parents=True)
    assert statuses(execute(plan(), store).ledger) == [f"{stage} hit" for stage in ALL]
    assert unfinished(store.root) == []


@pytest.mark.parametrize("position", [2, 3])
def test_a_broken_export_is_made_again_though_all_its_figures_are_known(
    position: int, plan: MakePlan, store: Store
) -> None:
    first = execute(plan(), store)
    files = {key: store.artifact_folder(key) / "files" / "model.onnx" for key in keys(first)}
    exported = files[keys(first)[position]].read_bytes()
    damage(files[keys(first)[position]])
    second = execute(plan(), store)
    if position == 2:  # the baseline's file is only opened to be measured
        assert statuses(second.ledger)[2] == "export computed"
        assert second.files["export"].read_bytes() == exported
        assert second.ledger.rows[2].served == first.ledger.rows[2].served
    assert second.ledger.status == "done"


def test_a_report_that_is_broken_is_made_again(plan: MakePlan, store: Store) -> None:
    first = execute(plan(), store)
    damage(store.artifact_folder(keys(first)[1]) / "report.json")
    assert statuses(execute(plan(), store).ledger)[:3] == ["fit hit", "more computed", "export hit"]
