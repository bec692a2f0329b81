"""The smallest recipe that goes all the way (train, distill, prune, QAT, export), and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

STAGES = ("distill", "prune", "qat", "export")
# In the order in which they run: the teacher first, the baseline's export last.
STEPS = ("teacher/train", *(f"tiny/{stage}" for stage in STAGES), "tiny/export of the baseline")
# Those of the steps, and the teacher's answers, which are no step's.
NUM_RESULTS = len(STEPS) + 1

TEACHER = """\
version: 1
name: teacher
model: {type: lenet5}
data: {type: digits, image_size: 12}
stages:
  train: {type: train, training: {epochs: 1, optimizer: {type: sgd, lr: 0.05}}}
"""

TINY = """\
version: 1
name: tiny
model: {type: lenet5}
data: {type: digits, image_size: 12}
baseline: {recipe: teacher.yaml}
pipeline: [distill, prune, qat, export]
stages:
  distill:
    type: distill.offline
    teachers: [{recipe: teacher.yaml}]
    training: {epochs: 1}
  prune:
    type: prune.channels
    importance: l2
    target: {macs: 0.6}
    round_to: 1
    min_channels: 1
    recover: {epochs: 1}
  qat: {type: quantize.qat, training: {epochs: 1}}
  export: {type: export.onnx}
measure: {rounds: 3, batch_sizes: [1]}
require:
  size_ratio: {min: 2.0}
"""


def write_recipes(folder: Path, old: str = "", new: str = "") -> Path:
    """Write both recipes, `old` in the student's replaced by `new`, and return the path of the student's."""
    assert old in TINY
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "teacher.yaml").write_text(TEACHER)
    path = folder / "tiny.yaml"
    path.write_text(TINY.replace(old, new, 1) if old else TINY)
    return path


def environment() -> dict[str, str]:
    """Return the environment of a command: one thread, wide lines, the default store."""
    kept = {name: value for name, value in os.environ.items() if name != "MCOMP_STORE"}
    return {**kept, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}


def mcomp(
    *arguments: str | Path, cwd: Path, timeout_seconds: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run `python -m mcomp` in a folder, to its end."""
    return python("-m", "mcomp", *map(str, arguments), cwd=cwd, timeout_seconds=timeout_seconds)


def python(*arguments: str, cwd: Path, timeout_seconds: float = 300) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, to its end."""
    command = [sys.executable, *arguments]
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )


def started(*arguments: str | Path, cwd: Path) -> subprocess.Popen[str]:
    """Start `python -m mcomp` in a folder, as the leader of a process group of its own."""
    command = [sys.executable, "-m", "mcomp", *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


HEAVY = (
    "torch",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "lightning_fabric",
    "torchmetrics",
    "sklearn",
    "plotly",
)

PROBE = f"""
import sys
from mcomp.cli import exit_code
code = exit_code(sys.argv[1:])
print("loaded:", *(name for name in {HEAVY} if name in sys.modules))
sys.exit(code)
"""


def loaded_by(*arguments: str | Path, cwd: Path) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run a command in a fresh process; return how it ended, and the heavy libraries that it imported."""
    done = python("-c", PROBE, *map(str, arguments), cwd=cwd)
    line = next(line for line in done.stdout.splitlines() if line.startswith("loaded:"))
    return done, line.split()[1:]


def files_below(folder: Path) -> dict[str, bytes]:
    """Return what lies in a folder, links not followed."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def artifacts(store: Path) -> list[Path]:
    """Return the folders of the results in a store."""
    return sorted(store.glob("artifacts/*/*"))


def unfinished(store: Path) -> list[str]:
    """Return what a process left half done in a store."""
    halves = [*store.glob("work/*"), *store.rglob("*.new")]
    halves += [path for path in artifacts(store) if len(path.name) != 64]
    return [str(path.relative_to(store)) for path in halves]
