"""SIGTERM while stages that do not train work on layers that take seconds each: out in time, to go on."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mcomp.store.store import Store
from mcomp_stages.models.vit import ViTConfig
from tests.crash.conftest import STORE, patience_seconds, results
from tests.tiny import mcomp, started, unfinished

pytestmark = pytest.mark.crash

PATIENCE_SECONDS = 300
RECIPE = """\
version: 1
name: wide
model: {{type: vit, patch: 4, depth: 1, width: {width}, heads: 8, checkpoint: wide.safetensors}}
data: {{type: digits, image_size: 12}}
stages:
  stage: {{{stage}}}
"""

# Imported by the run: it says when a function is reached, and slows nothing down.
ANNOUNCING = """\
import importlib
from pathlib import Path

module = importlib.import_module("{module}")
owner = getattr(module, "{owner}") if "{owner}" else module
function = getattr(owner, "{function}")
calls = iter(range(10**9))

def announced(*arguments, **options):
    if next(calls) == {call}:
        Path("reached").touch()
    return function(*arguments, **options)

setattr(owner, "{function}", announced)
"""

POST_TRAINING = "mcomp_stages.methods.quantization.post_training"
WEIGHTS = "mcomp_stages.methods.quantization.weights"


@dataclass(frozen=True)
class Work:
    """A stage, and a function that runs within one of its units.

    `goes_on` tells whether something was kept before: calibration is one unit.
    """

    stage: str
    module: str
    function: str
    call: int
    owner: str = ""
    width: int = 512
    goes_on: bool = True


MIXED = (
    "type: quantize.mixed, sensitivity: hessian, budget: {mean_bits: 4.0}, training: {epochs: 1}, probes: 8"
)
KL = "type: quantize.static, samples: 128, observer: {type: kl}"
WORK = {
    "a segment of AdaRound": Work(
        "type: quantize.static, weights: {bits: 4}, samples: 64, adaround: {steps: 40}",
        f"{POST_TRAINING}.rounding", "advance", 70, "Training",
    ),
    "a layer of GPTQ": Work(
        "type: quantize.weights, method: gptq, bits: 4, group_size: null, samples: 64",
        f"{WEIGHTS}.gptq", "inverse_factor", 3,
    ),
    "a layer of the surgeon": Work(
        "type: prune.hessian, method: obs, sparsity: 0.5, samples: 64",
        "mcomp_stages.methods.sparsity.second_order", "inverse_factor", 3,
    ),
    "a Hessian's trace": Work(
        MIXED, "mcomp_stages.methods.quantization.mixed.hessian", "random_signs", 100, width=256
    ),
    "SmoothQuant's search": Work(
        "type: quantize.static, samples: 64, smoothquant: {}",
        f"{WEIGHTS}.smoothing", "expected_error", 15,
    ),
    "the search of dynamic quantization": Work(
        "type: quantize.dynamic, samples: 64", f"{WEIGHTS}.smoothing", "expected_error", 15
    ),
    "the weights of dynamic quantization": Work(
        "type: quantize.dynamic, samples: 64", f"{WEIGHTS}.dynamic", "parts_of", 3
    ),
    "calibration": Work(
        KL, "mcomp_stages.methods.quantization.calibrate", "advance", 1, "Looking"
    ),
    "a range by entropy": Work(
        KL, "mcomp_stages.methods.quantization.observers.kl", "bounded_divergence", 2, goes_on=False
    ),
}  # fmt: skip


def write(work: Work, folder: Path) -> None:
    """Write the recipe, the weights of its model, and what announces."""
    folder.mkdir()
    torch.manual_seed(0)
    size = {"patch": 4, "depth": 1, "width": work.width, "heads": 8}
    data = {"image_size": 12, "in_channels": 1, "num_classes": 10}
    save_file(ViTConfig(**size, **data).build().state_dict(), folder / "wide.safetensors")
    (folder / "wide.yaml").write_text(RECIPE.format(width=work.width, stage=work.stage))
    fields = {name: getattr(work, name) for name in ("module", "owner", "function", "call")}
    (folder / "announcing.py").write_text(ANNOUNCING.format(**fields))


def stopped(folder: Path) -> tuple[int, float, str]:
    """Run until the function is reached, send SIGTERM, and return how the run ended, after how long."""
    process = started("run", "wide.yaml", "--store", STORE, "--import", "announcing", cwd=folder)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (folder / "reached").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    since = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=patience_seconds())
    return process.returncode, time.monotonic() - since, said


@pytest.mark.parametrize("name", WORK)
def test_a_signal_in_a_long_unit_loses_no_more_than_it(name: str, tmp_path: Path) -> None:
    work, whole, folder = WORK[name], tmp_path / "whole", tmp_path / "stopped"
    for each in (whole, folder):
        write(work, each)
    undisturbed = mcomp("run", "wide.yaml", "--store", STORE, cwd=whole)
    assert undisturbed.returncode == 0, undisturbed.stderr
    exit_code, seconds, said = stopped(folder)
    print(f"{name}: out after {seconds:.2f} s")
    assert exit_code == 128 + signal.SIGTERM, said
    assert said.splitlines()[-1] == "stopped by SIGTERM"
    assert "Traceback" not in said
    kept = Store(folder / STORE)
    assert unfinished(kept.root) == []
    assert kept.run(kept.runs()[0]).read_ledger().status == "interrupted"
    assert any((kept.root / "checkpoints").glob("*/*/*")) == work.goes_on
    again = mcomp("run", "wide.yaml", "--store", STORE, cwd=folder)
    assert again.returncode == 0, again.stderr
    assert results(kept.root) == results(whole / STORE)
    assert list((kept.root / "checkpoints").iterdir()) == []
