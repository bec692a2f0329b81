"""Accuracy of our cuts and of torch-pruning's, of the same shares of channels, after the same training.

    pip install -r tests/benchmarks/peers/requirements.txt
    python tests/benchmarks/peers/pruning_recovery.py --out cells.jsonl

ResNet-20 of width 8, trained on 1,000 images of MNIST, three seeds; groups scored by the L2 norm of their
weights, channels rounded to 1. `uniform` takes the same share of every layer, `global` compares all groups
(both divide scores by their layer's mean). Each finished cell is stored; started again, it goes on.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

import torch
import torch_pruning

sys.path.insert(0, str(Path(__file__).parents[3]))

from mcomp.data.contract import Data
from mcomp.measure.accuracy import evaluate
from mcomp.measure.macs import count_macs
from mcomp.model.model import Model
from mcomp.stage import Context
from mcomp_stages.prune.channels import PruneChannels
from mcomp_stages.tasks.classification import ClassificationConfig
from mcomp_stages.train.supervised import Train
from tests.benchmarks.trained import context_for, mnist, trained_resnet

FOLDER = Path(tempfile.gettempdir()) / "pruning-benchmark"
SEEDS = (0, 1, 2)
RATIOS = (0.3, 0.5)
Scope = Literal["uniform", "global"]
SCOPES: tuple[Scope, ...] = ("uniform", "global")
RECOVER = Train.model_validate({"training": {"epochs": 5, "optimizer": {"type": "sgd", "lr": 0.05}}})


def ours(model: Model, ratio: float, scope: Scope, context: Context) -> Model:
    """Return our cut."""
    fields = {"target": {"ratio": ratio}, "scope": scope, "round_to": 1, "min_channels": 1, "nearest": True}
    result = PruneChannels.model_validate(fields).run(model, context).model
    assert result is not None
    return result


def peers(model: Model, ratio: float, scope: Scope, context: Context) -> Model:
    """Return torch-pruning's cut of a copy; the last layer keeps its outputs."""
    module = copy.deepcopy(model.module).eval()
    pruner = torch_pruning.pruner.BasePruner(
        module,
        dict(context.example),
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        global_pruning=scope == "global",
        pruning_ratio=ratio,
        ignored_layers=[module.fc],
    )
    pruner.step()
    return Model(module, model.spec)


SIDES: dict[str, Callable[[Model, float, Scope, Context], Model]] = {"mcomp": ours, "torch-pruning": peers}


def accuracy(model: Model, data: Data) -> float:
    """Return the accuracy on test, in percent."""
    task = ClassificationConfig(num_classes=10)
    return 100 * evaluate(model.module.eval(), data.split("test"), task).metric


def cell(side: str, ratio: float, scope: Scope, seed: int, data: Data) -> dict[str, float]:
    """Cut, measure, train, and measure again."""
    context, whole = context_for(data, seed, FOLDER), trained_resnet(FOLDER, data, seed)
    cut = SIDES[side](whole, ratio, scope, context)
    share = count_macs(cut.module, context.example) / count_macs(whole.module, context.example)
    at_once = accuracy(cut, data)
    trained = RECOVER.run(cut, context).model
    assert trained is not None
    return {"macs": share, "at once": at_once, "trained": accuracy(trained, data)}


def rows() -> list[tuple[str, float, Scope]]:
    """Return what is compared."""
    return [(side, ratio, scope) for scope in SCOPES for ratio in RATIOS for side in SIDES]


def read(path: Path) -> dict[str, dict[str, float]]:
    """Return the cells that are stored, by name."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {name: figures for line in lines for name, figures in json.loads(line).items()}


def name_of(side: str, ratio: float, scope: str, seed: int) -> str:
    return f"{scope} {ratio:g} {side} / {seed}"


def table(known: dict[str, dict[str, Any]]) -> str:
    """Return the means and deviations that are there."""
    lines = [
        "| cut | seeds | MACs | test at once, % | after training, % |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows():
        found = [known[name] for seed in SEEDS if (name := name_of(*row, seed)) in known]
        if found:
            macs, *spreads = ([each[part] for each in found] for part in ("macs", "at once", "trained"))
            told = [
                f"{fmean(values):.1f} ± {stdev(values):.1f}" if len(values) > 1 else f"{values[0]:.1f}"
                for values in spreads
            ]
            side, ratio, scope = row
            lines.append(
                f"| {scope} {ratio:g}, {side} | {len(found)} | {fmean(macs):.3f} | {' | '.join(told)} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Do the cells that are not there yet, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="a line of JSON for each cell")
    path = parser.parse_args().out
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    data = mnist(20)
    for seed in SEEDS:
        for row in rows():
            if name_of(*row, seed) not in read(path):
                found = {name_of(*row, seed): cell(*row, seed, data)}
                with path.open("a") as file:
                    file.write(json.dumps(found) + "\n")
                print(found, flush=True)
    print(table(read(path)))


if __name__ == "__main__":
    main()
