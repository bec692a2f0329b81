"""Processes that meet in one store: every result is whole, and shared work is done once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.concurrency.workload import NUM_JOBS, NUM_RESULTS, NUM_ROUNDS, NUM_RUNNERS, NUM_RUNS, NUM_SHARED
from tests.mcomp.store.protocols import in_memory

PATIENCE_SECONDS = 200


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory: what is tried here is what processes see, not the disk."""
    with in_memory() as folder:
        yield folder


def done(workload: str, folder: Path, seed: int = 0) -> dict[str, Any]:
    """Run a workload in a process without torch and return its figures."""
    command = [sys.executable, "-m", "tests.concurrency.workload", workload, str(folder / "store"), str(seed)]
    here = Path(__file__).parents[2]
    started = subprocess.Popen(
        command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, err = started.communicate(timeout=PATIENCE_SECONDS)
    except BaseException:
        os.killpg(started.pid, signal.SIGKILL)
        raise
    assert started.returncode == 0, f"seed {seed}: {err}"
    figures: dict[str, Any] = json.loads(out)
    print(f"{workload}, seed {seed}: {figures}")
    return figures


def test_sixteen_writers_of_one_key_leave_one_whole_result_each_time(folder: Path) -> None:
    assert done("writers", folder) == {"whole": NUM_ROUNDS, "names": NUM_ROUNDS, "left": []}


def test_a_reader_sees_a_result_whole_or_not_at_all(folder: Path) -> None:
    figures = done("readers", folder)
    assert figures["looks"] > NUM_RESULTS
    assert figures["left"] == []


def test_cleaning_while_runs_go_on_costs_no_run_its_results(folder: Path) -> None:
    figures = done("cleaners", folder)
    assert figures["runs"] == NUM_RUNNERS * NUM_RUNS
    assert figures["removed"] > 0
    assert (figures["results"], figures["left"]) == (0, [])


def share_work(folder: Path, seed: int) -> None:
    figures = done("jobs", folder, seed)
    assert (figures["right"], figures["published"]) == (NUM_JOBS, NUM_JOBS + NUM_SHARED), f"seed {seed}"
    assert figures["units"] <= 1.1 * figures["of"], f"seed {seed}"
    assert figures["left"] == [], f"seed {seed}"


def test_jobs_that_share_steps_compute_them_once_also_when_some_are_killed(folder: Path) -> None:
    share_work(folder, seed=0)


@pytest.mark.crash
@pytest.mark.parametrize("seed", range(1, 31))
def test_shared_steps_are_computed_once_whenever_jobs_are_killed(seed: int, folder: Path) -> None:
    share_work(folder, seed)
