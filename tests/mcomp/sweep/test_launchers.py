"""Jobs side by side, and jobs that die: what is started, what is computed, what is written down."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mcomp.errors import RecipeError
from mcomp.recipe import launchers
from mcomp.store.store import Store
from mcomp.store.sweeps import SweepRecord
from mcomp.sweep.jobs import Sweep
from mcomp.sweep.record import read_sweep
from mcomp.sweep.run import SweepRun
from mcomp.sweep.work import Work
from tests.mcomp.sweep.conftest import IMPORTS, computations
from tests.mcomp.sweep.hazards import HANGING, RECIPE
from tests.mcomp.voices import Quiet
from tests.tiny import environment, unfinished

Run = Callable[..., SweepRecord]
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
BY = "stages.more.by=0.25,0.5,0.75"


def ends(record: SweepRecord) -> list[tuple[str, int | None]]:
    return [(job.status, job.exit_code) for job in record.jobs]


def statuses(record: SweepRecord) -> list[list[str]]:
    return [[row.status for row in job.ledger.rows] if job.ledger else [] for job in record.jobs]


@pytest.mark.parametrize("options", [(), JOBLIB], ids=["basic", "joblib"])
def test_what_jobs_share_is_computed_once(options: tuple[str, ...], run: Run, store: Store) -> None:
    record = run(BY, *options)
    assert ends(record) == [("done", 0)] * 3
    assert computations(store) == ["hazard/fit", *["hazard/more"] * 3]
    assert statuses(record) == [["computed", "computed"], ["hit", "computed"], ["hit", "computed"]]
    assert [job.overrides for job in record.jobs] == [(f"stages.more.by={by}",) for by in (0.25, 0.5, 0.75)]


@pytest.mark.parametrize("folder", ["a'b", "{b}, [x]=1", "$HOME", "back\\slash"])
def test_the_store_of_a_sweep_may_have_any_name(
    folder: str, recipe: Callable[[str], Path], tmp_path: Path
) -> None:
    store = Store(tmp_path / folder)
    record = SweepRun(Sweep.resolve(recipe(""), (BY,)), store, Quiet(), IMPORTS).execute()
    assert ends(record) == [("done", 0)] * 3
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {folder}


@pytest.mark.parametrize("folder", ["${job}", "${oc.env:HOME}", "\\${c}"])
def test_the_store_of_a_sweep_is_no_reference(
    folder: str, recipe: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match="choose another folder with --store"):
        SweepRun(Sweep.resolve(recipe(""), (BY,)), Store(tmp_path / folder), Quiet(), IMPORTS).execute()


@pytest.mark.parametrize("options", [(), JOBLIB], ids=["basic", "joblib"])
def test_a_failing_step_that_jobs_share_is_started_once(
    options: tuple[str, ...], run: Run, store: Store
) -> None:
    last = "  last: {type: toy.fit, by: 1.0}\n"
    record = run("stages.more.hazard=fails", "stages.last.by=1,2,3", *options, added=last)
    assert computations(store) == ["hazard/fit", "hazard/more"]
    assert ends(record) == [("failed", 5), ("not started", 5), ("not started", 5)]
    error = "not started: it needs hazard/more, which failed in job 0"
    assert [job.error for job in record.jobs[1:]] == [error] * 2


def test_only_a_job_that_kills_its_process_again_is_said_to_be_killed(run: Run, tmp_path: Path) -> None:
    reporter = Quiet()
    hazards = "stages.more.hazard=none,killed,'killed once'"
    record = run(hazards, f"stages.more.folder={tmp_path}", *JOBLIB, reporter=reporter)
    assert ends(record) == [("done", 0), ("killed", 137), ("done", 0)]
    assert record.jobs[1].error == "the job was killed"
    assert "[1] was killed" in " ".join(reporter.warned)


def test_a_sweep_leaves_a_table_of_its_results(run: Run, store: Store) -> None:
    record = run("stages.more.hazard=none,fails", "seed=1")
    folder = store.sweep(record.sweep).folder
    with (folder / "results.csv").open(newline="") as file:
        good, bad = csv.DictReader(file)
    assert (good["stages.more.hazard"], good["seed"], good["status"], good["exit_code"]) == (
        "none", "1", "done", "0",
    )  # fmt: skip
    assert record.jobs[0].ledger is not None
    assert float(good["validation"]) == record.jobs[0].ledger.rows[-1].figures.validation
    assert bad["error"] == "hazard/more: cannot do it"
    listed = json.loads((folder / "results.json").read_text())["jobs"]
    assert [job["overrides"]["stages.more.hazard"] for job in listed] == ["none", "fails"]
    assert listed[0]["figures"]["parameters"] == 9
    assert store.sweeps() == [record.sweep]


def test_the_work_of_a_sweep_is_what_is_started_then(recipe: Callable[[str], Path], store: Store) -> None:
    sweep = Sweep.resolve(recipe(""), [BY, "seed=0,1"])
    assert Work(sweep, store).waves == [[0, 1], [2, 3, 4, 5]]


def test_a_launcher_that_is_not_installed_is_named_with_the_command_that_installs_it(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launchers, "is_installed", lambda module: False)
    with pytest.raises(RecipeError, match=r"joblib is not installed; pip install 'mcomp\[joblib\]'"):
        run(BY, *JOBLIB)
    assert store.runs() == []


def test_a_launcher_that_there_is_not_is_corrected(run: Run) -> None:
    with pytest.raises(RecipeError, match=r"no launcher 'joblip'; did you mean 'joblib'\?"):
        run(BY, "hydra/launcher=joblip")


def test_a_setting_that_the_launcher_does_not_have_is_a_mistake_of_the_command_line(run: Run) -> None:
    with pytest.raises(RecipeError, match=r"hydra\.launcher\.cores=2: the launcher joblib has no setting"):
        run(BY, "hydra/launcher=joblib", "hydra.launcher.cores=2")


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "hazard.yaml").write_text(RECIPE)
    (tmp_path / "wait").touch()
    command = [
        sys.executable, "-m", "mcomp", "run", "-m", "hazard.yaml", "--import", *IMPORTS, *JOBLIB, BY,
        "stages.more.hazard=waits", f"stages.more.folder={tmp_path}",
    ]  # fmt: skip
    store = Store(tmp_path / ".mcomp")
    started = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), start_new_session=True, stderr=subprocess.DEVNULL
    )
    try:
        while not list(tmp_path.glob(f"{HANGING}-*")):
            assert started.poll() is None
            time.sleep(0.02)
    finally:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()
    assert computations(store) == ["hazard/fit", "hazard/more"]
    (tmp_path / "wait").unlink()
    again = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert computations(store) == ["hazard/fit", *["hazard/more"] * 4]
    assert unfinished(store.root) == []
    names = {path.name for path in tmp_path.iterdir() if not path.name.startswith(HANGING)}
    assert names == {"hazard.yaml", ".mcomp"}
    assert read_sweep(store, store.sweeps()[1]).status == "running"
