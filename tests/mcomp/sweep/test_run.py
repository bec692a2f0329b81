from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from mcomp.errors import RecipeError
from mcomp.store.store import Store
from mcomp.store.sweeps import SweepRecord
from mcomp.sweep.jobs import Sweep
from mcomp.sweep.record import read_sweep
from mcomp.sweep.run import SweepRun
from tests.mcomp.toys import RECIPE, ToyFit
from tests.mcomp.voices import Quiet
from tests.tiny import files_below

Resolve = Callable[..., Sweep]
# The second of three jobs fails in a stage that the others do not have.
FAILING = "pipeline=[fit,more,export],[fit,bad,export],[fit,export]"
WITH_BAD = {"old": "  export:", "new": "  bad: {type: toy.broken, error: stage}\n  export:"}


@pytest.fixture
def resolve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Return the sweep of the toy recipe over some values; the current folder holds the recipe alone."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def resolve(*overrides: str, old: str = "", new: str = "") -> Sweep:
        assert old in RECIPE
        Path("toy.yaml").write_text(RECIPE.replace(old, new) if old else RECIPE)
        return Sweep.resolve(Path("toy.yaml"), overrides)

    return resolve


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def execute(sweep: Sweep, store: Store, reporter: Quiet | None = None) -> SweepRecord:
    return SweepRun(sweep, store, reporter or Quiet()).execute()


def computed(store: Store) -> Counter[str]:
    """Return how often each step was computed, over the ledgers of all runs."""
    rows = [row for run in store.runs() for row in store.run(run).read_ledger().rows]
    return Counter(row.stage for row in rows if row.status == "computed")


def test_shared_steps_are_computed_once_and_every_job_has_its_file(resolve: Resolve, store: Store) -> None:
    before = files_below(Path.cwd())
    record = execute(resolve("stages.more.by=0.25,0.5,0.75"), store)
    assert [job.status for job in record.jobs] == ["done"] * 3
    assert [job.overrides for job in record.jobs] == [
        (f"stages.more.by={by}",) for by in ("0.25", "0.5", "0.75")
    ]
    assert computed(store) == {"fit": 1, "export of the baseline": 1, "more": 3, "export": 3}
    files = [Path(job.files["export"]) for job in record.jobs]
    assert len({path.read_bytes() for path in files}) == 3
    assert before.items() <= files_below(Path.cwd()).items()
    assert len(files_below(Path.cwd())) == 1


def test_what_the_store_answers_is_not_started(
    resolve: Resolve, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = execute(resolve("stages.more.by=0.25,0.5"), store)
    runs = store.runs()
    reporter = Quiet()
    again = execute(resolve("stages.more.by=0.25,0.5,0.75"), store, reporter)
    assert reporter.said == ["2 of 3 jobs are in the store"]
    assert len(store.runs()) == len(runs) + 1
    assert [job.status for job in again.jobs] == ["done"] * 3
    assert [job.files for job in again.jobs[:2]] == [job.files for job in first.jobs]
    assert all(job.ledger and job.ledger.rows[2].served for job in again.jobs)

    def never(*arguments: object) -> None:
        raise AssertionError("it is in the store")

    monkeypatch.setattr(ToyFit, "run", never)
    assert [job.exit_code for job in execute(resolve("stages.more.by=0.25,0.5"), store).jobs] == [0, 0]


def test_a_job_that_fails_stops_no_other(resolve: Resolve, store: Store) -> None:
    record = execute(resolve(FAILING, **WITH_BAD), store)
    assert [job.status for job in record.jobs] == ["done", "failed", "done"]
    assert [job.exit_code for job in record.jobs] == [0, 5, 0]
    assert record.jobs[1].error == "toy/bad: fc: cannot do it"
    assert computed(store)["fit"] == 1
    assert record.status == "done"


def test_a_bug_in_a_job_stops_no_other(
    resolve: Resolve, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mcomp.scheduler import Scheduler

    found, calls = Scheduler.measure_exports, iter(range(9))

    def breaks_once(self: Scheduler) -> None:
        if next(calls) == 0:
            raise ZeroDivisionError("ours")
        found(self)

    monkeypatch.setattr(Scheduler, "measure_exports", breaks_once)
    record = execute(resolve("stages.more.by=0.25,0.5"), store)
    assert [(job.status, job.exit_code) for job in record.jobs] == [("failed", 1), ("done", 0)]
    assert record.jobs[0].error == "a bug in mcomp: ZeroDivisionError: ours"
    assert "Traceback" in capsys.readouterr().err


def test_a_shared_step_that_fails_is_tried_once(resolve: Resolve, store: Store) -> None:
    failing = resolve(
        "stages.last.by=1,2,3",
        old="more: {type: toy.fit, by: 0.5}",
        new="more: {type: toy.broken, error: stage}\n  last: {type: toy.fit}",
    )
    record = execute(failing, store)
    assert [job.exit_code for job in record.jobs] == [5, 5, 5]
    assert len(store.runs()) == 1
    assert record.jobs[1].error == "not started: it needs toy/more, which failed in job 0"


def test_a_requirement_that_a_job_misses_is_its_exit_code(resolve: Resolve, store: Store) -> None:
    sweep = resolve(
        "require.size_ratio.min=0.5,2.0", old="measure:", new="require: {size_ratio: {min: 1}}\nmeasure:"
    )
    for _ in range(2):
        record = execute(sweep, store)
        assert [(job.status, job.exit_code) for job in record.jobs] == [("done", 0), ("require not met", 3)]


def test_the_record_can_be_read_again_and_as_tables(resolve: Resolve, store: Store) -> None:
    record = execute(resolve(FAILING, **WITH_BAD), store)
    assert read_sweep(store, record.sweep) == record
    folder = store.root / "sweeps" / record.sweep
    assert len(json.loads((folder / "results.json").read_text())) >= 1
    lines = list(csv.reader((folder / "results.csv").read_text().splitlines()))
    assert len(lines) == 1 + len(record.jobs)


def test_a_recipe_that_changed_under_a_sweep_is_not_run(
    resolve: Resolve, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = resolve("stages.more.by=0.25,0.5")
    Path("toy.yaml").write_text(RECIPE.replace("by: 1.0", "by: 2.0"))
    record = execute(sweep, store)
    assert [job.exit_code for job in record.jobs] == [2, 2]
    assert "the recipe or its data changed since the sweep was planned" in record.jobs[0].error
    assert store.runs() == []


def test_an_interrupted_sweep_says_so_and_goes_on_where_it_was(
    resolve: Resolve, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = resolve("stages.more.by=0.25,0.5,0.75")
    run = ToyFit.run

    def interrupted(self: ToyFit, *arguments: object) -> object:
        if self.by == 0.5:
            raise KeyboardInterrupt
        return run(self, *arguments)  # type: ignore[arg-type] -- the stage's own signature

    with monkeypatch.context() as patched:
        patched.setattr(ToyFit, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            execute(sweep, store)
    assert read_sweep(store, store.sweeps()[0]).status == "interrupted"
    assert [job.status for job in execute(sweep, store).jobs] == ["done"] * 3
    assert computed(store) == {"fit": 1, "export of the baseline": 1, "more": 3, "export": 3}


# Before anything starts


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("stages.more.by=0.25,much",), "stages.more.by=much: must be a number, not 'much'"),
        (("stages.more.bi=1,2",), "unknown key; did you mean 'by'?"),
        (("seed=0,-1", "stages.more.by=1,x"), "seed=-1: must be at least 0"),
        (("seed=range(3,3)",), "gives no value to try"),
        (("seed=glob(*)",), "cannot be listed"),
        (("seed=0,1", "hydra/launcher=nobody"), "there is no launcher 'nobody'"),
        ((), "there is nothing to sweep over"),
    ],
)
def test_mistakes_in_values_are_told_before_the_first_job(
    overrides: tuple[str, ...], told: str, resolve: Resolve, store: Store
) -> None:
    with pytest.raises(RecipeError) as caught:
        resolve(*overrides)
    assert told in str(caught.value)
    assert not store.root.exists()


def test_the_mistakes_of_all_values_are_told_at_once(resolve: Resolve) -> None:
    with pytest.raises(RecipeError) as caught:
        resolve("seed=0,-1,-2", "stages.more.by=1,x")
    assert len(caught.value.problems) == 3


def test_a_store_with_a_quote_and_a_comma_in_its_path_is_no_trouble(resolve: Resolve, tmp_path: Path) -> None:
    record = execute(resolve("seed=0,1"), Store(tmp_path / "it's here, = [too]"))
    assert [job.status for job in record.jobs] == ["done", "done"]
