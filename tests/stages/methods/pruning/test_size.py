"""The cost of a cut, computed, against the flop counter on the sliced model."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mcomp_stages.methods.pruning.config import Target
from mcomp_stages.methods.pruning.cut import choose_cut
from mcomp_stages.methods.pruning.edit import channel_edits
from mcomp_stages.methods.pruning.evidence import Evidence
from mcomp_stages.methods.pruning.groups import channel_groups
from mcomp_stages.methods.pruning.limits import Limits
from mcomp_stages.methods.pruning.scores import channel_importance
from mcomp_stages.methods.pruning.size import Sizes
from tests.architectures import NETS, example


def counted_macs(module: torch.nn.Module) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(**example())
    return counter.get_total_flops() / 2 / 2  # two operations in a multiply-add, two samples


def counted_parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", ["vgg", "concat", "mbconv", "unet", "grouped", "shuffle", "tied", "mlp"])
def test_sizes_are_those_of_the_sliced_model(name: str) -> None:
    module = NETS[name]().eval()
    groups = channel_groups(module, example())
    sizes = Sizes(groups)
    assert sizes.of("macs", sizes.full_S) == counted_macs(module)
    assert sizes.of("params", sizes.full_S) == counted_parameters(module)

    scores = channel_importance(groups, Evidence(module), "random")
    cut = choose_cut(groups, scores, Target(ratio=0.4), limits=Limits(2, 2), nearest=True)
    macs, parameters = counted_macs(module), counted_parameters(module)
    for edit in channel_edits(module, cut):
        edit.apply(module, {})
    assert cut.shares["macs"] == pytest.approx(counted_macs(module) / macs)
    assert cut.shares["params"] == pytest.approx(counted_parameters(module) / parameters)


def test_many_cuts_at_once_equal_one_by_one() -> None:
    sizes = Sizes(channel_groups(NETS["unet"](), example()))
    kept_BS = torch.stack([torch.from_numpy(sizes.full_S) - removed for removed in range(3)]).numpy()
    for quantity in ("macs", "params", "channels"):
        together = sizes.of(quantity, kept_BS)
        assert together.tolist() == [float(sizes.of(quantity, kept_S)) for kept_S in kept_BS]
