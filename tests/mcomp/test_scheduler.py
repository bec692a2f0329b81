from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from mcomp.errors import McompError, StageError, StoreFull
from mcomp.executor import Executor
from mcomp.measure.runtime import Exported
from mcomp.plan import Plan, make_plan
from mcomp.recipe.build import load_recipe
from mcomp.scheduler import Outcome, Scheduler, is_answered, set_aside
from mcomp.store.ledger import Ledger
from mcomp.store.store import Store
from mcomp.store.verify import examined, items
from tests.mcomp.store.faults import FaultyDisk
from tests.mcomp.store.protocols import DEAD
from tests.mcomp.toys import RECIPE, ToyExport
from tests.mcomp.voices import Quiet
from tests.tiny import artifacts, files_below, unfinished

MakePlan = Callable[..., Plan]


@pytest.fixture
def plan(tmp_path: Path) -> MakePlan:
    """Return the plan of the toy recipe with some of its text replaced."""

    def plan(old: str = "", new: str = "", overrides: tuple[str, ...] = ()) -> Plan:
        assert old in RECIPE
        path = tmp_path / "toy.yaml"
        path.write_text(RECIPE.replace(old, new) if old else RECIPE)
        return make_plan(load_recipe(path, overrides))

    return plan


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", on_problem=lambda message: None)


def execute(plan: Plan, store: Store, reporter: Quiet | None = None) -> Outcome:
    return Scheduler(plan, store, reporter or Quiet()).execute()


def statuses(ledger: Ledger) -> list[str]:
    return [f"{row.stage} {row.status}" for row in ledger.rows]


def last_ledger(store: Store) -> Ledger:
    return store.run(store.runs()[0]).read_ledger()


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


def remove(store: Store, *keys: str) -> None:
    for key in keys:
        store.disk.remove(store.artifact_folder(key))


GROWS = ("write", "append", "mkdir", "rename")
ALL = ["fit", "more", "export", "export of the baseline"]


# What is done, and what is not done again


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


# Failures

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


# A full disk


def test_a_full_disk_at_any_moment_is_said_and_the_next_run_finishes(plan: MakePlan, tmp_path: Path) -> None:
    planned, counting = plan(), FaultyDisk()
    whole = files_below_names(execute(planned, Store(tmp_path / "whole", counting)))
    growing = [at for at, name in enumerate(counting.effects) if name in GROWS]
    for position in growing[:: len(growing) // 12]:
        root = tmp_path / f"full-{position}"
        with pytest.raises(StoreFull, match="disk is full"):
            execute(planned, Store(root, FaultyDisk("full", position)))
        assert unfinished(root) == [], position
        earlier = Store(root)
        assert {examined(earlier, item, move=False).state for item in items(earlier)} <= {"ok"}, position
        assert files_below_names(execute(planned, earlier)) == whole, position


def test_a_step_without_room_for_its_result_is_not_started_and_the_others_are_kept(
    plan: MakePlan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.disk, "free_bytes", lambda folder: 100)
    reporter = Quiet()
    with pytest.raises(StoreFull, match=r"toy/more was not started: it needs about [\d,]+ bytes for the res"):
        execute(plan(), store, reporter)
    assert statuses(last_ledger(store)) == ["fit computed", "more failed"]
    assert unfinished(store.root) == []
    monkeypatch.undo()
    assert statuses(execute(plan(), store).ledger)[:2] == ["fit hit", "more computed"]


def test_a_model_that_is_made_anew_is_counted_when_it_is_made(
    plan: MakePlan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.disk, "free_bytes", lambda folder: 35)
    with pytest.raises(StoreFull, match="toy/fit was not started: it needs about 36 bytes for the result"):
        execute(plan(), store)
    assert unfinished(store.root) == []


def files_below_names(outcome: Outcome) -> dict[str, bytes]:
    """Return the exported files of a run."""
    return {name: path.read_bytes() for name, path in outcome.files.items()}


def test_a_disk_that_stays_full_does_not_hide_what_filled_it(
    plan: MakePlan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the event nor the ledger can be written then."""
    planned = plan("more: {type: toy.fit, by: 0.5}", "more: {type: toy.broken, error: stage}")

    def full(path: Path, *rest: Any) -> None:
        raise StoreFull(f"cannot write {path}: the disk is full")

    class Filling(Quiet):
        def step_started(self, step: Any, number: int, total: int) -> None:
            if number == 2:
                monkeypatch.setattr(store.disk, "put", full)

    append = store.disk.append

    def full_after_the_start(path: Path, data: bytes) -> None:
        if b"step failed" in data:
            full(path)
        append(path, data)

    monkeypatch.setattr(store.disk, "append", full_after_the_start)
    with pytest.raises(StageError, match="toy/more: fc: cannot do it"):
        execute(planned, store, Filling())


# Broken results


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


def keys(outcome: Outcome) -> list[str]:
    return [row.key for row in outcome.ledger.rows]


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
