"""What static quantization costs in accuracy: observers, widths, AdaRound, equalisation, an outlier channel.

    python tests/benchmarks/post_training.py --folder DIR

ResNet-20 of width 8 on 1,000 images of MNIST, 2,500 others for the test, three seeds. Each cell is kept in
the folder when it is done, and not done again. Prints the accuracy, and the paired difference to a
reference on the same images with its 95 % interval. Nothing is chosen on the test images.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2]))

from mcomp.data.contract import Data
from mcomp.model.model import Model
from mcomp_stages.methods.quantization.equalize import by_input_channel, find_pairs, from_input_channel
from mcomp_stages.methods.quantization.training_graph import canonical_graph
from mcomp_stages.quantize.static import QuantizeStatic
from tests.benchmarks.trained import context_for, mnist, trained_resnet

SEEDS = (0, 1, 2)
OUTLIER = 64.0
OBSERVERS = ("minmax", "percentile", "mse", "kl")
FULL, FOUR, THREE = {"weight_range": "extremes"}, {"weights": {"bits": 4}}, {"weights": {"bits": 3}}
ADAROUND: dict[str, Any] = {"adaround": {"steps": 500, "lr": 0.02, "batch_size": 8}}
PLANTED = "outlier channel"

# What is asked for, and the row that it is compared with.
ROWS: Mapping[str, tuple[Mapping[str, Any] | None, str]] = {
    "FP32": (None, "FP32"),
    **{f"W8A8 {kind}": ({"observer": {"type": kind}}, "FP32") for kind in OBSERVERS},
    "W4A8 nearest, extremes": ({**FOUR, **FULL}, "FP32"),
    "W4A8 nearest": (FOUR, "FP32"),
    "W4A8 equalised, biases corrected": ({**FOUR, "equalize": True, "bias_correction": True}, "W4A8 nearest"),
    "W4A8 AdaRound": ({**FOUR, **ADAROUND}, "W4A8 nearest"),
    "W3A8 nearest, extremes": ({**THREE, **FULL}, "FP32"),
    "W3A8 nearest": (THREE, "FP32"),
    "W3A8 AdaRound": ({**THREE, **ADAROUND}, "W3A8 nearest"),
    **{
        f"{PLANTED}, W8A8 {kind}": ({"observer": {"type": kind}}, f"{PLANTED}, W8A8 minmax")
        for kind in OBSERVERS
    },
    f"{PLANTED}, W8A8 minmax equalised": (
        {"observer": {"type": "minmax"}, "equalize": True},
        f"{PLANTED}, W8A8 minmax",
    ),
}


def cell(name: str, seed: int, folder: Path, data: Data) -> dict[str, Any]:
    """Return which test images are answered right, and the seconds that quantizing took."""
    fields, _ = ROWS[name]
    model, context = trained_resnet(folder, data, seed), context_for(data, seed, folder)
    if name.startswith(PLANTED):
        model = with_outliers(model, context.example)
    start = time.perf_counter()
    module: nn.Module = model.module
    if fields is not None:
        result = QuantizeStatic.model_validate(fields).run(model, context).model
        assert result is not None
        module = result.training_module(context.example)
    seconds = time.perf_counter() - start
    return {"seconds": round(seconds, 1), "right": right(module, data)}


def with_outliers(model: Model, example: Mapping[str, torch.Tensor]) -> Model:
    """Return a copy that computes the same, with one channel between each two layers 64 times as large."""
    changed = model.copy()
    for pair in find_pairs(canonical_graph(changed.module, example).graph, changed.module):
        tensors = dict(changed.module.named_parameters())
        with torch.no_grad():
            for name in pair.scaled:
                tensors[name][0] *= OUTLIER
            rows = by_input_channel(tensors[pair.shared], len(tensors[pair.scaled[0]]))
            rows[0] /= OUTLIER
            tensors[pair.shared].copy_(from_input_channel(rows, tensors[pair.shared]))
    return changed


def right(module: nn.Module, data: Data) -> str:
    """Return a 1 for each test image that is answered right, else a 0."""
    split = data.split("test")
    found = []
    module.train(False)
    with torch.no_grad():
        for positions in torch.split(torch.arange(len(split)), 256):
            batch = split.batch(positions)
            found += (module(**batch.inputs).argmax(1) == batch.target).int().tolist()
    return "".join(map(str, found))


def shares(rights: list[str]) -> torch.Tensor:
    """Return how often each image is answered right over the seeds."""
    return torch.tensor([[int(each) for each in row] for row in rights], dtype=torch.float64).mean(0)


def line(name: str, cells: Mapping[str, list[dict[str, Any]]]) -> str:
    """Return one row: accuracy with its deviation over seeds, and the difference to the reference."""
    rights = [each["right"] for each in cells[name]]
    accuracies = [100 * row.count("1") / len(row) for row in rights]
    reference = ROWS[name][1]
    difference = 100 * (shares(rights) - shares([each["right"] for each in cells[reference]]))
    error = 1.96 * float(difference.std()) / len(difference) ** 0.5
    told = "" if name == reference else f"{float(difference.mean()):+.2f} ± {error:.2f} to {reference}"
    seconds = mean(each["seconds"] for each in cells[name])
    return f"| {name} | {mean(accuracies):.2f} ± {stdev(accuracies):.2f} | {told} | {seconds:.0f} |"


def main() -> None:
    """Do the cells that are missing, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder", type=Path, required=True, help="where networks and finished cells are kept"
    )
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    data, cells = mnist(), dict[str, list[dict[str, Any]]]()
    for seed in SEEDS:
        for name in ROWS:
            kept = folder / f"{name}-{seed}.json".replace(" ", "_")
            if not kept.exists():
                kept.write_text(json.dumps(cell(name, seed, folder, data)))
            cells.setdefault(name, []).append(json.loads(kept.read_text()))
    print("| | accuracy, % | difference | seconds |\n| --- | --- | --- | --- |")
    for name in ROWS:
        print(line(name, cells))


if __name__ == "__main__":
    main()
