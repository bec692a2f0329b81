"""A process that ends at the wrong moment: what was done stays done, and the file is the same in the end."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from mcomp.store.ledger import Ledger
from mcomp.store.store import Store
from tests.end_to_end.conftest import Finished
from tests.tiny import STEPS, mcomp, started, unfinished, write_recipes

PATIENCE_SECONDS = 120


def wait_for(step: str, store: Path, process: subprocess.Popen[str]) -> None:
    """Return when the last run of a store says that a step has started."""
    line = f'"event": "step started", "step": "{step}"'
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        logs = sorted(store.glob("runs/*/events.jsonl"), key=lambda path: path.stat().st_mtime)
        if logs and line in logs[-1].read_text():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    raise AssertionError(f"{step} did not start")


def end_in(step: str, number: signal.Signals, store: Path, moment_seconds: float = 0.1) -> tuple[int, str]:
    """Run the tiny recipe, and send a signal when a step has been at work for a moment.

    Return the exit code and what was said.
    """
    with started("run", "tiny.yaml", "--store", store.name, cwd=store.parent) as process:
        wait_for(step, store, process)
        time.sleep(moment_seconds)
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, said


def without(finished: Finished, folder: Path, *steps: str) -> Path:
    """Return a copy of the finished store in which some steps were not done yet."""
    write_recipes(folder)
    store = folder / "kept"
    shutil.copytree(finished.store, store)
    shutil.rmtree(store / "runs")
    (store / "runs").mkdir()
    for row in finished.ledger.rows:
        if f"{row.recipe}/{row.stage}" in steps:
            shutil.rmtree(store / "artifacts" / row.key[:2] / row.key)
            shutil.rmtree(store / "measurements" / row.key)
    return store


def last_ledger(store: Path) -> Ledger:
    kept = Store(store)
    return kept.run(kept.runs()[0]).read_ledger()


def hits(store: Path) -> list[str]:
    return [f"{row.recipe}/{row.stage}" for row in last_ledger(store).rows if row.status == "hit"]


def finish(store: Path, finished: Finished) -> None:
    """Run the same command again, and require the bytes of the run that nobody disturbed."""
    done = mcomp("run", "tiny.yaml", "--store", store.name, cwd=store.parent)
    assert done.returncode == 0, done.stderr
    assert (store / finished.model.relative_to(finished.store)).read_bytes() == finished.model.read_bytes()
    assert unfinished(store) == []
    assert last_ledger(store).status == "done"


def test_a_killed_run_goes_on_where_it_was_to_the_same_bytes(finished: Finished, tmp_path: Path) -> None:
    store = without(finished, tmp_path, "tiny/qat", "tiny/export")
    assert end_in("tiny/qat", signal.SIGKILL, store)[0] == -signal.SIGKILL
    finish(store, finished)
    assert hits(store) == [step for step in STEPS if step not in ("tiny/qat", "tiny/export")]


@pytest.mark.crash
@pytest.mark.parametrize("moment_seconds", [0.0, 0.05, 0.3, 0.9])
@pytest.mark.parametrize("step", STEPS)
def test_killed_in_any_step_a_run_finishes_to_the_same_bytes(
    step: str, moment_seconds: float, finished: Finished, tmp_path: Path
) -> None:
    store = without(finished, tmp_path, *STEPS[STEPS.index(step) :])
    end_in(step, signal.SIGKILL, store, moment_seconds)
    finish(store, finished)
    assert hits(store)[: STEPS.index(step)] == list(STEPS[: STEPS.index(step)])
