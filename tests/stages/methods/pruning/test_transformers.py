"""Groups of transformers of the library: heads, neurons and the width, cut in the models' own code."""

from __future__ import annotations

import pytest
import torch

from mcomp.measure.macs import count_macs
from mcomp.model.model import Model
from mcomp_stages.methods.pruning.config import Target
from mcomp_stages.methods.pruning.cut import choose_cut
from mcomp_stages.methods.pruning.edit import channel_edits, edited
from mcomp_stages.methods.pruning.evidence import Evidence
from mcomp_stages.methods.pruning.groups import channel_groups
from mcomp_stages.methods.pruning.limits import Limits
from mcomp_stages.methods.pruning.proof import require_equal_to_masked, tensors
from mcomp_stages.methods.pruning.scores import channel_importance
from tests.tiny_transformers import TINY, TinyConfig, tiny_example

# The sizes of the sets of groups: the width where it can change, then heads and neurons of each layer.
SETS = {
    "bert": [4, 4, 32, 32, 48, 48],  # one of the two 32 is the pooler
    "bert_eager": [4, 4, 48, 48],  # the width is the output
    "bert_tied": [4, 4, 32, 48, 48],
    "vit": [4, 4, 32, 48, 48],
    "llama": [2, 2, 32, 48, 48],  # heads of queries in pairs: two of them read one key
    "qwen3": [2, 2, 32, 48, 48],
    "t5": [4, 48, 48],  # both layers add the bias of the first one: their heads go together
    "gpt2": [4, 4, 32, 128, 128],
    "distilbert": [4, 4, 48, 48],
    "albert": [4, 16, 48],  # one layer, used twice
    "swin": [2, 2, 4, 4, 16, 32, 64, 64, 128, 128],
    "convnext": [16, 32, 64, 128],
}
OFTEN = ("bert", "llama")


def cut_and_compare(name: str, *ratios: float) -> None:
    torch.manual_seed(0)
    config = TinyConfig(name=name)
    model, inputs = Model(config.build(), config), tiny_example(name)
    for parameter in model.module.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=float(parameter.detach().mean().round()), std=0.3)
    groups = channel_groups(model.module, inputs)
    assert not groups.unknown
    assert sorted(len(group_set.groups) for group_set in groups.sets) == SETS[name]
    scores = channel_importance(groups, Evidence(model.module), "l2")
    before = count_macs(model.module, inputs)
    for ratio in ratios:
        target = Target(ratio=ratio)
        cut = choose_cut(groups, scores, target, limits=Limits(1, 1), nearest=True)
        edits = channel_edits(model.module, cut)
        pruned = edited(model, edits)
        require_equal_to_masked(pruned, model, cut, inputs)
        assert count_macs(pruned.module, inputs) / before == pytest.approx(cut.shares["macs"])
    fresh = config.build()
    for edit in edits:
        edit.apply(fresh, {})
    fresh.load_state_dict(pruned.module.state_dict())
    with torch.no_grad():
        replayed, kept = (tensors(dict(module(**inputs))) for module in (fresh, pruned.module))
    assert all(torch.equal(*pair) for pair in zip(replayed, kept, strict=True))


@pytest.mark.parametrize("name", OFTEN)
def test_sliced_equals_masked_and_replays(name: str) -> None:
    cut_and_compare(name, 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_at_three_ratios(name: str) -> None:
    cut_and_compare(name, 0.25, 0.5, 0.7)
