"""SIGKILL at random moments of a real run: what is left goes on to the bytes of an undisturbed run."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from mcomp.store.store import Store
from tests.crash.conftest import STORE, results, without
from tests.tiny import STEPS, mcomp, started, unfinished

PATIENCE_SECONDS = 120
KILLS_A_RUN = 5
# After torch is imported; other libraries are still to come, and a step takes up to four seconds.
MOMENTS_SECONDS = (0.3, 2.5)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "many_seed" in metafunc.fixturenames:
        runs = -(-metafunc.config.getoption("kills") // KILLS_A_RUN)
        metafunc.parametrize("many_seed", range(1, runs + 1))


def killed_after(seconds: float, folder: Path) -> str:
    """Start the run and kill it after it began to work; return in which step, "" if it had ended."""
    process = started("run", "tiny.yaml", "--store", STORE, cwd=folder)
    deadline = time.monotonic() + PATIENCE_SECONDS
    before = set(folder.glob(f"{STORE}/work/*"))
    while process.poll() is None and not set(folder.glob(f"{STORE}/work/*")) - before:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(seconds)
    process.kill()
    _, said = process.communicate(timeout=PATIENCE_SECONDS)
    if process.returncode == 0:
        return ""
    assert process.returncode == -9, said
    store = Store(folder / STORE)
    return next(
        event["step"]
        for event in reversed(store.run(store.runs()[0]).events())
        if event["event"] == "step started"
    )


def kill_and_finish(seed: int, folder: Path, undisturbed: Path) -> None:
    """Kill a run that has a part of the steps before it, again and again; then let it finish."""
    without(undisturbed, folder, *STEPS[seed % len(STEPS) :])
    moments, killed = random.Random(seed), list[str]()
    for _ in range(KILLS_A_RUN):
        moment = moments.uniform(*MOMENTS_SECONDS)
        killed.append(f"{killed_after(moment, folder)} +{moment:.2f} s")
    print(f"seed {seed}: killed in {killed}")
    done = mcomp("run", "tiny.yaml", "--store", STORE, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "is not used" not in done.stderr
    assert results(folder / STORE) == results(undisturbed)
    assert list((folder / STORE / "checkpoints").iterdir()) == []
    assert unfinished(folder / STORE) == []


def test_killed_five_times_a_run_ends_with_the_same_bytes(undisturbed: Path, tmp_path: Path) -> None:
    kill_and_finish(0, tmp_path, undisturbed)


@pytest.mark.crash
def test_killed_many_times_a_run_ends_with_the_same_bytes(
    many_seed: int, undisturbed: Path, tmp_path: Path
) -> None:
    kill_and_finish(many_seed, tmp_path, undisturbed)
