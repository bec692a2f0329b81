"""Print how long it takes to find the groups of a network, beside the export that it needs anyway.

python tests/benchmarks/pruning_groups.py --rounds 3
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from mcomp.model.graph import capture
from mcomp_stages.methods.pruning.config import Target
from mcomp_stages.methods.pruning.cut import choose_cut
from mcomp_stages.methods.pruning.evidence import Evidence
from mcomp_stages.methods.pruning.groups import graph_groups
from mcomp_stages.methods.pruning.scores import channel_importance
from mcomp_stages.models.resnet import ResNetConfig
from tests.architectures import NETS, example

RESNETS = [(20, 32), (56, 32), (18, 224), (50, 224)]


def timed(work: Callable[..., Any], *arguments: Any, **named: Any) -> tuple[float, Any]:
    """Return the seconds that a call took, and its result."""
    start = time.perf_counter()
    result = work(*arguments, **named)
    return time.perf_counter() - start, result


def measure(name: str, module: torch.nn.Module, size: int, rounds: int) -> str:
    """Return one line of the table."""
    inputs = example(size)
    exports, labels, choices = [], [], []
    for _ in range(rounds):
        seconds, graph = timed(capture, module, inputs, dynamic_batch=False)
        exports.append(seconds)
        seconds, groups = timed(graph_groups, graph, module)
        labels.append(seconds)
        scores = channel_importance(groups, Evidence(module), "l2")
        choices.append(timed(choose_cut, groups, scores, Target(macs=0.5), nearest=True)[0])
    counts = f"{groups.num_groups:7d} {len(groups.sets):5d}"
    return f"{name:18s} {counts} {median(exports):9.3f} {median(labels):9.3f} {median(choices):9.3f}"


def main() -> None:
    """Measure every network that the tests know."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many is shown (default: 3)")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    capture(NETS["vgg"](), example())  # the first export of a process loads what all need
    print(f"{'network':18s} {'groups':>7s} {'sets':>5s} {'export s':>9s} {'labels s':>9s} {'choice s':>9s}")
    for depth, size in RESNETS:
        module = ResNetConfig(depth=depth, in_channels=3, num_classes=10).build()
        print(measure(f"resnet{depth} at {size} px", module, size, rounds))
    for name, net in NETS.items():
        print(measure(name, net(), 16, rounds))


if __name__ == "__main__":
    main()
