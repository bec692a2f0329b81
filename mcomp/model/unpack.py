"""The weights of a file that `export.safetensors` wrote, as numpy arrays. Copy this file where you need it.

    python unpack.py model.safetensors

It needs numpy and no more: neither mcomp nor torch nor safetensors. `read_weights` returns every parameter
and buffer of the architecture by name. What lies in the file otherwise than as an array is described by the
entry `mcomp.weights` of its metadata, JSON by the parameter's name:

- `codes`: integers of `bits` bits. A row of the array `codes` is a stream of bits, lowest first, of one index
  of the first axis of `codes_shape`; 16 bits are an int16 array. With `mask` there is one row, of the codes
  where the mask is true; elsewhere the weight is zero. They stand for
  (step * code - first - zero) * scale, where `scale` and `zero` are reshaped to `grid` and each of their
  numbers repeated `repeat` times along each axis, as far as `codes_shape` goes; `zero_bits` says that `zero`
  is packed in rows itself. Then: times `gain` along the last axis, transposed if `transposed`, reshaped to
  `shape`. What is left out: `step` is 1, `zero` 0, `codes_shape` is `shape`, `repeat` what fills it evenly.
- `kept`: the numbers where the mask is true; elsewhere the weight is zero.
- `half`: 16 bits, used as float32.
- `tied`: the same array as another name.

A mask has eight numbers in a byte, the first in the highest bit. Arrays of one number and no axis are in
`mcomp.numbers`, by what their names begin with: those with a point are float32, the others int64.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]
Record = Mapping[str, Any]

TYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "F16": "<f2", "BF16": "<u2",
    "I32": "<i4", "F32": "<f4", "I64": "<i8", "F64": "<f8",
}  # fmt: skip


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
    """Return every parameter and buffer by name."""
    metadata, tensors = read_file(path)
    records = json.loads(metadata["mcomp.weights"])
    weights = {name: value for name, value in tensors.items() if ":" not in name}
    tied = {name: record["to"] for name, record in records.items() if record["is"] == "tied"}
    others = {name: record for name, record in records.items() if name not in tied}
    weights |= {name: KINDS[record["is"]](record, tensors) for name, record in others.items()}
    return weights | {name: weights[source] for name, source in tied.items()}


def read_file(path: str | Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Return the metadata of a safetensors file, and its arrays by name; bfloat16 becomes float32."""
    content = Path(path).read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, told in header.items():
        first, last = told["data_offsets"]
        array = np.frombuffer(content[start + first : start + last], TYPES[told["dtype"]])
        if told["dtype"] == "BF16":
            array = (array.astype("<u4") << 16).view("<f4")
        tensors[name] = array.reshape(told["shape"])
    return metadata, tensors | numbers_of(metadata)


def numbers_of(metadata: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return the arrays of one number by name."""
    found = json.loads(metadata.get("mcomp.numbers", "{}"))
    single = {f"{owner}.{name}": value for owner, names in found.items() for name, value in names.items()}
    return {
        name: np.array(value, np.float32 if isinstance(value, float) else np.int64)
        for name, value in single.items()
    }


def numbers_of_codes(record: Record, tensors: Arrays) -> np.ndarray:
    """Return the weight that codes stand for, float32."""
    codes = codes_of(record, tensors).astype(np.int32)
    zero = grown(zeros_of(record, tensors), record, codes.shape)
    scale = grown(tensors[record["scale"]].astype(np.float32), record, codes.shape)
    weight: np.ndarray = (record.get("step", 1) * codes - record["first"] - zero).astype(np.float32) * scale
    if "gain" in record:
        weight = weight * tensors[record["gain"]]
    return (weight.T if "transposed" in record else weight).reshape(record["shape"])


def codes_of(record: Record, tensors: Arrays) -> np.ndarray:
    """Return all codes, of the shape `codes_shape`: uint8, or int16 for 16 bits."""
    stored, bits, shape = tensors[record["codes"]], record["bits"], shape_of_codes(record)
    if bits == 16:
        return stored
    if "mask" not in record:
        return unpacked_rows(stored, bits, math.prod(shape[1:])).reshape(shape)
    mask = mask_of(tensors[record["mask"]], shape)
    codes = np.array(grown(record["first"] + zeros_of(record, tensors), record, shape), np.uint8)
    codes[mask] = unpacked_rows(stored, bits, int(np.count_nonzero(mask)))[0]
    return codes


def shape_of_codes(record: Record) -> Sequence[int]:
    """Return the shape in which the codes of a weight lie: its own, if no other is said."""
    shape: Sequence[int] = record.get("codes_shape", record["shape"])
    return shape


def zeros_of(record: Record, tensors: Arrays) -> np.ndarray:
    """Return the zeros of the grids, int32."""
    if "zero" not in record:
        return np.zeros(record["grid"], np.int32)
    zero = tensors[record["zero"]]
    if "zero_bits" in record:
        zero = unpacked_rows(zero, record["zero_bits"], record["grid"][1])
    return zero.astype(np.int32)


def grown(part: np.ndarray, record: Record, shape: Sequence[int]) -> np.ndarray:
    """Return a scale or zero of each number of an array."""
    part = part.reshape(record["grid"])
    for axis, size in enumerate(shape):
        times = record["repeat"][axis] if "repeat" in record else size // part.shape[axis]
        part = np.repeat(part, times, axis).take(range(size), axis)
    return part


def unpacked_rows(packed: np.ndarray, bits: int, columns: int) -> np.ndarray:
    """Return the codes (rows, columns), uint8, of rows of bytes."""
    stream = np.unpackbits(packed, axis=1, bitorder="little")[:, : columns * bits]
    worth = 1 << np.arange(bits, dtype=np.uint8)
    return np.asarray((stream.reshape(len(packed), columns, bits) * worth).sum(-1, dtype=np.uint8))


def packed_rows(codes: np.ndarray, bits: int) -> np.ndarray:
    """Return codes (rows, columns), uint8, as rows of bytes."""
    stream = (codes[:, :, None] >> np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(stream.reshape(len(codes), -1), axis=1, bitorder="little")


def mask_of(bits: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return a mask of a shape. Raises ValueError if it has not so many bits."""
    size = math.prod(shape)
    if bits.shape != (-(-size // 8),):
        raise ValueError("a mask has not the size of its weight")
    return np.unpackbits(bits)[:size].astype(bool).reshape(shape)


def kept_numbers(record: Record, tensors: Arrays) -> np.ndarray:
    """Return a weight of which the file has what its mask keeps."""
    mask = mask_of(tensors[record["mask"]], record["shape"])
    weight = np.zeros(record["shape"], tensors[record["values"]].dtype)
    weight[mask] = tensors[record["values"]]
    return weight


def half_numbers(record: Record, tensors: Arrays) -> np.ndarray:
    """Return a weight of 16 bits as float32."""
    return tensors[record["values"]].astype(np.float32)


KINDS = {"codes": numbers_of_codes, "kept": kept_numbers, "half": half_numbers}


if __name__ == "__main__":
    for name, weight in read_weights(sys.argv[1]).items():
        print(name, weight.dtype, weight.shape)
