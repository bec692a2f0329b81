"""Layers brought into 16 bits one by one, for `mcomp sensitivity`, and the layers to keep in float."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn
from torch.fx import Node

from mcomp.model.graph import module_path
from mcomp.model.model import Model
from mcomp.sensitivity.trials import Trial, Trials
from mcomp_stages.methods.half.edit import HalfWeights
from mcomp_stages.methods.half.lower import lowered
from mcomp_stages.methods.quantization.widths import keep_float_patch, require_own_width

BITS = 16


def half_trials(
    model: Model,
    edit: HalfWeights,
    example: Mapping[str, Tensor],
    keep_float: Sequence[str] = (),
    levels: Sequence[float] = (),
) -> Trials:
    """Return the trials of a stage that makes `edit`: a part is a module with the weights that are its own.

    Where the edit computes in 16 bits, a module alone does; what stands between modules stays in float.
    Raises StageError for other widths than 16.
    """
    require_own_width(BITS, levels)
    weights: dict[str, list[str]] = {}
    for name in edit.weights:
        weights.setdefault(name.rpartition(".")[0], []).append(name)
    alone = {path: edit.model_copy(update={"weights": tuple(names)}) for path, names in weights.items()}
    trials = [
        Trial(path or names[0], BITS, partial(served, model, alone[path], example, path))
        for path, names in weights.items()
    ]
    layers = {path: (path,) for path in weights if path}  # a pattern names modules, and the root is none
    return Trials(model.copy().module.eval(), tuple(trials), partial(keep_float_patch, keep_float, layers))


@contextmanager
def served(model: Model, edit: HalfWeights, example: Mapping[str, Tensor], path: str) -> Iterator[nn.Module]:
    """Give the model as it is served with one module in 16 bits, while the block runs."""

    def inside(node: Node) -> bool:
        at = module_path(node)
        return bool(path) and (at == path or at.startswith(f"{path}."))

    yield lowered(model.edited(edit), edit, example, inside)
