"""SIGKILL at random moments to the workers of a real sweep whose jobs share what they begin with."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from mcomp.store.store import Store
from tests.crash.conftest import STORE, results, write_long_recipes
from tests.tiny import mcomp, started, unfinished

pytestmark = pytest.mark.crash

NUM_SHARED, NUM_JOBS, NUM_KILLS = 4, 32, 3
MOST_WORK = 1.1
PATIENCE_SECONDS = 1200
# Four ways to distill, each cut in eight ways.
SWEEP = (
    "-m", "tiny.yaml", "--store", STORE, "pipeline=[distill,prune]", "~require", "~stages.prune.recover",
    "seed=1,2,3,4", "stages.prune.target.macs=0.5,0.55,0.6,0.65,0.7,0.75,0.8,0.85",
    "stages.distill.training.checkpoint.every_steps=2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2",
    "--import", "counting",
)  # fmt: skip

# Imported by the jobs: each update of weights leaves a letter, and takes its time.
COUNTING = """\
import os
import time
from pathlib import Path

from mcomp.training.update import Update

trained = Update.__call__

def counted(*arguments, **options):
    Path(f"worker-{os.getpid()}").touch()
    file = os.open("updates", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, b"u")
    os.close(file)
    time.sleep(0.05)
    return trained(*arguments, **options)

Update.__call__ = counted
"""


def swept(folder: Path) -> None:
    """Sweep to the end."""
    done = mcomp("run", *SWEEP, cwd=folder, timeout_seconds=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr


def prepared(folder: Path) -> Path:
    """Write what a sweep needs; the teacher, which all jobs share, is trained."""
    folder.mkdir(exist_ok=True)
    write_long_recipes(folder)
    (folder / "counting.py").write_text(COUNTING)
    assert mcomp("run", "teacher.yaml", "--store", STORE, cwd=folder).returncode == 0
    return folder


def num_updates(folder: Path) -> int:
    """Return how often weights were updated."""
    return (folder / "updates").stat().st_size if (folder / "updates").exists() else 0


def kill_workers(folder: Path, chance: random.Random, expected: int) -> list[str]:
    """Kill a worker when some of the shared work is done, and again; return when that was."""
    killed = []
    process = started("run", *SWEEP, cwd=folder)
    deadline = time.monotonic() + PATIENCE_SECONDS
    for moment in sorted(chance.sample(range(1, expected), NUM_KILLS)):
        while num_updates(folder) < moment and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        workers = [int(path.name.partition("-")[2]) for path in folder.glob("worker-*")]
        alive = [pid for pid in workers if Path(f"/proc/{pid}").exists()]
        if alive:
            with suppress(ProcessLookupError):
                os.kill(chance.choice(alive), signal.SIGKILL)
            killed.append(f"at update {moment}")
    process.communicate(timeout=PATIENCE_SECONDS)
    return killed


def test_jobs_that_share_steps_do_them_once_and_right_also_when_workers_are_killed(tmp_path: Path) -> None:
    undisturbed, folder = prepared(tmp_path / "undisturbed"), prepared(tmp_path / "killed")
    swept(undisturbed)
    expected = num_updates(undisturbed)
    killed = kill_workers(folder, random.Random(0), expected)
    assert len(killed) == NUM_KILLS
    swept(folder)
    done = num_updates(folder)
    print(f"killed {killed}; {done} updates instead of {expected}")
    assert expected <= done <= MOST_WORK * expected
    assert results(folder / STORE) == results(undisturbed / STORE)
    teacher_and_its_answers = 2
    num_results = len(list((folder / STORE / "artifacts").glob("*/*")))
    assert num_results == teacher_and_its_answers + NUM_SHARED + NUM_JOBS
    assert list((folder / STORE / "checkpoints").iterdir()) == []
    assert unfinished(folder / STORE) == []
    assert len(Store(folder / STORE).sweeps()) == 2
