"""What the weights of an ONNX file take on disk, by width."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
from onnx import TensorProto

from mcomp.model.model import Model
from mcomp_stages.methods.onnx.streams import stream_of
from mcomp_stages.methods.onnx.zeros import beside
from mcomp_stages.methods.quantization.weights.edit import StoredWeights

BITS: dict[int, int] = {
    TensorProto.FLOAT: 32,
    TensorProto.FLOAT16: 16,
    TensorProto.BFLOAT16: 16,
    TensorProto.INT16: 16,
    TensorProto.INT8: 8,
    TensorProto.UINT8: 8,
    TensorProto.INT4: 4,
    TensorProto.UINT4: 4,
}
IN_ROWS = ("codes", "groups")  # how initializers end whose bytes hold the codes of `StoredWeights`


OF_GRIDS = ("_scale", "_zero")


def bytes_by_width(path: Path, model: Model) -> dict[str, int]:
    """Return the bytes of weights by the bits of a number, and those of all other tensors as `rest`.

    A weight has two axes or more and is no scale or zero. `graph` is what is no tensor.
    """
    edits = [edit for edit in model.edits if isinstance(edit, StoredWeights)]
    in_rows = {
        f"{name}_{part}": record.bits
        for edit in edits
        for name, record in edit.weights.items()
        for part in IN_ROWS
    }
    count: Counter[str] = Counter()
    for tensor in onnx.load(path).graph.initializer:
        count[kind_of(tensor, in_rows.get(tensor.name))] += len(tensor.raw_data)
    whole = sum(file.stat().st_size for file in (path, *beside(path)))
    return {**count, "graph": whole - count.total()}


def kind_of(tensor: TensorProto, in_rows: int | None) -> str:
    """Return `<bits> bit` for a weight, else `rest`; `in_rows` are the bits of codes that lie in bytes."""
    stream = stream_of(tensor.name)
    bits = in_rows or (stream.bits if stream else BITS.get(tensor.data_type))
    is_weight = len(tensor.dims) > 1 and bits is not None and not tensor.name.endswith(OF_GRIDS)
    return f"{bits} bit" if is_weight else "rest"
