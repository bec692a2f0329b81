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
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from mcomp.data.contract import Data
from mcomp.fingerprint import sub_seed
from mcomp.measure.accuracy import evaluate
from mcomp.model.checkpoint import load_model, save_model
from mcomp.model.example import Example
from mcomp.model.model import Model
from mcomp.recipe.schema import Compute, RecipeRef
from mcomp.stage import Context
from mcomp_stages.data.elpv import ElpvConfig
from mcomp_stages.distill.offline import DistillOffline
from mcomp_stages.methods.distillation.fresh import fresh
from mcomp_stages.tasks.classification import ClassificationConfig
from mcomp_stages.train.supervised import Train
from tests.benchmarks.distillation import interval, spread
from tests.benchmarks.solar_cells_rows import NETWORKS, ROWS, SCRATCH, TEACHERS, Row
from tests.benchmarks.trained import Silent

TASK = ClassificationConfig(num_classes=2)


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


def on_validation(model: Model, seed: int) -> float:
    return evaluate(model.inference_module(context(seed).example), data().split("validation"), TASK).metric


def cell(name: str, seed: int, folder: Path) -> dict[str, Any]:
    """Run one way."""
    start = time.perf_counter()
    row = ROWS[name]
    wanted = row.stage.teachers if isinstance(row.stage, DistillOffline) else ()
    teachers = {each: trained("teacher", TEACHERS.index(each), folder) for each in wanted}
    setting = context(seed, teachers)
    model = after(row, seed, setting, folder)
    if name.endswith("best of two"):
        other = after(row, seed, replace(setting, seed=sub_seed(seed, "the other")), folder)
        model = max(model, other, key=lambda each: on_validation(each, seed))
    return {"row": name, "seed": seed, "accuracy": on_test(model, seed), "s": time.perf_counter() - start}


def after(row: Row, seed: int, setting: Context, folder: Path) -> Model:
    """Return what a row's stage makes of its first network."""
    first = (
        trained("float", seed, folder)
        if row.start == "float"
        else fresh(NETWORKS[row.start], setting.seed, "initial weights")
    )
    model = row.stage.run(first, setting).model
    assert model is not None
    return model


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def fill(path: Path, seeds: int, minutes: float, only: tuple[str, ...]) -> None:
    """Do the cells that are missing until the time is over."""
    end = time.monotonic() + 60 * minutes
    done = {(each["row"], each["seed"]) for each in read(path)}
    for seed in range(seeds):
        for name in ROWS:
            if name.startswith(only) and (name, seed) not in done and time.monotonic() < end:
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
    parser.add_argument("--only", nargs="+", default=[""], help="rows whose names begin so (default: all)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    fill(given.out, given.seeds, given.minutes, tuple(given.only))
    print(table(read(given.out)))
    folder = given.out.with_suffix(".models")
    floats = [on_test(load_model(kept), 0) for kept in sorted(folder.glob("float-*"))]
    teacher = on_test(trained("teacher", 0, folder), 0)
    print(f"\nResNet-20 of width 8: {fmean(floats):.2f} %, the teacher of width 16: {teacher:.2f} %")


if __name__ == "__main__":
    main()
