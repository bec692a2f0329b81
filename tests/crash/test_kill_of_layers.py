"""SIGKILL in the middle of a stage that does not train: finished layers are not done again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.crash.conftest import STORE, results
from tests.tiny import mcomp, started, unfinished, write_recipes

pytestmark = pytest.mark.crash

PATIENCE_SECONDS = 120
NUM_LAYERS = 5
WEIGHTS = """\
version: 1
name: weights
model: {type: lenet5, checkpoint: {recipe: teacher.yaml}}
data: {type: digits, image_size: 12}
stages:
  weights: {type: quantize.weights, method: METHOD, bits: 4, group_size: null, samples: 16}
"""

# Imported by the run: a layer takes its time and is noted, and each is a unit.
NOTING = """\
import time

from mcomp_stages.methods.quantization.weights import compress

compress.UNIT_WEIGHTS = 1
compressed_step = compress.compressed_step

def noted(model, step, compression):
    with open("layers", "a") as file:
        file.write(f"{step[0].path}\\n")
    time.sleep(0.3)
    return compressed_step(model, step, compression)

compress.compressed_step = noted
"""


def prepared(folder: Path, method: str) -> Path:
    folder.mkdir()
    write_recipes(folder)
    (folder / "weights.yaml").write_text(WEIGHTS.replace("METHOD", method))
    (folder / "noting.py").write_text(NOTING)
    assert mcomp("run", "teacher.yaml", "--store", STORE, cwd=folder).returncode == 0
    return folder


def layers(folder: Path) -> list[str]:
    """Return the layers that were begun, in order."""
    return (folder / "layers").read_text().split() if (folder / "layers").exists() else []


@pytest.mark.parametrize("method", ["gptq", "hqq"])
def test_a_kill_costs_the_layer_that_was_being_done(method: str, tmp_path: Path) -> None:
    undisturbed, folder = (prepared(tmp_path / name, method) for name in ("undisturbed", "killed"))
    command = ("run", "weights.yaml", "--store", STORE, "--import", "noting")
    assert mcomp(*command, cwd=undisturbed).returncode == 0
    process = started(*command, cwd=folder)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(layers(folder)) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.communicate(timeout=PATIENCE_SECONDS)
    begun = layers(folder)
    done = mcomp(*command, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert len(set(layers(undisturbed))) == NUM_LAYERS
    assert layers(folder) == begun + layers(undisturbed)[len(begun) - 1 :]
    assert results(folder / STORE) == results(undisturbed / STORE)
    assert list((folder / STORE / "checkpoints").iterdir()) == []
    assert unfinished(folder / STORE) == []
