"""Print how long a sweep of 256 jobs takes when nothing has to be computed: planned, and run over hits.

python tests/benchmarks/sweep_planning.py --rounds 3

The results in the store are stand-ins of the right names and forms: planning reads nothing else of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from mcomp.plan import Step
from mcomp.scheduler import measurement_name
from mcomp.store.layout import FILES, REPORT
from mcomp.store.ledger import Census, Figures, Latency, Served
from mcomp.store.store import Store
from mcomp.sweep.jobs import Sweep

RECIPE = Path(__file__).parents[2] / "recipes" / "resnet_int8.yaml"
SWEPT = ("stages.prune.target.macs=range(0.3,0.69,0.025)", "seed=range(0,16)")
FIGURES = Figures(
    validation=0.99, train=1.0, loss=0.03, parameters=500_000, macs=20_000_000, size_bytes=2_000_000
)
SERVED = Served(
    file="resnet_int8.onnx",
    runtime="onnxruntime",
    threads=1,
    size_bytes=600_000,
    test=0.99,
    per_class=(0.99,) * 10,
    latency={size: Latency(median_ms=0.4, p10_ms=0.39, p90_ms=0.45, rounds=30) for size in (1, 16)},
    speedup={1: 10.0, 16: 14.0},
    size_ratio=26.0,
    metric_drop=0.0,
    census=Census(int8=22, float=0, by_type={"QLinearConv": 21, "QGemm": 1}),
)  # fmt: skip
EPOCHS = [{"number": epoch, "lr": 0.05, "train_loss": 0.1, "metric": 0.9} for epoch in range(12)]


def fill(store: Store, sweep: Sweep) -> None:
    """Put a stand-in for every result and every figure of a sweep into the store."""
    store.prepare()
    for step in sweep.steps.values():
        publish(store, step)
    pair = {role: SERVED.model_dump(mode="json") for role in ("result", "baseline")}
    for plan in sweep.plans:
        for name, step in plan.exports():
            files = [store.find(key) for key in (step.key, plan.baselines[name])]
            measurement = measurement_name(plan, *[file for file in files if file])
            store.put_measurement(step.key, measurement, pair)


def publish(store: Store, step: Step) -> None:
    """Put a stand-in for one result into the store."""
    report = {"figures": FIGURES.model_dump(mode="json"), "facts": {"epochs": 12, "history": EPOCHS}}
    with store.workspace(step.key) as work:
        content = work / "content"
        (content / FILES).mkdir(parents=True)
        (content / REPORT).write_text(json.dumps(report))
        (content / FILES / "stand_in.onnx").write_text(step.key)
        store.publish(step.key, step.key_json, content, {"step": step.label})
    store.put_measurement(step.key, "cost", {"seconds": 1.0, "peak_memory_bytes": 1_000_000})


def seconds(command: str, store: Path, rounds: int, *options: str) -> float:
    """Return the median seconds of a command over the sweep, Python's start included."""
    arguments = [sys.executable, "-m", "mcomp", command, "-m", str(RECIPE), *SWEPT, "--store", str(store)]
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        done = subprocess.run([*arguments, *options], capture_output=True, text=True, check=False)
        taken.append(time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
    return median(taken)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the commands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many is shown (default: 3)")
    rounds = parser.parse_args(arguments).rounds
    sweep = Sweep.resolve(RECIPE, SWEPT)
    print(f"{len(sweep.plans)} jobs, {len(sweep.steps)} steps")
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        print(f"plan -m, nothing stored   {seconds('plan', store, rounds):6.2f} s")
        fill(Store(store), sweep)
        print(f"plan -m, all stored       {seconds('plan', store, rounds):6.2f} s")
        print(f"plan -m --json            {seconds('plan', store, rounds, '--json'):6.2f} s")
        print(f"run -m, all stored        {seconds('run', store, rounds):6.2f} s")


if __name__ == "__main__":
    main()
