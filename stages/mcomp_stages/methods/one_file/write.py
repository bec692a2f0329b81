"""A model as one file: all weights on a grid packed, and what a loader of one's own has to know."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from mcomp.errors import StageError
from mcomp.fingerprint import canonical
from mcomp.model.checkpoint import parts
from mcomp.model.edits import State
from mcomp.model.example import Example
from mcomp.model.model import Model
from mcomp.model.one_file import write_one_file
from mcomp.model.unpack import read_weights
from mcomp_stages.methods.one_file.records import bytes_by_kind, records_of, without_zero_codes
from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.methods.quantization.packing import with_packed_weights
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph

WIDEST = 8


def all_packed(model: Model, example: Example) -> Model:
    """Return the same model with every weight that has a grid kept as its codes, also those of 8 bits."""
    quantized = any(isinstance(edit, Quantizers) for edit in model.edits)
    return with_packed_weights(model, example, WIDEST) if quantized else model


def write(model: Model, example: Example, path: Path, metadata: Mapping[str, str]) -> dict[str, int]:
    """Write what `all_packed` gave; return the bytes of each kind of content."""
    saved, tensors = parts(model)
    found = records_of(model, saved, tensors)
    records, saved, left = without_zero_codes(found, saved, tensors, model)
    grids = {"mcomp.activations": canonical(activation_grids(model, example)).decode()}
    write_one_file(path, saved, left, records, example, {**metadata, **grids})
    return bytes_by_kind(path.stat().st_size, records, left)


def activation_grids(model: Model, example: Example) -> dict[str, dict[str, float | int | bool]]:
    """Return by site how an activation is rounded: bits, whether they are signed, scale and zero point."""
    graph = model.training_module(example)
    if not isinstance(graph, QuantizedGraph):
        return {}
    grids = {}
    for site, quantizer in graph.activation_quantizers().items():
        scale, zero_point = quantizer.grid()
        settings = quantizer.settings
        grids[site] = {
            "bits": settings.bits,
            "signed": settings.signed,
            "scale": scale.item(),
            "zero_point": int(zero_point),
        }
    return grids


def require_same_weights(path: Path, model: Model) -> int:
    """Return how many arrays of a file, read with numpy alone, equal the model's to the last bit.

    Raises StageError naming the first that does not: all must.
    """
    read = read_weights(path)
    wanted: State = dict(model.module.state_dict())
    for name, tensor in wanted.items():
        if name not in read or not np.array_equal(read[name], as_array(tensor)):
            raise StageError("the file does not give back this weight to the last bit", module=name)
    return len(wanted)


def as_array(tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor as the reader gives it: bfloat16 as float32."""
    plain = tensor.detach().cpu()
    return np.asarray((plain.float() if plain.dtype == torch.bfloat16 else plain).numpy())
