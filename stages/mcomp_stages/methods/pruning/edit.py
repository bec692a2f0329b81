"""A cut as replayable edits: kept indices, and the numbers that modules remember about their shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from mcomp.model.edits import CuttableAttention, Edit, KeepChannels, Slice
from mcomp.model.model import Model
from mcomp_stages.methods.pruning.attributes import following_attributes
from mcomp_stages.methods.pruning.cut import Cut
from mcomp_stages.methods.pruning.groups import within
from mcomp_stages.methods.pruning.remembered import remembered_sizes

KINDS: dict[str, type[Edit]] = {"keep_channels": KeepChannels, "cuttable_attention": CuttableAttention}


def channel_edits(module: nn.Module, cut: Cut) -> tuple[Edit, ...]:
    """Return the edits that cut `module` as chosen."""
    slices = tuple(Slice(name=name, axis=axis, keep=keep) for (name, axis), keep in cut.kept_indices.items())
    attributes = (*following_attributes(module, cut), *remembered_sizes(module, cut))
    keep = KeepChannels(slices=slices, attributes=attributes)
    attention = tuple(
        path
        for path, part in module.named_modules()
        if type(part) is nn.MultiheadAttention and any(within(each.name, [path]) for each in slices)
    )
    return (CuttableAttention(modules=attention), keep) if attention else (keep,)


def stored(edits: Sequence[Edit]) -> list[dict[str, Any]]:
    """Return edits as plain JSON."""
    return [edit.model_dump(mode="json") for edit in edits]


def read_edits(numbers: Sequence[Mapping[str, Any]]) -> tuple[Edit, ...]:
    """Return the edits that `stored` gave."""
    return tuple(KINDS[each["kind"]].model_validate(each) for each in numbers)


def edited(model: Model, edits: Sequence[Edit]) -> Model:
    """Return a copy with all of the edits applied."""
    for edit in edits:
        model = model.edited(edit)
    return model
