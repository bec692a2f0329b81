from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import pytest

from mcomp.recipe.build import load_recipe
from mcomp.scheduler import Scheduler
from mcomp.store.store import Store
from tests.mcomp.scheduler.runs import MakePlan, execute, last_ledger, statuses
from tests.mcomp.voices import Quiet

ALL = ["fit", "more", "export", "export of the baseline"]


def test_each_step_is_computed_once_and_then_found(plan: MakePlan, store: Store) -> None:
    first, second = execute(plan(), store), execute(plan(), store)
    assert statuses(first.ledger) == [f"{stage} computed" for stage in ALL]
    assert statuses(second.ledger) == [f"{stage} hit" for stage in ALL]
    assert first.exit_code == second.exit_code == 0
    assert (
        first.files
        == second.files
        == {"export": store.artifact_folder(first.ledger.rows[2].key) / "files/model.onnx"}
    )
    without = {"status", "served"}
    assert [row.model_dump(exclude=without) for row in first.ledger.rows] == [
        row.model_dump(exclude=without) for row in second.ledger.rows
    ]


def test_a_run_of_hits_makes_no_executor(plan: MakePlan, store: Store) -> None:
    execute(plan(), store)
    scheduler = Scheduler(plan(), store, Quiet())
    scheduler.execute()
    assert "executor" not in vars(scheduler)


def test_a_longer_pipeline_computes_only_what_is_new(plan: MakePlan, store: Store) -> None:
    execute(plan(), store)
    longer = plan("  export:", "  last: {type: toy.fit}\n  export:")
    assert statuses(execute(longer, store).ledger) == [
        "fit hit", "more hit", "last computed", "export computed", "export of the baseline hit",
    ]  # fmt: skip


def test_who_waits_says_for_which_step_and_for_whom(plan: MakePlan, store: Store) -> None:
    key, reporter = plan().steps[0].key, Quiet()
    told = Event()
    reporter.log = lambda message: (reporter.said.append(message), told.set())  # type: ignore[method-assign, assignment, return-value]
    with store.lease(key, pytest.fail):
        waiting = Thread(target=execute, args=(plan(), Store(store.root), reporter))
        waiting.start()
        assert told.wait(60)
    waiting.join(60)
    said = reporter.said[0]
    expected = rf"toy/fit: waiting for process {os.getpid()} on .+ \(since .+\), which works on {key[:12]}"
    assert re.fullmatch(expected, said)
    assert statuses(last_ledger(store)) == [f"{stage} computed" for stage in ALL]


def test_what_another_process_finished_while_this_one_waited_is_a_hit(
    plan: MakePlan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Store(store.root)

    @contextmanager
    def late_lease(key: str, on_wait: Callable[[str], None]) -> Iterator[None]:
        execute(plan(), other)
        yield

    monkeypatch.setattr(store, "lease", late_lease)
    assert statuses(execute(plan(), store).ledger) == [f"{stage} hit" for stage in ALL]


def test_what_another_process_measures_meanwhile_is_not_measured_at_the_same_time(
    plan: MakePlan, store: Store
) -> None:
    """Two that measure at once would disturb each other."""
    planned, reporter, told = plan(), Quiet(), Event()
    key = execute(planned, store).ledger.rows[2].key
    (figures,) = (path for path in store.glob(f"measurements/{key}/*") if path.name != "cost.json")
    taken = figures.read_bytes()
    figures.unlink()
    reporter.log = lambda message: (reporter.said.append(message), told.set())  # type: ignore[method-assign, assignment, return-value]
    with store.lease(key, pytest.fail):
        waiting = Thread(target=execute, args=(planned, Store(store.root), reporter))
        waiting.start()
        assert told.wait(60)
        figures.write_bytes(taken)
    waiting.join(60)
    assert len(reporter.said) == 1
    assert reporter.said[0].startswith("toy/export: waiting for process ")


def test_rows_say_what_a_model_and_a_file_are(plan: MakePlan, store: Store) -> None:
    ledger = execute(plan(), store).ledger
    fit, export = ledger.rows[0], ledger.rows[2]
    assert (fit.recipe, fit.type, fit.facts) == ("toy", "toy.fit", {"by": 1.0})
    assert (fit.figures.parameters, fit.figures.macs) == (9, 6)
    assert fit.seconds > 0
    assert fit.peak_memory_bytes
    assert fit.figures.size_bytes == sum(
        path.stat().st_size for path in (store.artifact_folder(fit.key) / "model").iterdir()
    )
    assert export.served is not None
    assert export.served.size_bytes == export.figures.size_bytes
    assert (fit.served, ledger.rows[1].served) == (None, None)
    assert (ledger.metric, ledger.direction, ledger.status) == ("accuracy", "higher", "done")


def test_the_resolved_recipe_is_kept_with_the_run(plan: MakePlan, store: Store) -> None:
    outcome = execute(plan(overrides=("seed=7",)), store)
    assert load_recipe(outcome.run.recipe_file).recipe.seed == 7
    assert outcome.ledger.overrides == ("seed=7",)


def test_the_ledger_is_kept_after_each_step(plan: MakePlan, store: Store) -> None:
    seen = []

    class Watching(Quiet):
        def step_started(self, step: Any, number: int, total: int) -> None:
            if number > 1:
                seen.append((last_ledger(store).status, statuses(last_ledger(store))))

    execute(plan(), store, Watching())
    computed = [f"{stage} computed" for stage in ALL]
    assert seen == [("interrupted", computed[:number]) for number in (1, 2, 3)]


def test_events_tell_when_each_step_started_and_ended(plan: MakePlan, store: Store) -> None:
    first, *events = execute(plan(), store).run.events()
    assert (first["event"], first["keys"]) == ("run started", [step.key for step in plan().steps])
    told = [(event["event"], event["step"]) for event in events]
    names = [f"toy/{stage}" for stage in ALL]
    assert told == [(kind, name) for name in names for kind in ("step started", "step ended")]
