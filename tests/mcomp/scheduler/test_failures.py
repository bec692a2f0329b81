from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from mcomp.errors import McompError, StageError, StoreFull
from mcomp.executor import Executor
from mcomp.measure.runtime import Exported
from mcomp.store.store import Store
from tests.mcomp.scheduler.runs import MakePlan, execute, last_ledger, statuses
from tests.mcomp.voices import Quiet
from tests.tiny import artifacts, unfinished

FULL = "; make room and run again: what was published before is intact"


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        ("unforeseen", StageError, "toy/more: ZeroDivisionError: half way"),
        ("end of file", StageError, "toy/more: EOFError: no more"),
        ("stage", StageError, "toy/more: fc: cannot do it"),
        ("full", StoreFull, f"toy/more: the disk is full ([Errno 28] No space left on device){FULL}"),
    ],
)
def test_a_failing_stage_names_its_step_and_leaves_nothing(
    error: str, raised: type[McompError], message: str, plan: MakePlan, store: Store
) -> None:
    broken = plan("more: {type: toy.fit, by: 0.5}", f"more: {{type: toy.broken, error: {error}}}")
    for _ in range(2):  # a failure is not kept: it is tried again
        with pytest.raises(raised, match=re.escape(message)):
            execute(broken, store)
        assert len(artifacts(store.root)) == 1
        assert unfinished(store.root) == []
        ledger = last_ledger(store)
        assert ledger.status == "failed"
        assert ledger.rows[-1].status == "failed"
        assert ledger.rows[-1].error == message
        assert (ledger.baseline, ledger.require) == (None, ())


def test_the_traceback_of_what_was_not_foreseen_is_in_the_events(plan: MakePlan, store: Store) -> None:
    reporter = Quiet()
    with pytest.raises(StageError):
        execute(plan("more: {type: toy.fit, by: 0.5}", "more: {type: toy.broken}"), store, reporter)
    run = store.run(store.runs()[0])
    failed, kept = run.events()[-2:]
    assert (failed["event"], failed["step"]) == ("step failed", "toy/more")
    assert "in run" in kept["text"]
    assert "ZeroDivisionError: half way" in kept["text"]
    assert reporter.said == [f"the traceback is in {run.folder / 'events.jsonl'}"]


def test_what_a_stage_raises_on_purpose_needs_no_traceback(plan: MakePlan, store: Store) -> None:
    reporter = Quiet()
    with pytest.raises(StageError):
        execute(
            plan("more: {type: toy.fit, by: 0.5}", "more: {type: toy.broken, error: stage}"), store, reporter
        )
    assert reporter.said == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{type: toy.net}", "{type: toy.net, breaks: true}", "toy/fit: ZeroDivisionError: no network"),
        ("{type: toy.points}", "{type: toy.points, breaks: true}", "toy/fit: KeyError: 'no points'"),
    ],
)
def test_models_and_data_that_raise_are_blamed_on_the_step(
    old: str, new: str, message: str, plan: MakePlan, store: Store
) -> None:
    with pytest.raises(StageError, match=re.escape(message)):
        execute(plan(old, new), store)
    assert artifacts(store.root) == []


def test_a_stage_that_changed_nothing_fails(plan: MakePlan, store: Store) -> None:
    with pytest.raises(StageError, match="toy/more: the stage changed nothing"):
        execute(plan("more: {type: toy.fit, by: 0.5}", "more: {type: toy.idle}"), store)


def test_a_stage_that_says_why_it_changed_nothing_does_not_fail(plan: MakePlan, store: Store) -> None:
    idle = plan("more: {type: toy.fit, by: 0.5}", "more: {type: toy.idle, reason: nothing to do}")
    assert execute(idle, store).ledger.rows[1].facts == {"unchanged": "nothing to do"}


def test_an_interrupted_run_says_so_and_leaves_nothing_unfinished(plan: MakePlan, store: Store) -> None:
    broken = plan("more: {type: toy.fit, by: 0.5}", "more: {type: toy.broken, error: interrupt}")
    with pytest.raises(KeyboardInterrupt):
        execute(broken, store)
    assert last_ledger(store).status == "interrupted"
    assert statuses(last_ledger(store)) == ["fit computed"]
    assert unfinished(store.root) == []


def test_an_export_that_cannot_be_measured_does_not_hide_why(
    plan: MakePlan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bounds of the second export cannot be judged: its figures are not there."""
    both = plan(
        "  export: {type: toy.export}",
        "  export: {type: toy.export}\n  other: {type: toy.export, name: other.onnx}",
        ("+require.accuracy={min: 0, of: other}",),
    )
    serve = Executor.serve

    def fails_on_other(self: Executor, recipe: Any, scratch: Path, file: Exported, baseline: Exported) -> Any:
        if file.file.name == "other.onnx":
            raise StageError("cannot be measured")
        return serve(self, recipe, scratch, file, baseline)

    monkeypatch.setattr(Executor, "serve", fails_on_other)
    with pytest.raises(StageError, match="cannot be measured"):
        execute(both, store)
    assert last_ledger(store).status == "failed"
