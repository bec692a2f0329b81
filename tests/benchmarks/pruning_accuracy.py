"""Accuracy and latency of structured pruning on MNIST-5k: ResNet-20 of width 8, 1,000 images, three seeds.

    python tests/benchmarks/pruning_accuracy.py --out cells.jsonl
    python tests/benchmarks/pruning_accuracy.py --out cells.jsonl --show --plot docs/images/pruning_pareto.svg

Every way leaves half of the multiply-adds and trains as long afterwards; the controls are random channels and
the whole network trained on for as long. Each finished cell is stored; started again, it goes on behind them.
`--seconds` ends it before the next cell once so much time has passed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from mcomp.data.contract import Data
from mcomp.measure.accuracy import batches
from mcomp.measure.macs import count_macs
from mcomp.model.model import Model
from mcomp.stage import Context, StageConfig
from mcomp_stages.methods.latency_target import Stopwatch
from mcomp_stages.prune.channels import PruneChannels
from mcomp_stages.prune.layers import PruneLayers
from mcomp_stages.prune.lowrank import PruneLowRank
from mcomp_stages.train.supervised import Train
from tests.benchmarks.trained import context_for, mnist, trained_resnet

FOLDER = Path(tempfile.gettempdir()) / "pruning-benchmark"
SEEDS = (0, 1, 2)
EPOCHS = 5
TRAINING: dict[str, Any] = {"epochs": EPOCHS, "optimizer": {"type": "sgd", "lr": 0.05}}
IMPORTANCES = ("random", "l1", "l2", "fpgm", "bn_scale", "taylor", "obd", "apoz")
CUT: dict[str, Any] = {"target": {"macs": 0.5}, "recover": TRAINING}
CHANNELS: dict[str, Any] = {**CUT, "round_to": 2, "min_channels": 2}
CONTROLS = ("channels random", "dense")

STAGES: dict[str, StageConfig] = {
    "dense": Train.model_validate({"training": TRAINING}),
    **{
        f"channels {name}": PruneChannels.model_validate({**CHANNELS, "importance": name})
        for name in IMPORTANCES
    },
    "layers influence": PruneLayers.model_validate(CUT),
    "layers random": PruneLayers.model_validate({**CUT, "importance": "random"}),
    "low rank": PruneLowRank.model_validate({**CUT, "round_to": 2, "nearest": True}),
}


@dataclass(frozen=True)
class Cell:
    """What came out of one way with one seed; `wrong` are the positions in test."""

    name: str
    seed: int
    accuracy: float
    macs_share: float
    ms: float
    speedup: float
    wrong: list[int]


@cache
def data() -> Data:
    return mnist(20)


def context_of(seed: int) -> Context:
    return context_for(data(), seed, FOLDER)


@cache
def start(seed: int) -> Model:
    """Return the network that all begin with."""
    return trained_resnet(FOLDER, data(), seed)


def wrong_on_test(model: Model) -> tuple[list[int], int]:
    """Return the positions in test that a model gets wrong, and the size of test."""
    split, wrong = data().split("test"), list[int]()
    with torch.no_grad():
        for number, batch in enumerate(batches(split, 256)):
            missed = model.module.eval()(**batch.inputs).argmax(1) != batch.target
            wrong += (256 * number + missed.nonzero().flatten()).tolist()
    return wrong, len(split)


def measured(name: str, seed: int) -> Cell:
    """Run one way."""
    context, first = context_of(seed), start(seed)
    result = STAGES[name].run(first, context).model
    assert result is not None
    wrong, size = wrong_on_test(result)
    watch = Stopwatch(first, context, batch_size=1, threads=1)
    ms = watch.ms(result)
    share = count_macs(result.module, context.example) / count_macs(first.module, context.example)
    return Cell(name, seed, 100 - 100 * len(wrong) / size, share, ms, watch.whole_ms / ms, wrong)


def read(path: Path) -> list[Cell]:
    """Return the cells that are stored."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [Cell(**json.loads(line)) for line in lines]


def paired_interval(cells: list[Cell], others: list[Cell], draws: int = 2000) -> tuple[float, float, float]:
    """Return the mean difference in points and its 95 % interval, by a bootstrap over seeds' test items."""
    size = len(data().split("test"))
    right = {
        (side, cell.seed): 1 - np.isin(np.arange(size), cell.wrong).astype(float)
        for side, group in (("a", cells), ("b", others))
        for cell in group
    }
    seeds = sorted({cell.seed for cell in cells} & {cell.seed for cell in others})
    differences = np.concatenate([right["a", seed] - right["b", seed] for seed in seeds])
    generator = np.random.default_rng(0)
    means = [generator.choice(differences, len(differences)).mean() for _ in range(draws)]
    low, high = np.percentile(means, (2.5, 97.5))
    return 100 * float(differences.mean()), 100 * float(low), 100 * float(high)


def table(cells: list[Cell]) -> Iterator[str]:
    """Yield the lines of the table."""
    by_name = {name: [cell for cell in cells if cell.name == name] for name in STAGES}
    against = [name for name in CONTROLS if by_name[name]]
    titles = " | ".join(f"against {name}" for name in against)
    yield f"| way | seeds | test % | MACs | speed | {titles} |"
    yield "| --- " * (5 + len(against)) + "|"
    for name, found in by_name.items():
        if found:
            accuracies = [cell.accuracy for cell in found]
            spread = np.std(accuracies, ddof=1) if len(found) > 1 else 0.0
            differences = []
            for other in against:
                mean, low, high = paired_interval(found, by_name[other])
                differences.append(f"{mean:+.2f} ({low:+.2f}, {high:+.2f})")
            share, speed = (
                np.mean([getattr(cell, key) for cell in found]) for key in ("macs_share", "speedup")
            )
            figures = f"{np.mean(accuracies):.2f} ± {spread:.2f} | {share:.3f} | {speed:.2f}x"
            yield f"| {name} | {len(found)} | {figures} | {' | '.join(differences)} |"


def plot(cells: list[Cell], path: Path) -> None:
    """Draw accuracy against measured speed: the mean over seeds, and from the lowest to the highest.

    Speed is a ratio of files that were timed in turns, which other work on the machine moves less than times.
    """
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "the same cells give the same bytes"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for number, name in enumerate(STAGES):
        found = [cell for cell in cells if cell.name == name]
        if found:
            speed = np.median([cell.speedup for cell in found])
            accuracy = np.array([cell.accuracy for cell in found])
            around = [[accuracy.mean() - accuracy.min()], [accuracy.max() - accuracy.mean()]]
            point = {"color": f"C{number % 10}", "marker": "os^D"[number // 10], "capsize": 3}
            axes.errorbar(speed, accuracy.mean(), yerr=around, linestyle="", label=name, **point)
    axes.set(xlabel="times faster in ONNX Runtime, batch 1, one thread", ylabel="accuracy on test, %")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    axes.grid(alpha=0.3)
    figure.savefig(path, format="svg", metadata={"Date": None})


def main() -> None:
    """Do the cells that are not there yet, or show those that are."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="a line of JSON for each cell")
    parser.add_argument("--show", action="store_true", help="print the table and do nothing else")
    parser.add_argument("--plot", type=Path, help="draw accuracy against latency into this file (SVG)")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    begun, done = time.monotonic(), {(cell.name, cell.seed) for cell in read(given.out)}
    for seed in () if given.show else SEEDS:
        for name in STAGES:
            if (name, seed) not in done and time.monotonic() - begun < given.seconds:
                with given.out.open("a") as file:
                    file.write(json.dumps(asdict(measured(name, seed))) + "\n")
                    file.flush()
    print("\n".join(table(read(given.out))))
    if given.plot:
        plot(read(given.out), given.plot)


if __name__ == "__main__":
    main()
