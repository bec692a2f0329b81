"""What distilling, few bits and pruning cost on photographs of solar cells, each beside its control.

    python tests/benchmarks/solar_cells.py --out cells.jsonl --minutes 15

ELPV (`pip install 'mcomp[data]'`) at 32 px: 1,640 cells to train on, 656 for the test. A LeNet-5
learns alone, or from a ResNet-20; the same ResNet-20 of width 8 is quantized and pruned. Each finished
cell is a line of `--out`; started again, it goes on behind them. `change` is the mean difference from the
control, seed by seed, with the 95 % interval of Student's t. Every choice is made on validation.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from mcomp.data.contract import Data
from mcomp.measure.accuracy import evaluate
from mcomp.model.checkpoint import load_model, save_model
from mcomp.model.example import Example
from mcomp.model.model import Model
from mcomp.recipe.schema import Compute, RecipeRef
from mcomp.stage import Context, StageConfig
from mcomp_stages.data.elpv import ElpvConfig
from mcomp_stages.distill.itself import DistillSelf
from mcomp_stages.distill.offline import DistillOffline
from mcomp_stages.methods.distillation.fresh import fresh
from mcomp_stages.models.lenet5 import LeNet5Config
from mcomp_stages.models.resnet import ResNetConfig
from mcomp_stages.prune.channels import PruneChannels
from mcomp_stages.prune.unstructured import PruneUnstructured
from mcomp_stages.quantize.qat import QuantizeQat
from mcomp_stages.tasks.classification import ClassificationConfig
from mcomp_stages.train.supervised import Train
from tests.benchmarks.distillation import interval, spread
from tests.benchmarks.trained import Silent

TASK = ClassificationConfig(num_classes=2)
SHAPE: dict[str, Any] = {"in_channels": 1, "num_classes": 2}
NETWORKS = {
    "student": LeNet5Config(image_size=32, **SHAPE),
    "float": ResNetConfig(depth=20, width=8, **SHAPE),
    "teacher": ResNetConfig(depth=20, width=16, **SHAPE),
}
SCRATCH: dict[str, Any] = {
    "epochs": 20,
    "optimizer": {"type": "sgd", "lr": 0.05},
    "schedule": {"type": "one_cycle"},
}
STUDENT = {**SCRATCH, "optimizer": {"type": "adamw", "lr": 0.004}}
FINE: dict[str, Any] = {"epochs": 4, "optimizer": {"type": "sgd", "lr": 0.01}}
TEACHER = RecipeRef(recipe="teacher")
ENDS = [{"layer": end, "weights": {"bits": 8}, "activations": {"bits": 8}} for end in ("first", "last")]


class Row(NamedTuple):
    """A stage, the network that it begins with (`student` is fresh, `float` is trained), and its control."""

    stage: StageConfig
    start: str
    control: str


def learning(stage: StageConfig) -> Row:
    return Row(stage, "student", "student, labels alone")


def following(term: dict[str, Any]) -> Row:
    said = {"teachers": [TEACHER], "loss": [term], "training": STUDENT}
    return learning(DistillOffline.model_validate(said))


def few_bits(bits: int, method: str) -> Row:
    widths = {"weights": {"bits": bits}, "activations": {"bits": bits}}
    said = {**widths, "method": {"type": method}, "overrides": ENDS, "training": FINE}
    return Row(QuantizeQat.model_validate(said), "float", f"{bits} bits, minmax")


def channels(importance: str) -> Row:
    said = {
        "importance": importance,
        "target": {"macs": 0.5},
        "round_to": 2,
        "min_channels": 2,
        "recover": FINE,
    }
    return Row(PruneChannels.model_validate(said), "float", "half the MACs, random")


def zeros(schedule: dict[str, Any]) -> Row:
    said = {"sparsity": 0.9, "schedule": schedule, "recover": {**FINE, "epochs": 8}}
    return Row(PruneUnstructured.model_validate(said), "float", "90 % zeros, one shot")


ROWS: dict[str, Row] = {
    "student, labels alone": learning(Train.model_validate({"training": STUDENT})),
    "student, KD": following({"type": "kd", "temperature": 4.0, "weight": 0.7}),
    "student, DIST": following({"type": "dist", "temperature": 1.0, "weight": 0.7}),
    "student, PS-KD": learning(
        DistillSelf.model_validate({"method": {"type": "ps_kd"}, "training": STUDENT})
    ),
    "trained on": Row(Train.model_validate({"training": FINE}), "float", "trained on"),
    **{
        f"{bits} bits, {method}": few_bits(bits, method) for bits in (4, 3, 2) for method in ("minmax", "lsq")
    },
    **{f"half the MACs, {importance}": channels(importance) for importance in ("random", "l2", "taylor")},
    "90 % zeros, one shot": zeros({"type": "one_shot"}),
    "90 % zeros, gradual": zeros({"type": "gradual"}),
}


@cache
def data() -> Data:
    return ElpvConfig.model_validate({"image_size": 32, "augment": {"flip": "both"}}).load()


def context(seed: int, models: dict[RecipeRef, Model] | None = None) -> Context:
    return Context(
        step="benchmark",
        seed=seed,
        data=data(),
        batch_size=32,
        task=TASK,
        compute=Compute(threads=1),
        folder=Path("/nonexistent"),
        example=Example(data().split("calibration").batch(torch.arange(2)).inputs),
        reporter=Silent(),
        models=models or {},
    )


def trained(name: str, seed: int, folder: Path) -> Model:
    """Return a float network, trained the first time it is asked for and kept in `folder`."""
    kept = folder / f"{name}-{seed}"
    if not (kept / "model.json").exists():
        stage = Train.model_validate({"training": SCRATCH})
        result = stage.run(fresh(NETWORKS[name], seed, "initial weights"), context(seed)).model
        assert result is not None
        save_model(result, kept)
    return load_model(kept)


def on_test(model: Model, seed: int) -> float:
    """Return the accuracy of what is served, in percent of the test split."""
    module = model.inference_module(context(seed).example)
    return 100 * evaluate(module, data().split("test"), TASK).metric


def cell(name: str, seed: int, folder: Path) -> dict[str, Any]:
    """Run one way."""
    start = time.perf_counter()
    row = ROWS[name]
    teachers = {TEACHER: trained("teacher", 0, folder)} if isinstance(row.stage, DistillOffline) else {}
    student = fresh(NETWORKS["student"], seed, "initial weights")
    first = student if row.start == "student" else trained("float", seed, folder)
    model = row.stage.run(first, context(seed, teachers)).model
    assert model is not None
    return {"row": name, "seed": seed, "accuracy": on_test(model, seed), "s": time.perf_counter() - start}


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def fill(path: Path, seeds: int, minutes: float) -> None:
    """Do the cells that are missing until the time is over."""
    end = time.monotonic() + 60 * minutes
    done = {(each["row"], each["seed"]) for each in read(path)}
    for seed in range(seeds):
        for name in ROWS:
            if (name, seed) not in done and time.monotonic() < end:
                found = cell(name, seed, path.with_suffix(".models"))
                with path.open("a") as file:
                    file.write(json.dumps(found) + "\n")
                print(found, flush=True)


def table(found: list[dict[str, Any]]) -> str:
    """Return the table of what is there, in Markdown."""
    lines = ["| | test, % | change, points | seeds |", "| --- | --- | --- | --- |"]
    for name, row in ROWS.items():
        own = {each["seed"]: each["accuracy"] for each in found if each["row"] == name}
        control = {each["seed"]: each["accuracy"] for each in found if each["row"] == row.control}
        if own:
            changes = [own[seed] - control[seed] for seed in own.keys() & control.keys()]
            change = "" if name == row.control else interval(changes)
            lines.append(f"| {name} | {spread(list(own.values()))} | {change} | {len(own)} |")
    return "\n".join(lines)


def main() -> None:
    """Go on with the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="a line of JSON for each cell")
    parser.add_argument("--seeds", type=int, default=3, help="2 to 5 (default: 3)")
    parser.add_argument("--minutes", type=float, default=7, help="stop after so many (default: 7)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    fill(given.out, given.seeds, given.minutes)
    print(table(read(given.out)))
    folder = given.out.with_suffix(".models")
    floats = [on_test(load_model(kept), 0) for kept in sorted(folder.glob("float-*"))]
    teacher = on_test(trained("teacher", 0, folder), 0)
    print(f"\nResNet-20 of width 8: {fmean(floats):.2f} %, the teacher of width 16: {teacher:.2f} %")


if __name__ == "__main__":
    main()
