"""Print how long it takes to find the groups of a network and to cut half of its multiply-adds.

    python tests/benchmarks/pruning_groups.py --rounds 3

"export" is `torch.export` alone, which the labels need anyway and which is kept for the next stage; "cut" is
everything else from the model to a proven cut: labels, scores by the L2 norm, choice, edit and the comparison
with the masked network.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from mcomp.model.graph import capture
from mcomp.model.model import Model
from mcomp.model.spec import ModelConfig
from mcomp_stages.methods.pruning.config import Target
from mcomp_stages.methods.pruning.cut import choose_cut
from mcomp_stages.methods.pruning.edit import channel_edits, edited
from mcomp_stages.methods.pruning.evidence import Evidence
from mcomp_stages.methods.pruning.groups import channel_groups, graph_groups
from mcomp_stages.methods.pruning.limits import Limits
from mcomp_stages.methods.pruning.proof import require_equal_to_masked
from mcomp_stages.methods.pruning.scores import channel_importance
from mcomp_stages.models.resnet import ResNetConfig
from tests.architectures import example
from tests.stages.methods.pruning.test_families import FAMILIES, inputs_of

RESNETS = [(20, 32), (56, 32), (18, 224), (50, 224)]


def timed(work: Callable[..., Any], *arguments: Any, **named: Any) -> tuple[float, Any]:
    """Return the seconds that a call took, and its result."""
    start = time.perf_counter()
    result = work(*arguments, **named)
    return time.perf_counter() - start, result


def cut(model: Model, inputs: Mapping[str, Tensor]) -> None:
    """Cut a model and prove it."""
    groups = channel_groups(model.module, inputs)
    scores = channel_importance(groups, Evidence(model.module), "l2")
    chosen = choose_cut(groups, scores, Target(macs=0.5), limits=Limits(2, 2), nearest=True)
    require_equal_to_masked(edited(model, channel_edits(model.module, chosen)), model, chosen, inputs)


def measure(name: str, spec: ModelConfig, inputs: Mapping[str, Tensor], rounds: int) -> str:
    """Return one line of the table."""
    model = Model(spec.build().eval(), spec)
    exports, labels, wholes = [], [], []
    for _ in range(rounds):
        seconds, graph = timed(capture, model.module, inputs, dynamic_batch=False)
        exports.append(seconds)
        seconds, groups = timed(graph_groups, graph, model.module)
        labels.append(seconds)
        wholes.append(timed(cut, model, inputs)[0])
    counts = f"{groups.num_groups:7d} {len(groups.sets):5d}"
    return f"{name:18s} {counts} {median(exports):9.3f} {median(labels):9.3f} {median(wholes):9.3f}"


def main() -> None:
    """Measure ResNets at their sizes, and every family of networks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many is shown (default: 3)")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    capture(FAMILIES["lenet5"].build(), inputs_of("lenet5"))  # the first export loads what all need
    print(f"{'network':18s} {'groups':>7s} {'sets':>5s} {'export s':>9s} {'labels s':>9s} {'cut s':>9s}")
    for depth, size in RESNETS:
        spec = ResNetConfig(depth=depth, in_channels=3, num_classes=10)
        print(measure(f"resnet{depth} at {size} px", spec, example(size), rounds), flush=True)
    for name, spec in FAMILIES.items():
        print(measure(name, spec, inputs_of(name), rounds), flush=True)


if __name__ == "__main__":
    main()
