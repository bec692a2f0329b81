"""The weights of a .pt2 file: raw numbers, told by a table of types, sizes and strides."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mcomp.errors import CheckpointError, RecipeError, named
from mcomp.model.checkpoint import load_weights
from mcomp.model.fit import both_real, fill, tensors_of
from mcomp_stages.models.exported_archive import TYPES, opened, read_json

TABLES = ("weights", "constants")


def fill_program(module: nn.Module, checkpoint: Path) -> None:
    """Copy the weights of a file into a module of `build_program`, in place.

    Raises CheckpointError if the file is broken or does not fit; the module is left as it was.
    """
    if checkpoint.suffix != ".pt2":
        return load_weights(module, checkpoint)
    wanted = tensors_of(module)
    try:
        with opened(checkpoint) as (archive, folder):
            found = {
                name: tensor
                for table in TABLES
                for name, tensor in read_table(archive, folder, table, checkpoint).items()
                if name in wanted
            }
    except RecipeError as error:
        raise CheckpointError(error.problems) from error
    # torch.export leaves out what a program does not read.
    unread = {name: tensor for name, tensor in wanted.items() if name.endswith("num_batches_tracked")}
    return fill(module, {**unread, **found}, str(checkpoint), both_real)


def read_table(archive: zipfile.ZipFile, folder: str, table: str, path: Path) -> dict[str, Tensor]:
    """Return the tensors of one table of an archive by name. Raises CheckpointError."""
    told = read_json(archive, f"{folder}/data/{table}/model_{table}_config.json", path)
    tensors = {}
    try:
        for name, entry in told["config"].items():
            if entry["use_pickle"] or entry["tensor_meta"] is None:
                raise CheckpointError(f"{path} holds {named(name)} as a pickle, which is not read")
            content = archive.read(f"{folder}/data/{table}/{entry['path_name']}")
            tensors[name] = tensor_of(content, entry["tensor_meta"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} has broken {table}") from error
    return tensors


def tensor_of(content: bytes, meta: Mapping[str, Any]) -> Tensor:
    """Return a tensor from its bytes. Raises ValueError or RuntimeError if they do not hold it."""
    sizes, strides = (tuple(each["as_int"] for each in meta[part]) for part in ("sizes", "strides"))
    dtype = getattr(torch, TYPES[meta["dtype"]])
    if 0 in sizes:
        return torch.zeros(sizes, dtype=dtype)
    flat = torch.frombuffer(bytearray(content), dtype=dtype)
    return flat.as_strided(sizes, strides, meta["storage_offset"]["as_int"]).clone(
        memory_format=torch.contiguous_format
    )
