"""Print what each way of distilling gives a small student on 1,000 images of MNIST, beside its control.

python tests/benchmarks/distillation.py --cells cells.jsonl --minutes 7

The control has the same budget and no teacher. Each trained student is one line of `--cells`, kept as soon as
it is there: run again to go on. The table is drawn of what is there. Every choice (best epoch, best peer) is
made on validation; accuracy and calibration error (15 bins) are of 2,500 test images. `change` is the mean
difference from the control, seed by seed, with the 95 % interval of Student's t.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple, cast

import torch
from torchmetrics.classification import MulticlassCalibrationError

sys.path.insert(0, str(Path(__file__).parents[2]))

from mcomp.data.contract import Data
from mcomp.fingerprint import sub_seed
from mcomp.model.checkpoint import load_model, save_model
from mcomp.model.example import Example
from mcomp.model.model import Model
from mcomp.model.spec import ModelConfig
from mcomp.recipe.schema import Compute, RecipeRef
from mcomp.stage import Context, StageConfig
from mcomp_stages.data.mnist5k import Mnist5kConfig
from mcomp_stages.distill.itself import DistillSelf
from mcomp_stages.distill.offline import DistillOffline
from mcomp_stages.distill.online import DistillOnline
from mcomp_stages.methods.distillation.fresh import fresh
from mcomp_stages.models.lenet5 import LeNet5Config
from mcomp_stages.models.resnet import ResNetConfig
from mcomp_stages.tasks.classification import ClassificationConfig
from mcomp_stages.train.supervised import Train

T_975 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # by the number of seeds
SHAPE = {"in_channels": 1, "num_classes": 10}
STUDENT = LeNet5Config.model_validate({**SHAPE, "image_size": 28})
TEACHER = ResNetConfig.model_validate({**SHAPE, "depth": 20, "width": 16})
ASSISTANT = ResNetConfig.model_validate({**SHAPE, "depth": 20, "width": 8})
TRAINING = {"epochs": 15, "optimizer": {"type": "adamw", "lr": 0.004}, "schedule": {"type": "one_cycle"}}
TWICE = {**TRAINING, "epochs": 30}
TEACHERS = [RecipeRef(recipe=f"teacher {number}") for number in range(3)]
HELPER = RecipeRef(recipe="assistant")
MIDDLE = [{"student": "conv2", "teacher": "layer2"}]
LAST = [{"student": "fc2", "teacher": "layer3"}]


class Row(NamedTuple):
    """One way to train a student, and the control that costs as much."""

    stage: StageConfig
    control: str = "labels alone"


def offline(*terms: dict[str, Any], **fields: Any) -> Row:
    """Return distillation by some terms, from the first teacher unless others are said."""
    said = {"teachers": TEACHERS[:1], "loss": list(terms), "training": TRAINING, **fields}
    return Row(DistillOffline.model_validate(said))


def online(method: dict[str, Any]) -> Row:
    """Return two peers that learn together."""
    stage = DistillOnline.model_validate({"method": method, "peers": 2, "training": TRAINING})
    return Row(stage, "labels alone, best of two")


def itself(method: dict[str, Any], control: str = "labels alone") -> Row:
    """Return a student that is its own teacher."""
    return Row(DistillSelf.model_validate({"method": method, "training": TRAINING}), control)


KD = {"type": "kd", "temperature": 4.0, "weight": 0.7}
ROWS: dict[str, Row] = {
    "labels alone": Row(Train.model_validate({"training": TRAINING})),
    "labels alone, twice the epochs": Row(Train.model_validate({"training": TWICE})),
    "labels alone, best of two": Row(Train.model_validate({"training": TRAINING})),
    "KD": offline(KD),
    "KD, standardized": offline({**KD, "standardize": True, "temperature": 2.0}),
    "KD, temperature 8 to 2": offline({**KD, "temperature": {"start": 8, "end": 2}}),
    "KD, no labels": offline({**KD, "weight": 1.0}, labels=0),
    "DKD": offline({"type": "dkd", "temperature": 4.0, "weight": 0.7}),
    "DIST": offline({"type": "dist", "weight": 0.5}),
    "DIST, temperature 4": offline({"type": "dist", "temperature": 4.0, "weight": 0.7}),
    "FitNet": offline({"type": "fitnet", "taps": MIDDLE}),
    "AT": offline({"type": "at", "taps": MIDDLE}),
    "SP": offline({"type": "sp", "taps": LAST}),
    "RKD": offline({"type": "rkd", "taps": LAST}),
    "CRD": offline({"type": "crd", "taps": LAST}),
    "KD + CRD": offline(KD, {"type": "crd", "taps": LAST}),
    "KD, three teachers": offline(KD, teachers=TEACHERS),
    "KD, three teachers by confidence": offline(KD, teachers=TEACHERS, ensemble={"type": "confidence"}),
    "KD from an assistant": offline(KD, teachers=[HELPER]),
    "mutual learning": online({"type": "dml"}),
    "KDCL": online({"type": "kdcl"}),
    "ONE": online({"type": "one", "branch": ["fc*"]}),
    "byot": itself({"type": "byot"}),
    "PS-KD": itself({"type": "ps_kd"}),
    "Born-Again": itself({"type": "born_again"}, "labels alone, twice the epochs"),
}


class Silent:
    """A reporter that says nothing."""

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Silent]:
        yield self

    def advance(self, steps: int = 1, **figures: float | str) -> None: ...

    def log(self, message: str) -> None: ...

    def warn(self, message: str) -> None:
        print(message, file=sys.stderr)


def context(data: Data, seed: int, models: dict[RecipeRef, Model] | None = None) -> Context:
    """Return what a stage is given."""
    return Context(
        step="benchmark",
        seed=seed,
        data=data,
        batch_size=64,
        task=ClassificationConfig(num_classes=10),
        compute=Compute(threads=1, device="cpu"),
        folder=Path("/nonexistent"),
        example=Example(data.split("calibration").batch(torch.arange(2)).inputs),
        reporter=Silent(),
        models=models or {},
    )


def trained(stage: StageConfig, spec: ModelConfig, setting: Context, purpose: str = "") -> Model:
    """Return a model of an architecture after one stage."""
    result = stage.run(fresh(spec, setting.seed, f"initial weights{purpose}"), setting)
    return cast(Model, result.model)


def kept(folder: Path, name: str, make: Callable[[], Model]) -> Model:
    """Return a model that was made before, or make it."""
    if not (folder / name).exists():
        print(f"training {name}", flush=True)
        save_model(make(), folder / name)
    return load_model(folder / name)


def teachers(data: Data, folder: Path) -> dict[RecipeRef, Model]:
    """Return three teachers, and an assistant that learnt from the first."""
    augmented = Mnist5kConfig.model_validate({"augment": {"crop_padding": 2}}).load()
    train = Train.model_validate({"training": {**TRAINING, "optimizer": {"type": "sgd", "lr": 0.05}}})
    found = {
        reference: kept(
            folder,
            reference.recipe.replace(" ", "_"),
            lambda seed=seed: trained(train, TEACHER, context(augmented, seed)),
        )
        for seed, reference in enumerate(TEACHERS)
    }
    follow = offline(KD).stage
    found[HELPER] = kept(folder, "assistant", lambda: trained(follow, ASSISTANT, context(data, 0, found)))
    return found


def figures(model: Model, data: Data) -> dict[str, float]:
    """Return accuracy and expected calibration error on test."""
    split = data.split("test")
    batch = split.batch(torch.arange(len(split)))
    with torch.no_grad():
        output = model.module(**batch.inputs)
    error = MulticlassCalibrationError(10, n_bins=15)(output.softmax(dim=1), batch.target)
    return {
        "accuracy": float((output.argmax(dim=1) == batch.target).float().mean()),
        "calibration_error": float(error),
        "validation": validation(model, data),
    }


def validation(model: Model, data: Data) -> float:
    """Return the accuracy on validation."""
    split = data.split("validation")
    batch = split.batch(torch.arange(len(split)))
    with torch.no_grad():
        return float((model.module(**batch.inputs).argmax(dim=1) == batch.target).float().mean())


def cell(name: str, seed: int, data: Data, models: dict[RecipeRef, Model]) -> dict[str, Any]:
    """Train one student and return what it reached."""
    start = time.process_time()
    setting = context(data, sub_seed(seed, "benchmark"), models)
    model = trained(ROWS[name].stage, STUDENT, setting)
    if name.endswith("best of two"):
        other = replace(setting, seed=sub_seed(seed, "benchmark, other"))
        model = max(model, trained(ROWS[name].stage, STUDENT, other), key=lambda each: validation(each, data))
    return {"row": name, "seed": seed, **figures(model, data), "cpu_seconds": time.process_time() - start}


def fill(path: Path, seeds: int, minutes: float) -> None:
    """Train the students that are missing, seed by seed, until the time is over."""
    end = time.monotonic() + 60 * minutes
    data = Mnist5kConfig().load()
    models = teachers(data, path.with_suffix(".models"))
    for reference, model in models.items():
        print(reference.recipe, figures(model, data), flush=True)
    done = {(each["row"], each["seed"]) for each in cells(path)}
    for seed in range(seeds):
        for name in ROWS:
            if time.monotonic() > end:
                return
            if (name, seed) not in done:
                found = cell(name, seed, data, models)
                with path.open("a") as file:
                    file.write(json.dumps(found) + "\n")
                print(found, flush=True)


def cells(path: Path) -> list[dict[str, Any]]:
    """Return what was trained so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(found: list[dict[str, Any]]) -> str:
    """Return the table of what is there, in Markdown."""
    lines = [
        "| | test, % | change, points | calibration error, % | CPU, s |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, row in ROWS.items():
        own = {each["seed"]: each for each in found if each["row"] == name}
        control = {each["seed"]: each["accuracy"] for each in found if each["row"] == row.control}
        if not own:
            continue
        accuracy = [100 * each["accuracy"] for each in own.values()]
        changes = [100 * (own[seed]["accuracy"] - control[seed]) for seed in own.keys() & control.keys()]
        error = fmean(100 * each["calibration_error"] for each in own.values())
        seconds = fmean(each["cpu_seconds"] for each in own.values())
        change = "" if name == row.control else interval(changes)
        lines.append(f"| {name} | {spread(accuracy)} | {change} | {error:.2f} | {seconds:.0f} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Return a mean and its standard deviation."""
    return f"{fmean(values):.2f} ± {stdev(values):.2f}" if len(values) > 1 else f"{values[0]:.2f}"


def interval(changes: list[float]) -> str:
    """Return a mean difference and the 95 % interval."""
    if len(changes) < 2:
        return ""
    half = T_975[len(changes)] * stdev(changes) / math.sqrt(len(changes))
    return f"{fmean(changes):+.2f} ({fmean(changes) - half:+.2f} to {fmean(changes) + half:+.2f})"


def main() -> None:
    """Go on with the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=Path, required=True, help="where what is trained is kept")
    parser.add_argument("--seeds", type=int, default=3, help="2 to 5 (default: 3)")
    parser.add_argument("--minutes", type=float, default=7, help="stop after so many (default: 7)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    fill(options.cells, options.seeds, options.minutes)
    print(table(cells(options.cells)))


if __name__ == "__main__":
    main()
