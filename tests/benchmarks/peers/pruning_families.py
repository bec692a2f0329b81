"""Which families of networks torch-pruning cuts as it comes, beside our own groups.

    pip install -r tests/benchmarks/peers/requirements.txt
    python tests/benchmarks/peers/pruning_families.py

Both remove half of the channels of every layer by their L2 norm, without a list of layers or heads. Asked is
whether the cut model runs and gives outputs of the old shape, and which share of the multiply-adds is left.
"""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch_pruning
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[3]))

from mcomp.measure.macs import count_macs
from mcomp.model.model import Model
from mcomp_stages.methods.pruning.config import Target
from mcomp_stages.methods.pruning.cut import choose_cut
from mcomp_stages.methods.pruning.edit import channel_edits, edited
from mcomp_stages.methods.pruning.evidence import Evidence
from mcomp_stages.methods.pruning.groups import channel_groups
from mcomp_stages.methods.pruning.limits import Limits
from mcomp_stages.methods.pruning.proof import require_equal_to_masked
from mcomp_stages.methods.pruning.scores import channel_importance
from tests.stages.methods.pruning.test_families import FAMILIES, inputs_of

RATIO = 0.5


def by_peer(model: Model, inputs: dict[str, Tensor]) -> nn.Module:
    """Return what torch-pruning makes of a copy; the last layer keeps its outputs, as its manual says."""
    module = copy.deepcopy(model.module).eval()
    last = [part for part in module.modules() if isinstance(part, nn.Linear | nn.Conv2d)][-1]
    pruner = torch_pruning.pruner.BasePruner(
        module,
        inputs,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=RATIO,
        ignored_layers=[last],
    )
    pruner.step()
    return module


def by_ours(model: Model, inputs: dict[str, Tensor]) -> nn.Module:
    """Return our cut, proven equal to the masked model."""
    groups = channel_groups(model.module, inputs)
    scores = channel_importance(groups, Evidence(model.module), "l2", "mean", "uniform")
    cut = choose_cut(groups, scores, Target(ratio=RATIO), limits=Limits(1, 1), nearest=True)
    pruned = edited(model, channel_edits(model.module, cut))
    require_equal_to_masked(pruned, model, cut, inputs)
    return pruned.module


def verdict(cut: Callable[[Model, dict[str, Tensor]], nn.Module], model: Model, name: str) -> str:
    """Return the share that is left, or what went wrong."""
    inputs = inputs_of(name)
    with torch.no_grad():
        shape = model.module(**inputs).shape
    before = count_macs(model.module, inputs)
    try:
        module = cut(model, inputs).eval()
        with torch.no_grad():
            found = module(**inputs).shape
    except Exception as error:  # whatever the peer raises is its verdict
        return f"fails: {type(error).__name__}: {str(error).splitlines()[0][:60] if str(error) else ''}"
    if found != shape:
        return f"wrong shape of output: {tuple(found)}"
    share = count_macs(module, inputs) / before
    return f"{share:.3f}" if share < 1 else "nothing was cut"


def main() -> None:
    """Print one line for each family."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print("| network | ours | torch-pruning |\n| --- | --- | --- |")
    for name, spec in FAMILIES.items():
        torch.manual_seed(0)
        model = Model(spec.build().eval(), spec)
        print(f"| {name} | {verdict(by_ours, model, name)} | {verdict(by_peer, model, name)} |", flush=True)


if __name__ == "__main__":
    main()
