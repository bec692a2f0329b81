"""The same recipe in another process that differs in everything but the machine: the same bytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.end_to_end.conftest import Finished
from tests.tiny import NUM_RESULTS, environment, files_below, write_recipes

ELSEWHERE = {
    "PYTHONHASHSEED": "4242",
    "LC_ALL": "POSIX",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONUTF8": "0",
    "TZ": "Pacific/Kiritimati",
    "COLUMNS": "60",
    "MCOMP_STORE": "elsewhere/a store",
}


def test_another_process_elsewhere_makes_the_same_bytes(finished: Finished, tmp_path: Path) -> None:
    """Weights, edits, figures, facts and ONNX files; only the wall time and the memory are not in them."""
    recipe = write_recipes(tmp_path / "recipes")
    done = subprocess.run(
        [sys.executable, "-m", "mcomp", "run", str(recipe)],
        cwd=tmp_path,
        env={**environment(), **ELSEWHERE},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    here, there = (
        files_below(store / "artifacts") for store in (finished.store, tmp_path / "elsewhere" / "a store")
    )
    assert there.keys() == here.keys()
    assert [name for name in here if here[name] != there[name]] == []
    kinds = {"weights.safetensors": 4, "model.json": 4, "model.onnx": 2, "manifest.json": NUM_RESULTS}
    assert {kind: sum(name.endswith(f"/{kind}") for name in here) for kind in kinds} == kinds
