"""SIGINT and SIGTERM to a sweep whose jobs train in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mcomp.store.store import Store
from mcomp.sweep.record import read_sweep
from tests.crash.conftest import STORE, patience_seconds, results, write_long_recipes
from tests.tiny import environment, mcomp, unfinished

pytestmark = pytest.mark.crash

INT, TERM = signal.SIGINT, signal.SIGTERM
PATIENCE_SECONDS = 240
SWEEP = (
    "-m", "tiny.yaml", "--store", STORE, "pipeline=[distill]", "~require", "hydra/launcher=joblib",
    "hydra.launcher.n_jobs=2", "stages.distill.training.epochs=2,3",
)  # fmt: skip

# Imported by the jobs: each says when it trains, and takes its time there.
SLOW_TRAINING = """\
import os
import time
from pathlib import Path

from mcomp.training.update import Update

trained = Update.__call__
calls = iter(range(10**6))

def slowly(*arguments, **options):
    number = next(calls)
    if number == 20:
        Path(f"reached-{os.getpid()}").touch()
    if number >= 20:
        time.sleep(0.1)
    return trained(*arguments, **options)

Update.__call__ = slowly
"""


@pytest.fixture(scope="module")
def undisturbed_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the store of the sweep from the beginning to the end."""
    folder = tmp_path_factory.mktemp("sweep")
    write_long_recipes(folder)
    done = mcomp("run", *SWEEP, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / STORE


def started_training(folder: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """Start the sweep in a session of its own, and return it and its jobs' processes when both train."""
    write_long_recipes(folder)
    assert mcomp("run", "teacher.yaml", "--store", STORE, cwd=folder).returncode == 0
    (folder / "slow.py").write_text(SLOW_TRAINING)
    process = subprocess.Popen(
        [sys.executable, "-m", "mcomp", "run", *SWEEP, "--import", "slow"],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(reached := list(folder.glob("reached-*"))) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process, [int(path.name.partition("-")[2]) for path in reached]


def ended(process: subprocess.Popen[str]) -> str:
    """Return what a sweep said that ends within ten seconds, and all its processes with it."""
    since = time.monotonic()
    _, said = process.communicate(timeout=patience_seconds())
    print(f"out after {time.monotonic() - since:.2f} s")
    deadline = time.monotonic() + 2
    while is_there(process.pid):
        assert time.monotonic() < deadline, "a process is left"
        time.sleep(0.01)
    return said


def is_there(group: int) -> bool:
    """Return whether there is a process of a session's group."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


# A terminal and a service manager send to all processes, `kill` to one.
WAYS: dict[str, Callable[[int, int], None]] = {"to one": os.kill, "to all": os.killpg}


@pytest.mark.parametrize("number", [INT, TERM])
@pytest.mark.parametrize("way", WAYS)
def test_a_sweep_that_is_stopped_goes_on_where_each_of_its_jobs_was(
    way: str, number: signal.Signals, undisturbed_sweep: Path, tmp_path: Path
) -> None:
    process, _ = started_training(tmp_path)
    WAYS[way](process.pid, number)
    said = ended(process)
    assert process.returncode == 128 + number, said
    assert said.splitlines()[-1] == f"stopped by {number.name}"
    assert "Traceback" not in said
    kept = Store(tmp_path / STORE)
    assert unfinished(kept.root) == []
    record = read_sweep(kept, kept.sweeps()[0])
    assert record.status == "interrupted"
    assert {job.status for job in record.jobs} == {"interrupted"}
    # A job hears of it from its sweep, by SIGTERM, or from whoever sent the signal to all.
    assert {job.exit_code for job in record.jobs} <= {128 + number, 128 + TERM}
    assert {job.ledger.status for job in record.jobs if job.ledger} == {"interrupted"}
    again = mcomp("run", *SWEEP, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("distill goes on after update ") == 2
    assert results(kept.root) == results(undisturbed_sweep)
    assert list((kept.root / "checkpoints").iterdir()) == []


def test_a_sweep_that_is_stopped_twice_ends_at_once(tmp_path: Path) -> None:
    process, workers = started_training(tmp_path)
    os.kill(process.pid, TERM)
    time.sleep(0.05)  # of two that wait together Python hears the lower number first
    os.kill(process.pid, INT)
    said = ended(process)
    assert process.returncode in (128 + TERM, -TERM, -INT), said
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_a_worker_that_does_not_end_is_not_waited_for(tmp_path: Path) -> None:
    process, workers = started_training(tmp_path)
    os.kill(workers[0], signal.SIGSTOP)
    os.kill(process.pid, TERM)
    said = ended(process)
    assert process.returncode == 128 + TERM, said
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    again = mcomp("run", *SWEEP, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert unfinished(tmp_path / STORE) == []


def test_jobs_of_a_sweep_that_is_killed_keep_what_they_have_done_and_end(
    undisturbed_sweep: Path, tmp_path: Path
) -> None:
    process, workers = started_training(tmp_path)
    process.kill()
    process.communicate(timeout=patience_seconds())
    deadline = time.monotonic() + 2 * patience_seconds()
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline, "a worker is left"
        time.sleep(0.01)
    again = mcomp("run", *SWEEP, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("distill goes on after update ") == 2
    assert results(tmp_path / STORE) == results(undisturbed_sweep)
    assert unfinished(tmp_path / STORE) == []
