"""Our integers beside those of other tools: same FP32 file, same calibration samples, same run.

    python -m venv peers && peers/bin/pip install -r tests/benchmarks/peers/requirements.txt
    python tests/benchmarks/peers/quantizers.py RECIPE --python peers/bin/python --folder DIR

Runs the recipe (what is in the store is not done again), gives the baseline's file and the samples of its
calibration split to each peer, in a process of its own, and serves all files on the test split: how often
the class is that of the FP32 file, on the same samples, with the difference to ours and its 95 % interval;
milliseconds at batch 1 and one thread, in turns. `exact` is a session with the option without which this
processor may add products wrongly (session.x64quantprecision), `default` one without options. A peer that
fails is told with its error. Lines are those of the peer's function in `quantize.py`, and of our recipe's
stages.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime
import torch
import yaml

sys.path.insert(0, str(Path(__file__).parents[3]))

import mcomp
from mcomp.data.contract import DataConfig, Split
from mcomp.data.shortened import load_data
from mcomp.measure.latency import interleaved, latency, speedup
from mcomp.measure.runtimes.onnx import OnnxSession
from mcomp.recipe.build import load_recipe
from mcomp.store.store import Store
from tests.benchmarks.peers.quantize import PEERS

PATIENCE_SECONDS, ROUNDS, OURS = 1200, 30, "mcomp"
Arrays = dict[str, np.ndarray]


class DefaultSession:
    """A session of ONNX Runtime as a user opens it, at one thread."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.asarray(self.session.run(None, dict(inputs))[0])


SESSIONS: dict[str, Any] = {"default": DefaultSession, "exact": OnnxSession}


@dataclass(frozen=True)
class Result:
    """One quantized file, or why there is none."""

    name: str
    path: Path
    seconds: float = 0.0
    lines: int = 0
    error: str = ""


def quantized(name: str, python: str, fp32: Path, samples: Path, folder: Path) -> Result:
    """Let a peer quantize in its own process, once: what it wrote is kept."""
    out = folder / f"{name.replace(', ', '-').replace(' ', '-')}.onnx"
    told = out.with_suffix(".json")
    script = Path(__file__).with_name("quantize.py")
    if not told.exists():
        command = [python, str(script), name, str(fp32), str(samples), str(out)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, cwd=folder, check=False
        )
        if done.returncode:
            last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
            return Result(name, out, error="".join(last) or f"exit {done.returncode}")
        told.write_text(done.stdout.splitlines()[-1])
    return Result(name, out, **json.loads(told.read_text()))


def ours(recipe: Path, store: Path, overrides: Sequence[str] = ()) -> tuple[Result, Path]:
    """Run the recipe; return its file and the baseline's."""
    outcome = mcomp.run(recipe, overrides, store=store)
    rows = outcome.ledger.rows
    export = next(row for row in rows if row.served is not None)
    baseline = next(row for row in rows if row.stage.startswith(f"{export.stage} of the baseline"))
    folder = Store(store, on_problem=print).artifact_folder(baseline.key)
    seconds = sum(row.seconds for row in rows if row.type.startswith("quantize."))
    stages = yaml.safe_load(recipe.read_text())["stages"]
    lines = sum(len(stage) for stage in stages.values())
    path = outcome.files[export.stage]
    return Result(OURS, path, seconds, lines), next(folder.glob(f"files/{path.name}"))


def arrays(split: Split) -> Arrays:
    """Return the inputs of all samples of a split."""
    inputs = split.batch(torch.arange(len(split))).inputs
    return {name: value.numpy() for name, value in inputs.items()}


def answers(session: Any, inputs: Arrays) -> np.ndarray:
    """Return the class of each sample, (N,), one after the other."""
    number = len(next(iter(inputs.values())))
    feeds = ({name: value[at : at + 1] for name, value in inputs.items()} for at in range(number))
    return np.array([session.run(feed)[0].argmax() for feed in feeds])


def difference(left: np.ndarray, right: np.ndarray) -> str:
    """Return how much more often `left` is true, in points, with the paired 95 % interval."""
    each = left.astype(float) - right
    half = 1.96 * each.std(ddof=1) / len(each) ** 0.5
    return f"{100 * each.mean():+.1f} ± {100 * half:.1f}"


def table(kind: str, results: Sequence[Result], fp32: Path, test: Arrays) -> list[str]:
    """Return the lines of one kind of session."""
    opened = {each.name: SESSIONS[kind](each.path) for each in results if not each.error}
    reference = SESSIONS[kind](fp32)
    expected = answers(reference, test)
    agree = {name: answers(session, test) == expected for name, session in opened.items()}
    one = {name: value[:1] for name, value in test.items()}
    turns = interleaved({"FP32": reference, **opened}, one, ROUNDS)
    lines = [
        f"| {kind} session | agreement | to {OURS} | ms | times faster | MB | s | lines |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in results:
        if each.error:
            lines.append(f"| {each.name} | failed: {each.error[:120]} | | | | | | |")
            continue
        apart = "" if each.name == OURS else difference(agree[each.name], agree[OURS])
        cells = (
            each.name,
            f"{100 * agree[each.name].mean():.1f} %",
            apart,
            f"{latency(turns[each.name]).median_ms:.2f}",
            f"{speedup(turns['FP32'], turns[each.name]):.2f}",
            f"{each.path.stat().st_size / 1e6:.2f}",
            f"{each.seconds:.0f}",
            str(each.lines),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Quantize with all, and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path, help="with one stage of quantization and one export.onnx")
    parser.add_argument("--folder", type=Path, required=True, help="where everything is kept")
    parser.add_argument("--python", default=sys.executable, help="of the environment with the peers")
    parser.add_argument("--only", default="", help="peers whose names begin so")
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    mine, fp32 = ours(given.recipe, folder / "store")
    data = load_data(cast(DataConfig, load_recipe(given.recipe).recipe.data))
    samples = folder / "calibration.npz"
    np.savez(samples, **cast(dict[str, Any], arrays(data.split("calibration"))))
    names = [name for name in PEERS if name.startswith(given.only)]
    results = [mine, *(quantized(name, given.python, fp32, samples, folder) for name in names)]
    for kind in SESSIONS:
        print("\n".join(table(kind, results, fp32, arrays(data.split("test")))), flush=True)
        print()


if __name__ == "__main__":
    main()
