from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import onnxruntime

from mcomp.store.store import Store
from tests.tiny import files_below, mcomp, unfinished, write_recipes

SHORT = ("pipeline=[distill,prune,export]", "require.size_ratio.min=1.0")


def computed(store: Store) -> Counter[str]:
    """Return how often each step was computed, over the ledgers of all runs."""
    rows = [row for run in store.runs() for row in store.run(run).read_ledger().rows]
    return Counter(f"{row.recipe}/{row.stage}" for row in rows if row.status == "computed")


def sweep(folder: Path, targets: str) -> subprocess.CompletedProcess[str]:
    """Sweep over how much is cut away."""
    swept = f"stages.prune.target.macs={targets}"
    return mcomp("run", "-m", "tiny.yaml", swept, *SHORT, "--store", "kept", cwd=folder)


def test_a_sweep_shares_what_its_jobs_have_in_common_and_one_that_fails_stops_no_other(
    tmp_path: Path,
) -> None:
    write_recipes(tmp_path)
    before, store = files_below(tmp_path), Store(tmp_path / "kept")
    done = sweep(tmp_path, "0.001,0.5,0.6,0.7")
    assert done.returncode == 5
    assert "Traceback" not in done.stderr
    assert "tiny/prune: cannot keep only 0.1% of the multiply-adds" in done.stderr
    assert "3 of 4 jobs done" in done.stdout
    assert computed(store) == {
        "teacher/train": 1,
        "tiny/distill": 1,
        "tiny/export of the baseline": 1,
        "tiny/prune": 3,
        "tiny/export": 3,
    }
    lines = [line.split() for line in done.stdout.splitlines() if " export: " in line]
    assert [line[0] for line in lines] == ["[1]", "[2]", "[3]"]
    files = [tmp_path / line[2] for line in lines]
    assert [onnxruntime.InferenceSession(file).get_inputs()[0].name for file in files] == ["image"] * 3
    sizes = [file.stat().st_size for file in files]
    assert sizes == sorted(set(sizes))
    outside = {name: data for name, data in files_below(tmp_path).items() if not name.startswith("kept/")}
    assert outside == before
    assert unfinished(store.root) == []
    runs = store.runs()
    again = sweep(tmp_path, "0.5,0.6,0.7")
    assert (again.returncode, store.runs()) == (0, runs)
    assert "3 of 3 jobs are in the store" in again.stderr


def test_swept_values_that_are_wrong_are_told_before_anything_starts(tmp_path: Path) -> None:
    write_recipes(tmp_path)
    before = files_below(tmp_path)
    done = sweep(tmp_path, "0.5,1.5,half")
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == [
        "stages.prune.target.macs=1.5",
        "stages.prune.target.macs=half",
    ]
    assert files_below(tmp_path) == before


def test_four_students_of_a_sweep_ask_their_teacher_once(tmp_path: Path) -> None:
    write_recipes(tmp_path, "require:\n  size_ratio: {min: 2.0}\n", "")
    rates = ",".join(f"{{type: sgd, lr: 0.0{rate}}}" for rate in range(1, 5))
    swept = (f"stages.distill.training.optimizer={rates}", "pipeline=[distill]")
    done = mcomp("run", "-m", "tiny.yaml", *swept, "--store", "kept", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert computed(Store(tmp_path / "kept")) == {"teacher/train": 1, "tiny/distill": 4}
    assert len(list(tmp_path.glob("kept/artifacts/*/*/shared/tensors.safetensors"))) == 1
