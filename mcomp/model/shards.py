"""A checkpoint that lies in several files, as transformers writes large ones. Free of torch."""

from __future__ import annotations

import json
from pathlib import Path

from mcomp import plainfile
from mcomp.data.digests import content_digest
from mcomp.errors import CheckpointError
from mcomp.fingerprint import fingerprint

INDEX = ".safetensors.index.json"
INDEX_LIMIT_BYTES = 16 * 2**20


def is_index(path: Path) -> bool:
    """Whether a file is, by its name, the list of a checkpoint's parts."""
    return path.name.endswith(INDEX)


def shards(index: Path) -> dict[str, Path]:
    """Return by the name of each tensor the file beside `index` that holds it.

    Raises CheckpointError if the index is broken or names anything but safetensors files beside it.
    """
    try:
        weight_map = json.loads(plainfile.read(index, INDEX_LIMIT_BYTES))["weight_map"]
        named = {str(name): str(file) for name, file in weight_map.items()}
    except OSError as error:
        raise CheckpointError(f"{index} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{index} is no index of a checkpoint: it has no weight_map") from error
    for file in named.values():
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise CheckpointError(f"{index} names {file!r}, which is no safetensors file beside it")
    return {name: index.with_name(file) for name, file in named.items()}


def weights_digest(path: Path) -> str:
    """Return a digest of the weights in a checkpoint, of all its files if it has several.

    Raises RecipeError if a file cannot be read.
    """
    if not is_index(path):
        return content_digest(path)
    files = sorted(set(shards(path).values()))
    return fingerprint([content_digest(path), *([file.name, content_digest(file)] for file in files)])
