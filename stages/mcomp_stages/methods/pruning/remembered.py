"""The numbers that a module of one's own remembers about shapes: `num_heads`, `inner_dim`, `split_size`.

They are found by their values: where the graph views or splits an axis that the cut shortens, an integer
attribute of the module that made the call and that equals the old size becomes the new one. The proof of the
cut (`proof.py`) runs the module's own code, so a wrong guess cannot pass.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from torch import nn

from mcomp.model.edits import Attribute
from mcomp_stages.methods.pruning.attributes import rule_of
from mcomp_stages.methods.pruning.cut import Cut
from mcomp_stages.methods.pruning.group_records import STAYS, GroupedSize


def remembered_sizes(module: nn.Module, cut: Cut) -> Iterator[Attribute]:
    """Yield the attributes that held a size which the cut changes, of modules that are no layers of torch."""
    for path, sizes in sizes_after(cut).items():
        part = module.get_submodule(path)
        if rule_of(part) is not None:
            continue
        for old, new in sizes.items():
            for name in holders(part, old):
                if counts_heads(name) or len(new) == 1:
                    value = min(new)
                    if value != old:
                        yield Attribute(module=path, name=name, value=value)


def sizes_after(cut: Cut) -> dict[str, dict[int, set[int]]]:
    """Return what becomes of each size in the calls of each module."""
    found: dict[str, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for size in cut.groups.sizes:
        found[size.path][size.groups.shape[size.axis]].add(size_after(size, cut))
    return found


def size_after(size: GroupedSize, cut: Cut) -> int:
    """Return how many indices of the axis still hold a channel that stays."""
    stays = (size.groups == STAYS) | ~cut.removed[size.groups]
    others = tuple(axis for axis in range(stays.ndim) if axis != size.axis)
    return int(np.count_nonzero(stays.any(axis=others)))


def holders(part: nn.Module, value: int) -> list[str]:
    """Return the attributes of a module that hold a number; those that count heads, if there are any."""
    names = [name for name, held in vars(part).items() if type(held) is int and held == value]
    return [name for name in names if counts_heads(name)] or names


def counts_heads(name: str) -> bool:
    """Return whether an attribute's name says that it is a number of heads (not their size)."""
    return "head" in name and "dim" not in name and "size" not in name
