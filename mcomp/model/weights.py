"""Tensors from files of others, read as data: nothing in a file is ever run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mcomp.errors import CheckpointError, printable
from mcomp.model.pickles import read_pickle
from mcomp.model.shards import is_index, shards

HEADER_LIMIT_BYTES = 16 * 2**20
PREFIXES = ("module.", "_orig_mod.", "model.")  # of DistributedDataParallel, torch.compile and Lightning


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors, .pt, .pth, .bin or .ckpt file by name, on the CPU.

    Of a `.safetensors.index.json` they are those of all the files that it names. Raises CheckpointError if a
    file is missing, truncated, no checkpoint, or a pickle that runs code.
    """
    reader = read_shards if is_index(path) else READERS.get(path.suffix)
    if reader is None:
        raise CheckpointError(f"{path} is not a checkpoint by its name; known are {', '.join(READERS)}")
    try:
        if not path.is_file():
            raise CheckpointError(f"{path} does not exist, or is no file")
        return reader(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file whose header is of a sane size and gives each name once."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        if size_bytes < 8 or header_bytes > min(HEADER_LIMIT_BYTES, size_bytes - 8):
            raise not_safetensors(path, "its header does not fit in it")
        header = file.read(header_bytes)
    try:
        json.loads(header, object_pairs_hook=each_once)
        return load_file(path)
    except RecursionError as error:
        raise not_safetensors(path, "its header is nested too deep") from error
    except (SafetensorError, ValueError, TypeError, RuntimeError) as error:  # the last two: empty and huge
        raise not_safetensors(path, printable(str(error).partition("\n")[0])) from error


def read_shards(index: Path) -> dict[str, Tensor]:
    """Read every tensor of a checkpoint in several files from the file that its index names for it."""
    place = shards(index)
    tensors = {file: read_tensors(file) for file in sorted(set(place.values()))}
    absent = [name for name, file in place.items() if name not in tensors[file]]
    if absent:
        raise CheckpointError(
            f"{place[absent[0]]} does not hold {printable(absent[0])}, as {index.name} says"
        )
    return {name: tensors[file][name] for name, file in place.items()}


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object. Raises ValueError for a name that is given twice: readers take either."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is given twice")
    return found


def not_safetensors(path: Path, why: str) -> CheckpointError:
    """Return the error for a broken file."""
    return CheckpointError(f"{path} is truncated or not a safetensors file: {why}")


READERS: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    ".safetensors": read_safetensors,
    ".pt": read_pickle,
    ".pth": read_pickle,
    ".bin": read_pickle,
    ".ckpt": read_pickle,
}


def without_wrappers(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors without the prefixes that wrappers put before every name."""
    stripped = dict(tensors)
    for _ in PREFIXES:
        for prefix in PREFIXES:
            foreign = not any(name.startswith(prefix) for name in expected)
            if stripped and foreign and all(name.startswith(prefix) for name in stripped):
                stripped = {name.removeprefix(prefix): tensor for name, tensor in stripped.items()}
    return stripped
