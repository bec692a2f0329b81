"""A model in one safetensors file, with its low-bit weights packed, and what it takes to run it.

The metadata has `mcomp.model` (how it was built and changed), `mcomp.weights` and `mcomp.numbers` (see
`mcomp.model.unpack`), and `mcomp.inputs`: by name the type, the sizes of an example, and which of them vary.
Equal models give equal bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mcomp.config import Config
from mcomp.data.contract import VaryingSize
from mcomp.errors import CheckpointError
from mcomp.fingerprint import canonical
from mcomp.model.checkpoint import SavedModel, rebuilt
from mcomp.model.example import Example
from mcomp.model.model import Model
from mcomp.model.unpack import codes_of, numbers_of, packed_rows
from mcomp.model.weights import read_tensors

Records = dict[str, dict[str, Any]]
LARGEST_EXAMPLE = 2**26  # numbers
PARTS: tuple[str, ...] = ("codes", "mask", "zero")  # of a record: what tells its codes


class InputSizes(Config):
    """An input of an example: its type, its sizes, and of those that vary the axis, the name and the most."""

    type: str = Field(pattern=r"^(float|int|uint|bool)\d*$")
    sizes: tuple[int, ...] = Field(min_length=1, max_length=8)
    varying: tuple[tuple[int, str, int], ...] = ()


def write_one_file(
    path: Path,
    saved: SavedModel,
    tensors: Mapping[str, Tensor],
    records: Records,
    example: Example,
    metadata: Mapping[str, str],
) -> None:
    """Write what `checkpoint.parts` gave; `records` say of each weight that is no plain array what it is."""
    numbers: dict[str, dict[str, float | int]] = {}
    for name in filter(lambda name: is_number(name, tensors[name]), tensors):
        owner, _, last = name.rpartition(".")
        numbers.setdefault(owner, {})[last] = tensors[name].item()
    told = {
        **metadata,
        "mcomp.model": saved.as_json().decode(),
        "mcomp.weights": canonical(records).decode(),
        "mcomp.numbers": canonical(numbers).decode(),
        "mcomp.inputs": canonical(inputs_of(example)).decode(),
    }
    arrays = {name: tensor for name, tensor in tensors.items() if not is_number(name, tensor)}
    path.write_bytes(with_metadata(save(arrays), told))


def is_number(name: str, tensor: Tensor) -> bool:
    """Whether a tensor lies in the metadata: it has no axis, and a number that JSON gives back."""
    plain = tensor.dtype == torch.int64 or (tensor.dtype == torch.float32 and bool(tensor.isfinite().all()))
    return tensor.ndim == 0 and "." in name and plain


def with_metadata(content: bytes, metadata: Mapping[str, str]) -> bytes:
    """Return a safetensors file with its metadata in order; safetensors itself shuffles it (its #584)."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(content[8:start])}
    written = json.dumps(header, separators=(",", ":")).encode()
    written += b" " * (-len(written) % 8)
    return len(written).to_bytes(8, "little") + written + content[start:]


def inputs_of(example: Example) -> dict[str, Any]:
    """Return what is kept of an example: everything but its numbers."""
    return {
        name: InputSizes(
            type=str(value.dtype).removeprefix("torch."),
            sizes=tuple(value.shape),
            varying=tuple(
                (axis, size.name, size.largest) for axis, size in example.varying.get(name, {}).items()
            ),
        ).model_dump(mode="json")
        for name, value in example.items()
    }


def read_one_file(path: Path) -> tuple[Model, Example]:
    """Return the model, and an example of its inputs, all ones.

    Raises CheckpointError if the file is broken, holds no model, or one that is not installed as it was.
    """
    tensors = read_tensors(path)
    metadata = metadata_of(path)
    if "mcomp.model" not in metadata:
        raise CheckpointError(f"{path} holds weights, but no model: export.safetensors did not write it")
    try:
        saved = SavedModel.model_validate(json.loads(metadata["mcomp.model"]))
        numbers = {name: torch.from_numpy(value) for name, value in numbers_of(metadata).items()}
        whole = with_all_codes(json.loads(metadata["mcomp.weights"]), tensors | numbers)
        example = example_of(json.loads(metadata["mcomp.inputs"]))
    except (ValidationError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise broken(path) from error
    except (RuntimeError, MemoryError, RecursionError) as error:  # sizes and depths that no file of ours has
        raise broken(path) from error
    return rebuilt(saved, lambda: whole, path), example


def broken(path: Path) -> CheckpointError:
    """Return the error for a file whose metadata does not fit it."""
    return CheckpointError(f"{path} is broken, or was written by another version of mcomp")


def metadata_of(path: Path) -> dict[str, str]:
    """Return what a safetensors file says of itself."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise broken(path) from error


def with_all_codes(records: Records, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors as a checkpoint has them: also the codes that a mask leaves out."""
    whole = dict(tensors)
    for record in records.values():
        if "mask" in record and record["is"] == "codes":
            named = [name for name in PARTS if name in record]
            parts = {name: tensors[record[name]].numpy() for name in named}
            dense = codes_of({**record, **{name: name for name in parts}}, parts)
            rows = packed_rows(dense.reshape(len(dense), -1), record["bits"])
            whole[record["codes"]] = torch.from_numpy(rows)
    return whole


def example_of(inputs: Mapping[str, Any]) -> Example:
    """Return an example of the kept sizes. Raises ValueError for sizes that are none."""
    kept = {name: InputSizes.model_validate(told) for name, told in inputs.items()}
    if any(min(each.sizes) < 1 or math.prod(each.sizes) > LARGEST_EXAMPLE for each in kept.values()):
        raise ValueError("an input has no such size")
    values = {name: torch.from_numpy(np.ones(each.sizes, each.type)) for name, each in kept.items()}
    varying = {
        name: {axis: VaryingSize(called, most) for axis, called, most in each.varying}
        for name, each in kept.items()
        if each.varying
    }
    return Example(values, varying)
