"""Pruned weights in an exported file: still zero, and what that is worth in bytes."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from mcomp.errors import StageError
from mcomp.model.edits import masked_weights
from mcomp.model.model import Model

CHUNK = 2**20
NO_FASTER = "ONNX Runtime multiplies zeros like other numbers: compressed files are smaller, none is faster"


def zeros_in_file(path: Path, model: Model) -> dict[str, Any]:
    """Return, for each masked weight, [zeros in the file, zeros of the mask], and the compressed size.

    Empty for a model without masks. Weights that are packed in less than a byte are left out: what is stored
    of them was compared with the model before. Raises StageError naming the first weight in which a number
    of the file is not zero and its mask says so.
    """
    names = masked_weights(model.state)
    if not names:
        return {}
    graph = onnx.load(path).graph
    tensors = {each.name: each for each in graph.initializer}
    grids = {node.input[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    layers = {node.name: node for node in graph.node if node.name and len(node.input) > 1}
    counted: dict[str, list[int]] = {}
    for name in names:
        found = name_in_file(name, layers, tensors)
        if found is not None:
            values = steps_from_zero(found, tensors, grids)
            counted[name] = zeros_where_masked(name, values, model.state[f"masks.{name}"].numpy())
    return {
        "zeros_in_file": counted,
        "note": NO_FASTER,
        "compressed_bytes": compressed_size([path, *beside(path)]),
    }


def name_in_file(
    name: str, layers: Mapping[str, onnx.NodeProto], tensors: Mapping[str, onnx.TensorProto]
) -> str | None:
    """Return the initializer that holds a parameter as floats or integers, or None if it is packed."""
    reader = layers.get(name.rpartition(".")[0])
    read = [reader.input[1]] if reader is not None and name.endswith(".weight") else []
    return next((each for each in (name, f"{name}_integers", *read) if each in tensors), None)


def steps_from_zero(
    name: str, tensors: Mapping[str, onnx.TensorProto], grids: Mapping[str, onnx.NodeProto]
) -> NDArray[Any]:
    """Return a weight as it stands in the file, integers less their zero point."""
    values = numpy_helper.to_array(tensors[name])
    grid = grids.get(name)
    if grid is None or len(grid.input) < 3:
        return values
    zero_point = numpy_helper.to_array(tensors[grid.input[2]]).astype(np.int32)
    axis = next((each.i for each in grid.attribute if each.name == "axis"), 1)
    if zero_point.ndim == 1:
        zero_point = zero_point.reshape([-1 if each == axis else 1 for each in range(values.ndim)])
    return np.asarray(values.astype(np.int32) - zero_point)


def zeros_where_masked(name: str, values: NDArray[Any], mask: NDArray[np.bool_]) -> list[int]:
    """Return [zeros, masked], the weight in the mask's layout or transposed."""
    if values.shape != mask.shape:
        mask = mask.T
    if values.shape != mask.shape:
        raise StageError(f"the file holds it as {values.shape}, its mask is {mask.T.shape}", module=name)
    wrong = int(np.count_nonzero(values[~mask]))
    if wrong:
        raise StageError(f"{wrong} pruned weights are not zero in the file", module=name)
    return [int(values.size - np.count_nonzero(values)), int((~mask).sum())]


def beside(path: Path) -> list[Path]:
    """Return the second file of one whose weights are too many for a message."""
    data = path.with_name(f"{path.name}.data")
    return [data] if data.is_file() else []


def compressed_size(paths: Iterable[Path]) -> int:
    """Return the bytes of files after DEFLATE, as in .gz and .zip.

    zlib is everywhere that a file may be sent to and is in Python itself; Zstandard would need a library and
    LZMA ten times the time, for a tenth of the bytes.
    """
    size = 0
    for path in paths:
        packer = zlib.compressobj()
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                size += len(packer.compress(chunk))
        size += len(packer.flush())
    return size
