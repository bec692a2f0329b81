"""Accuracies of sparsity on 1,000 images of MNIST, three seeds: LeNet-5, and ResNet-20 of width 8 for what
is learned.

    python tests/benchmarks/sparsity.py --out figures.json
    python tests/benchmarks/sparsity.py --solver
    python tests/benchmarks/sparsity.py --bytes

Each finished figure is stored; started again, it goes on behind them. `--show` prints the tables, `--only`
does the cells whose names begin so. `--solver` times optimal brain surgeon on one large layer. `--bytes` is
what 90 % zeros and integers are worth in files, of ResNet-20s with weights as drawn, calibrated and not
trained: bytes hardly depend on their values. Compressed is by DEFLATE.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from mcomp.data.contract import Data
from mcomp.measure.accuracy import evaluate
from mcomp.model.checkpoint import load_model, save_model
from mcomp.model.model import Model
from mcomp.model.spec import ModelConfig
from mcomp.recipe.schema import RecipeRef
from mcomp.stage import StageConfig
from mcomp_stages.export.onnx import ExportOnnx
from mcomp_stages.methods.onnx.zeros import compressed_size
from mcomp_stages.methods.sparsity.second_order import METHODS, Goal
from mcomp_stages.models.lenet5 import LeNet5Config
from mcomp_stages.models.resnet import ResNetConfig
from mcomp_stages.prune.hessian import PruneHessian
from mcomp_stages.prune.learned import PruneLearned
from mcomp_stages.prune.unstructured import PruneUnstructured
from mcomp_stages.quantize.qat import QuantizeQat
from mcomp_stages.quantize.static import QuantizeStatic
from mcomp_stages.tasks.classification import ClassificationConfig
from mcomp_stages.train.supervised import Train
from tests.benchmarks.trained import context_for, mnist

FOLDER = Path(tempfile.gettempdir()) / "sparsity-benchmark"
SEEDS = (0, 1, 2)
SHARES = (0.5, 0.6, 0.7)
EPOCHS = (9, 42)  # of training after or while pruning
WHOLE = RecipeRef(recipe="the whole network")
BY_THE_WHOLE: dict[str, Any] = {
    "schedule": {"type": "cosine"},
    "teachers": [WHOLE],
    "loss": {"type": "kd", "temperature": 4.0, "weight": 0.7},
}
SGD = {"type": "sgd", "lr": 0.05}
ADAM = {"type": "adamw", "lr": 0.003}
NETWORKS: dict[str, tuple[ModelConfig, dict[str, Any]]] = {
    "lenet": (LeNet5Config(image_size=20, in_channels=1, num_classes=10), {"epochs": 30, "optimizer": ADAM}),
    "resnet": (
        ResNetConfig(depth=20, width=8, num_classes=10, in_channels=1),
        {"epochs": 15, "optimizer": SGD, "schedule": {"type": "one_cycle"}},
    ),
}
Figure = dict[str, float]


@cache
def data(image_size: int = 20) -> Data:
    return mnist(image_size)


@cache
def start(seed: int, network: str = "lenet") -> Model:
    """Return the network that all begin with, trained once and kept."""
    kept = FOLDER / f"{network}-{seed}"
    if not (kept / "model.json").exists():
        torch.manual_seed(seed)
        spec, training = NETWORKS[network]
        context = context_for(data(), seed, FOLDER)
        result = Train.model_validate({"training": training}).run(Model(spec.build(), spec), context)
        assert result.model is not None
        save_model(result.model, kept)
    return load_model(kept)


def on_test(model: Model, images: Data) -> float:
    """Return the accuracy on test, in percent."""
    example = context_for(images, 0, FOLDER).example
    module = model.inference_module(example)
    return 100 * evaluate(module, images.split("test"), ClassificationConfig(num_classes=10)).metric


def after(stage: StageConfig, seed: int, network: str = "lenet") -> Figure:
    """Return the accuracy on test of what a stage makes of the trained network."""
    result = stage.run(start(seed, network), context_for(data(), seed, FOLDER))
    assert result.model is not None
    return {"accuracy": on_test(result.model, data())}


def at_once(seed: int, share: float, scope: str) -> Figure:
    return after(PruneUnstructured.model_validate({"sparsity": share, "scope": scope}), seed)


def by_hessian(seed: int, share: float, method: str) -> Figure:
    # Fisher takes a backward pass for every sample; half of them is what it gets here.
    samples, damping = (128, 0.01) if method == "fisher" else (256, 0.1)
    fields = {"sparsity": share, "method": method, "samples": samples, "damping": damping}
    return after(PruneHessian.model_validate(fields), seed)


def trained_to(seed: int, share: float, schedule: dict[str, Any], epochs: int) -> Figure:
    recover = {"epochs": epochs, "optimizer": ADAM, "schedule": {"type": "cosine"}}
    stage = PruneUnstructured.model_validate({"sparsity": share, "schedule": schedule, "recover": recover})
    return after(stage, seed)


def trained_on(seed: int, epochs: int) -> Figure:
    """The control of the schedules: the same training, no zeros."""
    training = {"epochs": epochs, "optimizer": ADAM, "schedule": {"type": "cosine"}}
    return after(Train.model_validate({"training": training}), seed)


def learned(seed: int, penalty: dict[str, Any], recover: int, **fields: Any) -> Figure:
    stage = PruneLearned.model_validate(
        {
            "penalty": penalty,
            "training": {"epochs": 6, "optimizer": SGD},
            "target": {"macs": 0.35},
            "round_to": 1,
            "min_channels": 2,
            "recover": {"epochs": recover, "optimizer": SGD} if recover else None,
            **fields,
        }
    )
    return after(stage, seed, "resnet")


PENALTIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "none, cut by l2": ({"type": "l2", "strength": 1e-9}, {"importance": "l2"}),
    "l1": ({"type": "l1", "strength": 0.01}, {"importance": "l1"}),
    "l2": ({"type": "l2", "strength": 0.1}, {"importance": "l2"}),
    "group lasso": ({"type": "group_lasso", "strength": 0.01}, {"importance": "l2"}),
    "slimming": ({"type": "slimming", "strength": 0.1}, {"importance": "bn_scale"}),
    "growing": ({"type": "growing", "strength": 10.0}, {"importance": "l2"}),
}


def lenet(seed: int) -> Figure:
    """Deep Compression's chain: prune, few bits, entropy coding. Sizes are of ONNX files."""
    images = data(28)
    context = context_for(images, seed, FOLDER)
    torch.manual_seed(seed)
    spec = LeNet5Config(image_size=28, in_channels=1, num_classes=10)
    dense = Train.model_validate({"training": {"epochs": 25, "optimizer": ADAM}})
    trained = dense.run(Model(spec.build(), spec), context).model
    assert trained is not None
    context = replace(context, models={WHOLE: trained})
    sparse = PruneUnstructured.model_validate(
        {
            "sparsity": 0.973,
            "schedule": {"type": "gradual", "end": 0.5},
            "recover": {"epochs": 240, "optimizer": ADAM, **BY_THE_WHOLE},
        }
    )
    pruned = sparse.run(trained, context).model
    assert pruned is not None
    few_bits = QuantizeQat.model_validate(
        {
            # One scale a layer: on so small a network those of all channels are a quarter of the file.
            "weights": {"bits": 5, "per": "tensor"},
            "training": {"epochs": 30, "optimizer": {**ADAM, "lr": 0.001}, **BY_THE_WHOLE},
        }
    )
    small = few_bits.run(pruned, context).model
    assert small is not None
    sizes = {}
    for name, model in (("dense", trained), ("small", small)):
        result = ExportOnnx().run(model, context)
        sizes[name] = sum(path.stat().st_size for path in result.files.values())
        sizes[f"{name} compressed"] = compressed_size(result.files.values())
    return {
        "accuracy": on_test(small, images),
        "pruned": on_test(pruned, images),
        "before": on_test(trained, images),
        "dense_bytes": sizes["dense"],
        "small_bytes": sizes["small compressed"],
        "times": sizes["dense"] / sizes["small compressed"],
    }


def cells() -> dict[str, Callable[[int], Figure]]:
    """Return what is measured, by name; each is given a seed."""
    found: dict[str, Callable[[int], Figure]] = {
        "once dense": lambda seed: {"accuracy": on_test(start(seed), data())}
    }
    for share in SHARES:
        for scope in ("layer", "global"):
            name = f"once {share:.0%} magnitude, {scope}"
            found[name] = lambda seed, share=share, scope=scope: at_once(seed, share, scope)
        for method in ("wanda", "obd", "obs", "fisher"):
            name = f"once {share:.0%} {method}"
            found[name] = lambda seed, share=share, method=method: by_hessian(seed, share, method)
    for epochs in EPOCHS:
        schedules = {
            "one shot": ({"type": "one_shot"}, epochs),
            "3 rounds": ({"type": "iterative", "rounds": 3}, epochs // 3),
            "gradual": ({"type": "gradual", "end": 0.5, "every": 4}, epochs),
        }
        for name, (schedule, each) in schedules.items():
            for share in (0.9, 0.95):
                found[f"trained {share:.0%} {epochs} {name}"] = (
                    lambda seed, share=share, schedule=schedule, each=each: trained_to(
                        seed, share, schedule, each
                    )
                )
        found[f"trained dense {epochs}"] = lambda seed, epochs=epochs: trained_on(seed, epochs)
    for name, (penalty, fields) in PENALTIES.items():
        for recover in (0, 3):
            found[f"learned {name}, {recover} epochs after"] = (
                lambda seed, penalty=penalty, fields=fields, recover=recover: learned(
                    seed, penalty, recover, **fields
                )
            )
    found["lenet chain"] = lenet
    return found


def measure(path: Path, only: str) -> None:
    """Fill in the figures that are missing."""
    known: dict[str, Figure] = json.loads(path.read_text()) if path.exists() else {}
    for name, cell in cells().items():
        for seed in SEEDS:
            key = f"{name} / {seed}"
            if name.startswith(only) and key not in known:
                started = time.perf_counter()
                known[key] = cell(seed)
                path.write_text(json.dumps(known, indent=1))
                print(f"{key}: {known[key]} ({time.perf_counter() - started:.0f} s)", flush=True)


def show(path: Path) -> None:
    """Print the mean and the standard deviation of each cell."""
    known: dict[str, Figure] = json.loads(path.read_text())
    for name in cells():
        figures = [known[key] for seed in SEEDS if (key := f"{name} / {seed}") in known]
        if figures:
            for part in figures[0]:
                values = [figure[part] for figure in figures]
                spread = statistics.stdev(values) if len(values) > 1 else 0.0
                print(f"{name:45} {part:12} {statistics.mean(values):10.2f} ± {spread:.2f} ({len(values)})")


def time_solver(columns: int = 2048, rows: int = 2048) -> None:
    """Print the seconds of one layer at 50 %: factor, sweep and refinement."""
    torch.set_num_threads(2)
    generator = torch.Generator().manual_seed(0)
    x_NK = torch.randn(2 * columns, columns, generator=generator)
    hessian = (2 / len(x_NK) * x_NK.T @ x_NK).double()
    weight = torch.randn(rows, columns, generator=generator)
    started, worked = time.perf_counter(), time.process_time()
    METHODS["obs"](weight, hessian, Goal(0.5), 0.01, torch.ones_like(weight, dtype=torch.bool))
    seconds, processor = time.perf_counter() - started, time.process_time() - worked
    print(f"{rows} rows of {columns} columns: {seconds:.1f} s, {processor:.1f} s of two processors")


def count_bytes(width: int, share: float = 0.9) -> None:
    """Print the bytes of files and checkpoints of one ResNet-20, and the zeros of its masks and files."""
    spec = ResNetConfig(depth=20, width=width, num_classes=10, in_channels=1)
    context = context_for(data(), 0, FOLDER)
    torch.manual_seed(0)
    dense = Model(spec.build(), spec)
    sparse = PruneUnstructured.model_validate({"sparsity": share}).run(dense, context).model
    assert sparse is not None
    integers = QuantizeStatic().run(sparse, context).model
    assert integers is not None
    masked = sum(int((~mask).sum()) for name, mask in sparse.state.items() if name.startswith("masks."))
    print(f"width {width}: {masked} zeros in masks")
    first = 0
    for name, model in (("dense", dense), ("zeros", sparse), ("zeros, integers", integers)):
        exported = ExportOnnx().run(model, context)
        file, packed = exported.files["model.onnx"].stat().st_size, compressed_size(exported.files.values())
        found = sum(zeros for zeros, _ in exported.facts.get("zeros_in_file", {}).values())
        save_model(model, FOLDER / "bytes")
        saved = FOLDER / "bytes" / "weights.safetensors"
        first = first or file
        print(
            f"  {name:16} file {file:9,}, compressed {packed:9,}: {first / packed:5.1f} times smaller; "
            f"checkpoint {saved.stat().st_size:9,}, compressed {compressed_size([saved]):9,}; {found} zeros"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER / "figures.json")
    parser.add_argument("--only", default="")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--solver", action="store_true")
    parser.add_argument("--bytes", action="store_true")
    asked = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    if asked.solver:
        time_solver()
    elif asked.bytes:
        for width in (8, 16, 32):
            count_bytes(width)
    elif asked.show:
        show(asked.out)
    else:
        torch.set_num_threads(1)
        measure(asked.out, asked.only)


if __name__ == "__main__":
    main()
