"""What a model costs, counted on the model itself."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mcomp.measure.macs import count_macs
from mcomp.model.model import Model


def totals(model: Model, example: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the multiply-adds of one sample (`macs`) and the parameters (`params`)."""
    num_params = sum(each.numel() for each in model.module.parameters())
    return {"macs": float(count_macs(model.module, example)), "params": float(num_params)}


def shares(changed: Model, whole: Mapping[str, float], example: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the shares of what was counted before that a changed model has."""
    return {
        f"{name}_share": round(value / whole[name], 4) for name, value in totals(changed, example).items()
    }
