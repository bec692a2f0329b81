"""What a model's weights take on disk, by width."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from torch import nn

from mcomp.model.checkpoint import untied
from mcomp.model.edits import State
from mcomp_stages.methods.quantization.weights.record import StoredWeight


def bytes_by_width(module: nn.Module, state: State, weights: Mapping[str, StoredWeight]) -> dict[str, int]:
    """Return the bytes of the codes of each width, of what belongs to them, and of all that stayed in float.

    `weights` are kept as their codes alone. What is shared counts once.
    """
    count: Counter[str] = Counter()
    for name, record in weights.items():
        prefix = f"stored.{name}."
        for key, tensor in state.items():
            if key.startswith(prefix):
                kind = f"{record.bits} bit" if key == f"{prefix}codes" else "scales and zeros"
                count[kind] += tensor.nbytes
    once, _ = untied(module.state_dict())
    count["float"] = sum(tensor.nbytes for name, tensor in once.items() if name not in weights)
    return dict(count)
