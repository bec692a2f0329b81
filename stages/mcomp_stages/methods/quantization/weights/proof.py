"""The proof that what is served computes what the model with its rounded weights computes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp_stages.methods.quantization.weights.edit import StoredWeights

LARGEST_ERROR = 1e-4  # of the largest output: sums in another order


def require_same_outputs(
    model: Model,
    example: Mapping[str, Tensor],
    inputs: Mapping[str, Tensor],
    *,
    inputs_in_float: bool = False,
) -> float:
    """Return how far the graph that unpacks codes is from the module, relative to the largest output.

    `inputs_in_float`: no product rounds its inputs, which the module does not do either. Raises StageError if
    that is more than sums in another order make.
    """
    served = (multiplying_floats(model) if inputs_in_float else model).inference_module(example)
    with torch.no_grad():
        expected, given = model.module.eval()(**inputs), served(**inputs)
    error: float = ((given - expected).abs().max() / expected.abs().max().clamp(min=1e-12)).item()
    if not error <= LARGEST_ERROR:
        raise StageError(f"with its weights unpacked, the output differs by {error:.2%} of its largest value")
    return error


def multiplying_floats(model: Model) -> Model:
    """Return a model that reads the same codes, and makes floats of all of them."""
    edit = model.edits[-1]
    assert isinstance(edit, StoredWeights)
    records = {
        name: record.model_copy(update={"unpack": "load" if record.unpack == "integers" else record.unpack})
        for name, record in edit.weights.items()
    }
    return replace(model, edits=(*model.edits[:-1], StoredWeights(weights=records)))


def signal_to_noise_db(
    original: Model, model: Model, example: Mapping[str, Tensor], inputs: Mapping[str, Tensor]
) -> float | None:
    """Return the outputs' signal over what is served instead of them, in dB; None where nothing changed."""
    served = model.inference_module(example)
    with torch.no_grad():
        expected, given = original.module.eval()(**inputs), served(**inputs)
    signal, noise = (part.double().square().sum().item() for part in (expected, given - expected))
    return round(10 * math.log10(signal / noise), 2) if signal > 0 and noise > 0 else None
