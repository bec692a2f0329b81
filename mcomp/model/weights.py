"""Tensors from files of others, read as data: nothing in a file is ever run."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mcomp.errors import CheckpointError

HEADER_LIMIT_BYTES = 16 * 2**20
NESTED_UNDER = ("state_dict", "model_state_dict", "model", "module", "net")
PREFIXES = ("module.", "_orig_mod.", "model.")  # of DistributedDataParallel, torch.compile and Lightning


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors, .pt, .pth, .bin or .ckpt file by name, on the CPU.

    Raises CheckpointError if the file is missing, truncated, no checkpoint, or a pickle that runs code.
    """
    reader = READERS.get(path.suffix)
    if reader is None:
        raise CheckpointError(f"{path} is not a checkpoint by its name; known are {', '.join(READERS)}")
    try:
        if not path.is_file():
            raise CheckpointError(f"{path} does not exist, or is no file")
        return reader(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file whose header is of a sane size."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
    if size_bytes < 8 or header_bytes > min(HEADER_LIMIT_BYTES, size_bytes - 8):
        raise CheckpointError(f"{path} is truncated or not a safetensors file: its header does not fit in it")
    try:
        return load_file(path)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is truncated or not a safetensors file: {error}") from error


def read_pickle(path: Path) -> dict[str, Tensor]:
    """Read a file of torch.save without running anything in it."""
    refuse_compression(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(unpickling_problem(path, str(error))) from error
    except Exception as error:  # a broken or hostile pickle raises whatever it likes inside torch's reader
        raise CheckpointError(f"{path} is truncated or not a checkpoint of PyTorch") from error
    return state_dict_in(content, path)


def refuse_compression(path: Path) -> None:
    """Raise CheckpointError for a compressed archive: torch.save never compresses, and a bomb does."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise CheckpointError(f"{path} is truncated or not a checkpoint of PyTorch") from error
    if compressed:
        raise CheckpointError(f"{path} is a compressed archive and not what torch.save writes")


def unpickling_problem(path: Path, message: str) -> str:
    """Return what is wrong with a pickle that torch refuses, without torch's advice to trust it."""
    named = re.search(r"GLOBAL (\S+)", message)
    if named is None:
        return f"{path} is truncated or not a checkpoint of PyTorch"
    return (
        f"{path} is a pickle that would call {named[1]}, which was not run: only tensors are read; "
        "save model.state_dict(), best as .safetensors"
    )


def state_dict_in(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the tensors of what was saved: a state dict, or one below a usual key."""
    while isinstance(content, Mapping):
        if content and all(isinstance(value, Tensor) for value in content.values()):
            require_dense(content, path)
            return {str(name): tensor for name, tensor in content.items()}
        below = next((key for key in NESTED_UNDER if isinstance(content.get(key), Mapping)), None)
        if below is None:
            held = ", ".join(sorted(map(str, content))[:8]) or "nothing"
            raise CheckpointError(f"{path} holds no state dict, but: {held}")
        content = content[below]
    raise CheckpointError(f"{path} holds a {type(content).__name__} and no state dict")


def require_dense(tensors: Mapping[Any, Tensor], path: Path) -> None:
    """Raise CheckpointError for tensors that are not plain arrays of numbers."""
    odd = [name for name, tensor in tensors.items() if tensor.layout != torch.strided or tensor.is_quantized]
    if odd:
        raise CheckpointError(f"{path}: {odd[0]} is sparse or quantized; save the weights as dense floats")


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
