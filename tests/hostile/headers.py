"""Safetensors files whose header lies, grows or misleads."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.hostile.attack import Attack, Prepare, each_of, files, hole, link, pipe
from tests.hostile.pickle_code import archive, state_dict
from tests.hostile.pickles import ESCAPES

NOT_ONE = "is truncated or not a safetensors file"
NO_FIT = "does not fit the model"
DATA = bytes(40)


def load(folder: Path) -> None:
    """Start from the weights of a file."""
    from torch import nn

    from mcomp.model.checkpoint import load_weights

    load_weights(nn.Linear(4, 2), folder / "w.safetensors")


def laid(prepare: Prepare, told: str, source: str) -> Attack:
    """Return an attack by what lies in the place of a checkpoint."""
    return Attack(source, prepare, load, told, error="CheckpointError")


def encoded(header: bytes, data: bytes = DATA, length: int | None = None) -> bytes:
    """Return a file with a header that says it is `length` long."""
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def raw(header: bytes, told: str = NOT_ONE, source: str = "safetensors", data: bytes = DATA) -> Attack:
    """Return an attack by the text of a header."""
    return laid(files({"w.safetensors": encoded(header, data)}), told, source)


def entry(start: int, end: int, shape: Any, dtype: Any = "F32") -> dict[str, Any]:
    """Return what a header says of one tensor."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


WEIGHT, BIAS = entry(0, 32, [2, 4]), entry(32, 40, [2])
GOOD = {"weight": WEIGHT, "bias": BIAS}


def header(
    changes: Mapping[str, Any], told: str = NOT_ONE, source: str = "safetensors", data: bytes = DATA
) -> Attack:
    """Return an attack by a good header with changes."""
    return raw(json.dumps({**GOOD, **changes}).encode(), told, source, data)


def bias(start: Any, end: Any, shape: Any = (2,), told: str = NOT_ONE, source: str = "safetensors") -> Attack:
    """Return an attack by what the header says of the second tensor."""
    return header({"bias": entry(start, end, shape)}, told, source)


# By type: its bytes for the four numbers of the weight, and how it is refused.
TYPES = {
    "F4": (4, NO_FIT),
    "F6_E2M3": (6, NOT_ONE),
    "F8_E4M3": (8, NO_FIT),
    "F8_E5M2": (8, NO_FIT),
    "F8_E8M0": (8, NO_FIT),
    "C64": (64, NO_FIT),
    "BOOL": (8, NO_FIT),
    "I64": (64, NO_FIT),
    "U64": (64, NO_FIT),
    "F128": (128, NOT_ONE),
    "f32": (32, NOT_ONE),
    "__import__('os')": (32, NOT_ONE),
    "\x1b[2J": (32, NOT_ONE),
}


def of_type(name: str) -> Attack:
    """Return an attack by a type that no weight has."""
    end, told = TYPES[name]
    changed = {"weight": entry(0, end, [2, 4], name), "bias": entry(end, end + 8, [2])}
    return header(changed, told, "safetensors", bytes(end + 8))


def once_more(text: str) -> bytes:
    """Return a good header with more at its end."""
    return json.dumps(GOOD).encode()[:-1] + text.encode() + b"}"


ATTACKS: dict[str, Attack] = {
    # the length of the header
    "nothing": laid(files({"w.safetensors": b""}), NOT_ONE, "safetensors"),
    "seven bytes": laid(files({"w.safetensors": bytes(7)}), NOT_ONE, "safetensors"),
    "a header of no length": laid(files({"w.safetensors": bytes(8)}), NOT_ONE, "safetensors"),
    "a header longer than the file": laid(
        files({"w.safetensors": encoded(b"{}", b"", 2**40)}), "does not fit in it", "safetensors-fuzz"
    ),
    "a header of all lengths": laid(
        files({"w.safetensors": encoded(b"{}", b"", 2**64 - 1)}), "does not fit in it", "safetensors-fuzz"
    ),
    "a header of a gigabyte in a hole": laid(
        lambda folder: [
            hole("w.safetensors")(folder),
            (folder / "w.safetensors").open("r+b").write(struct.pack("<Q", 2**30)),
        ],
        "does not fit in it",
        "cwe-770",
    ),
    "a header that ends in the data": laid(
        files({"w.safetensors": encoded(json.dumps(GOOD).encode(), DATA, len(json.dumps(GOOD)) + 4)}),
        NOT_ONE,
        "safetensors",
    ),
    # what is no header
    "no JSON": raw(b"{]"),
    "a list": raw(b"[1]"),
    "null": raw(b"null"),
    "no UTF-8": raw(b'{"\xff": 1}'),
    "half of a surrogate pair": raw(b'{"\\ud800": 1}'),
    "zeros behind it": raw(json.dumps(GOOD).encode() + bytes(8)),
    "two headers": raw(json.dumps(GOOD).encode() * 2, source="tob-safetensors"),
    "mappings in mappings": raw(b'{"a":' * 20_000, source="cwe-674"),
    "lists in lists": raw(b'{"a":' + b"[" * 100_000, source="cwe-674"),
    "a pickle": laid(
        files({"w.safetensors": archive(state_dict())}), "does not fit in it", "picklescan-769v"
    ),
    "a bare pickle": laid(files({"w.safetensors": pickle.dumps(GOOD)}), NOT_ONE, "picklescan-769v"),
    # two formats at once
    "an archive behind the data": header({}, source="tob-safetensors", data=DATA + archive(state_dict())),
    "bytes behind the data": header({}, source="tob-safetensors", data=DATA + b"x"),
    "a hole between tensors": bias(40, 48, source="tob-safetensors"),
    "a name given twice": raw(
        once_more(f', "bias": {json.dumps(BIAS)}'), "a name is given twice", "tob-safetensors"
    ),
    "a name given twice, once by escapes": raw(
        once_more(f', "\\u0062ias": {json.dumps(BIAS)}'), "a name is given twice", "tob-safetensors"
    ),
    "a field given twice": raw(
        once_more(', "more": {"dtype": "F32", "dtype": "F32", "shape": [0], "data_offsets": [40, 40]}'),
        source="tob-safetensors",
    ),
    # offsets and shapes
    "tensors that overlap": bias(24, 32),
    "tensors in one place": header({"weight": entry(0, 32, [2, 4]), "bias": entry(0, 32, [8])}),
    "an offset below zero": bias(-8, 0),
    "offsets the wrong way round": bias(40, 32),
    "an offset outside": bias(32, 2**40, (2**38 - 8,)),
    "the highest offset": bias(2**63, 2**64 - 1),
    "an offset beyond 64 bits": bias(2**64, 2**64 + 8),
    "an offset in floats": bias(32.5, 40),
    "an offset in text": bias("32", "40"),
    "an offset of infinity": raw(once_more(', "x": {"dtype":"F32","shape":[1e999],"data_offsets":[0,0]}')),
    "one offset": header({"bias": {"dtype": "F32", "shape": [2], "data_offsets": [32]}}),
    "a shape that overflows": bias(32, 40, (2**62, 4), source="safetensors-fuzz"),
    "a shape that overflows to nothing": bias(32, 32, (2**32, 2**32, 0), source="safetensors-fuzz"),
    "a shape of nothing by very much": header(
        {"bias": entry(32, 32, [0, 2**63])}, NOT_ONE, "safetensors-fuzz", bytes(32)
    ),
    "a shape below zero": bias(32, 40, (-2,)),
    "a shape of another size": bias(32, 40, (3,)),
    "a shape of other kinds": bias(32, 40, ("2", None)),
    "a shape of many axes": bias(32, 40, [1] * 50_000 + [2], NO_FIT, "safetensors-fuzz"),
    **{f"the type {name!a}": attack for name, attack in each_of(of_type, tuple(TYPES)).items()},
    "a type that is a list": header({"bias": entry(32, 40, [2], ["F32"])}),
    # names
    "names with escapes": header({ESCAPES: entry(40, 40, [0])}, r"\x1b[2J\x1b]0;pwned", "cwe-150"),
    "a name with NUL": header({"bias\0": entry(40, 40, [0])}, r"bias\x00", "cwe-150"),
    "a name that is a path": header({"../../etc/passwd": entry(40, 40, [0])}, "unexpected (1)", "cwe-22"),
    "a name of Python": header({"__class__": entry(40, 40, [0])}, "unexpected (1)"),
    "a name of a megabyte": header({"n" * 2**20: entry(40, 40, [0])}, "nnn…", "cwe-770"),
    "an escape in an error": header({"\x1b[2J": {"dtype": "\x1b[2J"}}, NOT_ONE, "cwe-150"),
    "two thousand names": header(
        {f"weigh{number}": entry(40, 40, [0]) for number in range(2000)}, "and 1992 more", "cwe-770"
    ),
    "names that turn the writing": header({"\u202eb\u202c": entry(40, 40, [0])}, r"\u202eb", "trojan-source"),
    "metadata that is no text": header({"__metadata__": {"a": {"b": 1}}}),
    # what is no file
    "a pipe": laid(pipe("w.safetensors"), "is no file", "cwe-67"),
    "a device": laid(link("w.safetensors", "/dev/zero"), "is no file", "cwe-67"),
    "a link into nothing": laid(link("w.safetensors", "gone"), "does not exist", "cwe-59"),
}
