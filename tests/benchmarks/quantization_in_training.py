"""Accuracies of quantization in training on MNIST-5k, ResNet-20 of width 8 trained on 1,000 images.

    python tests/benchmarks/quantization_in_training.py --out figures.json --seeds 3

Each finished figure is stored; started again, it goes on behind them. `--show` prints the tables.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from mcomp.data.augment import Augment
from mcomp.measure.accuracy import evaluate
from mcomp.model.checkpoint import load_model, save_model
from mcomp.model.example import Example
from mcomp.model.model import Model
from mcomp.model.spec import ModelConfig
from mcomp.recipe.schema import Compute
from mcomp.stage import Context
from mcomp_stages.data.mnist5k import Mnist5kConfig
from mcomp_stages.methods.quantization.calibrate import calibrated
from mcomp_stages.methods.quantization.learned.assign import with_methods
from mcomp_stages.methods.quantization.learned.start import with_first_scales
from mcomp_stages.methods.quantization.observers.config import MSE
from mcomp_stages.methods.quantization.scheme import quantizers_for
from mcomp_stages.models.resnet import ResNetConfig
from mcomp_stages.quantize.binary import QuantizeBinary
from mcomp_stages.quantize.mixed import QuantizeMixed
from mcomp_stages.quantize.qat import QuantizeQat
from mcomp_stages.tasks.classification import ClassificationConfig
from mcomp_stages.train.supervised import Train
from tests.mcomp.training.setting import Quiet

DATA = Mnist5kConfig(train=1000, image_size=20, augment=Augment(crop_padding=2))
SPEC = ResNetConfig(depth=20, width=8, in_channels=1, num_classes=10)
TASK = ClassificationConfig(num_classes=10)
FROM_SCRATCH = {"epochs": 12, "optimizer": {"type": "sgd", "lr": 0.05}, "schedule": {"type": "one_cycle"}}
FOLDER = Path(tempfile.gettempdir()) / "quantization-in-training"
EPOCHS = {2: 8}  # two epochs are 32 updates, too few for two bits
ENDS = [
    {"layer": end, "weights": {"bits": 8}, "activations": {"bits": 8}} for end in ("first", "last")
]  # first and last layer at 8 bits


@cache
def context(seed: int) -> Context:
    data = DATA.load()
    example = Example(data.split("calibration").batch(torch.arange(2)).inputs)
    return Context(
        step="step",
        seed=seed,
        data=data,
        batch_size=64,
        task=TASK,
        compute=Compute(threads=1),
        folder=Path("/nonexistent"),
        example=example,
        reporter=Quiet(),
        models={},
    )


def fresh(seed: int) -> Model:
    torch.manual_seed(seed)
    return Model(SPEC.build().eval(), SPEC)


def on_test(model: Model, seed: int) -> float:
    """Return the accuracy of what is served, in percent of the test split."""
    module = model.inference_module(context(seed).example)
    return 100 * evaluate(module, context(seed).data.split("test"), TASK).metric


def trained(seed: int, gradients: dict[str, Any] | None = None) -> Model:
    stage = Train.model_validate({"training": {**FROM_SCRATCH, "gradients": gradients}})
    result = stage.run(fresh(seed), context(seed)).model
    assert result is not None
    return result


@cache
def teacher(seed: int) -> Model:
    """Return the float model that all methods start from, trained once and kept."""
    kept = FOLDER / f"float-{seed}"
    if not (kept / "model.json").exists():
        save_model(trained(seed), kept)
    return load_model(kept)


def fine(bits: int = 8) -> dict[str, Any]:
    """Return the training that follows the insertion of quantizers."""
    return {"epochs": EPOCHS.get(bits, 2), "optimizer": {"type": "sgd", "lr": 0.01}}


def qat(seed: int, bits: int, **fields: Any) -> Model:
    asked = {
        "weights": {"bits": bits},
        "activations": {"bits": bits},
        "overrides": ENDS,
        "training": fine(bits),
        **fields,
    }
    result = QuantizeQat.model_validate(asked).run(teacher(seed), context(seed)).model
    assert result is not None
    return result


def ptq(seed: int, bits: int) -> Model:
    """The same grids without training: steps of weights and activations with the least squared error."""
    asked = QuantizeQat.model_validate(
        {"weights": {"bits": bits}, "activations": {"bits": bits}, "overrides": ENDS, "training": fine(bits)}
    )
    model, where = teacher(seed), context(seed)
    edit = with_methods(quantizers_for(model.module, where.example, asked), "fixed", where.example)
    started = with_first_scales(model.edited(edit), MSE())
    return calibrated(started, where.example, asked.batches(where), MSE())


def mixed(seed: int, mean_bits: float) -> Model:
    """The widths of layers that a budget allows, first and last layer at 8 bits as in the others."""
    asked = {
        "budget": {"mean_bits": mean_bits},
        "activations": {"bits": 8},
        "sensitivity": "measured",
        "overrides": ENDS,
        "training": fine(),
    }
    result = QuantizeMixed.model_validate(asked).run(teacher(seed), context(seed)).model
    assert result is not None
    return result


def binary(seed: int, **fields: Any) -> Model:
    training = {"epochs": 6, "optimizer": {"type": "adamw", "lr": 0.004}}
    asked = {"training": training, "first_step": {"epochs": 3}, **fields}
    result = QuantizeBinary.model_validate(asked).run(teacher(seed), context(seed)).model
    assert result is not None
    return result


def uniform_mean_bits(spec: ModelConfig, bits: int) -> float:
    """Return the bits of a weight on average where all layers but the first and the last have `bits`."""
    module = spec.build()
    layers = [each for each in module.modules() if isinstance(each, torch.nn.Conv2d | torch.nn.Linear)]
    numels = [each.weight.numel() for each in layers]
    ends = numels[0] + numels[-1]
    return (8 * ends + bits * (sum(numels) - ends)) / sum(numels)


def cells() -> dict[str, Callable[[int], Model]]:
    """Return what is measured, by name; each is given a seed."""
    eight = {"activations": {"bits": 8}}
    found: dict[str, Callable[[int], Model]] = {"float": teacher}
    for bits in (4, 3, 2):
        found[f"ptq {bits}"] = partial(ptq, bits=bits)
        for method in ("minmax", "lsq"):
            found[f"{method} {bits}"] = partial(qat, bits=bits, method={"type": method})
    found["lsq weights 3"] = partial(qat, bits=3, **eight)
    found["mixed weights 3"] = partial(mixed, mean_bits=uniform_mean_bits(SPEC, 3))
    found["binary activations 1"] = binary
    found["ternary activations 8"] = partial(binary, weights="ternary", activations=8)
    for bits in (8, 4):
        for rounding in ("stochastic", "nearest") if bits < 8 else ("stochastic",):
            name = f"gradients {bits} {rounding}"
            found[name] = partial(trained, gradients={"bits": bits, "rounding": rounding})
    for method in ("lsq+", "pact", "dorefa"):
        found[f"{method} 3"] = partial(qat, bits=3, method={"type": method})
    return found


def measure(out: Path, seeds: int, only: str) -> None:
    figures = json.loads(out.read_text()) if out.exists() else {}
    for seed in range(seeds):
        for name, make in cells().items():
            key = f"{name}/{seed}"
            if key in figures or only not in name:
                continue
            start = time.perf_counter()
            figures[key] = [on_test(make(seed), seed), time.perf_counter() - start]
            print(f"{key}: {figures[key][0]:.2f} % in {figures[key][1]:.0f} s", flush=True)
            out.write_text(json.dumps(figures, indent=1))


def show(out: Path) -> None:
    by_name: dict[str, list[float]] = {}
    for key, (accuracy, _) in json.loads(out.read_text()).items():
        by_name.setdefault(key.rpartition("/")[0], []).append(accuracy)
    for name, values in by_name.items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        listed = ", ".join(f"{value:.2f}" for value in values)
        print(f"| {name} | {statistics.mean(values):.2f} | {spread:.2f} | {listed} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="part of the names of what is measured")
    parser.add_argument("--show", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.show:
        measure(options.out, options.seeds, options.only)
    show(options.out)


if __name__ == "__main__":
    main()
