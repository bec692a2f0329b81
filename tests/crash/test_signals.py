"""SIGINT and SIGTERM in each phase of a real run: out within ten seconds, nothing lost, nothing left."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mcomp.store.store import Store
from tests.crash.conftest import STORE, patience_seconds, results, without
from tests.tiny import mcomp, started, unfinished

INT, TERM = signal.SIGINT, signal.SIGTERM
PATIENCE_SECONDS = 120

# Imported by the run: it says when a function is reached, and takes its time there.
ANNOUNCING = """\
import importlib
import time
from pathlib import Path

module = importlib.import_module("{module}")
owner = getattr(module, "{owner}") if "{owner}" else module
function = getattr(owner, "{function}")
calls = iter(range(1000))

def announced(*arguments, **options):
    if next(calls) == {call}:
        Path("reached").touch()
        time.sleep(0.3)
    return function(*arguments, **options)

setattr(owner, "{function}", announced)
"""

# Imported by the run too: batches come from two processes that live as long as it does.
LOADING = """
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from mcomp.data.splits import TensorSplit

batch = TensorSplit.batch

def begin():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Path(f"loader-{os.getpid()}").touch()

def load(split, positions, draw):
    return batch(split, positions, draw)

loaders = ProcessPoolExecutor(2, get_context("fork"), begin)
TensorSplit.batch = lambda split, positions, draw=None: loaders.submit(load, split, positions, draw).result()
"""


@dataclass(frozen=True)
class Phase:
    """A function that runs in one phase of a step, and which of its calls a signal meets."""

    step: str
    module: str
    function: str
    owner: str = ""
    call: int = 0


PHASES = {
    "import": Phase("teacher/train", "mcomp.scheduler", "compute", "Scheduler"),
    "train": Phase("tiny/distill", "mcomp.training.update", "__call__", "Update", call=23),
    "validate": Phase("tiny/distill", "mcomp.training.companions", "evaluate", call=1),
    "cut": Phase("tiny/prune", "mcomp_stages.methods.pruning.cut", "choose_cut"),
    "calibrate": Phase("tiny/qat", "mcomp_stages.methods.quantization.calibrate", "calibrate"),
    "compare": Phase("tiny/qat", "mcomp_stages.methods.quantization.compare", "require_equal"),
    "publish": Phase("tiny/qat", "mcomp.store.store", "seal"),
    "export": Phase("tiny/export", "mcomp_stages.methods.onnx.write", "write_onnx"),
    "measure": Phase("tiny/export", "mcomp.executor", "serve"),
}
ORDINARY = [("train", INT), ("publish", TERM)]
OTHERS = [(name, number) for name in PHASES for number in (INT, TERM) if (name, number) not in ORDINARY]
# A terminal and a service manager send to all processes, `kill` to one.
Way = Callable[[int, int], None]
WAYS: dict[str, Way] = {"to one": os.kill, "to all": os.killpg}
WITH_LOADERS = [
    (name, number, way)
    for name in ("train", "calibrate", "export", "publish")
    for number in (INT, TERM)
    for way in WAYS
]


def stopped_in(
    phase: Phase, number: signal.Signals, folder: Path, send: Way, more: str
) -> subprocess.CompletedProcess[str]:
    """Run until a phase is reached, send a signal, and return how the run ended, within ten seconds."""
    fields = {"module": phase.module, "owner": phase.owner, "function": phase.function, "call": phase.call}
    (folder / "announcing.py").write_text(ANNOUNCING.format(**fields) + more)
    process = started("run", "tiny.yaml", "--store", STORE, "--import", "announcing", cwd=folder)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (folder / "reached").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    send(process.pid, number)
    since = time.monotonic()
    shown, said = process.communicate(timeout=patience_seconds())
    print(f"out after {time.monotonic() - since:.2f} s")
    return subprocess.CompletedProcess(process.args, process.returncode, shown, said)


def stop_and_finish(
    name: str, number: signal.Signals, undisturbed: Path, folder: Path, send: Way = os.kill, more: str = ""
) -> str:
    """Stop in a phase, run again, and return what the second run said."""
    phase = PHASES[name]
    store = without(undisturbed, folder, phase.step)
    stopped = stopped_in(phase, number, folder, send, more)
    assert stopped.returncode == 128 + number, stopped.stderr
    assert stopped.stderr.splitlines()[-1] == f"stopped by {number.name}"
    assert "run the same command again to go on" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert unfinished(store) == []
    kept = Store(store)
    assert kept.run(kept.runs()[0]).read_ledger().status == "interrupted"
    again = mcomp("run", "tiny.yaml", "--store", STORE, cwd=folder)
    assert again.returncode == 0, again.stderr
    assert results(store) == results(undisturbed)
    assert list((store / "checkpoints").iterdir()) == []
    return again.stderr


GOES_ON = {
    "train": "distill goes on after update 24",
    "validate": "distill goes on after update 36",
    "compare": "quantize goes on after update 36",
}


@pytest.mark.parametrize(("name", "number"), ORDINARY)
def test_a_signal_loses_nothing_and_leaves_nothing(
    name: str, number: signal.Signals, undisturbed: Path, tmp_path: Path
) -> None:
    assert GOES_ON.get(name, "") in stop_and_finish(name, number, undisturbed, tmp_path)


@pytest.mark.crash
@pytest.mark.parametrize(("name", "number"), OTHERS)
def test_a_signal_in_any_phase_loses_nothing_and_leaves_nothing(
    name: str, number: signal.Signals, undisturbed: Path, tmp_path: Path
) -> None:
    assert GOES_ON.get(name, "") in stop_and_finish(name, number, undisturbed, tmp_path)


@pytest.mark.crash
@pytest.mark.parametrize(("name", "number", "way"), WITH_LOADERS)
def test_a_signal_ends_processes_that_load_data_too(
    name: str, number: signal.Signals, way: str, undisturbed: Path, tmp_path: Path
) -> None:
    said = stop_and_finish(name, number, undisturbed, tmp_path, WAYS[way], LOADING)
    assert GOES_ON.get(name, "") in said
    loaders = [path.name.partition("-")[2] for path in tmp_path.glob("loader-*")]
    assert len(loaders) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in loaders)
