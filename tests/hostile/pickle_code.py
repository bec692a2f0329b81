"""Pickles put together by hand, instruction by instruction, and archives of them."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Sequence

PROTO = pickle.PROTO + b"\2"
STOP = pickle.STOP
PAYLOAD = "touch pwned"


def text(value: str) -> bytes:
    """Push a string."""
    data = value.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    """Push an integer of 32 bits."""
    return pickle.BININT + struct.pack("<i", value)


def glob(module: str, name: str) -> bytes:
    """Push what a module holds under a name."""
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def items(*values: bytes) -> bytes:
    """Push a tuple."""
    return pickle.MARK + b"".join(values) + pickle.TUPLE


def call(module: str, name: str, *arguments: bytes) -> bytes:
    """Push what a call gives."""
    return glob(module, name) + items(*arguments) + pickle.REDUCE


def mapping(**values: bytes) -> bytes:
    """Push a dict."""
    pairs = b"".join(text(key) + value for key, value in values.items())
    return pickle.EMPTY_DICT + pickle.MARK + pairs + pickle.SETITEMS


def storage(key: str, numel: int, kind: str = "FloatStorage", location: str = "cpu") -> bytes:
    """Push a storage by its persistent id, as torch.save does."""
    parts = items(text("storage"), glob("torch", kind), text(key), text(location), number(numel))
    return parts + pickle.BINPERSID


def tensor(key: str = "0", numel: int = 8, offset: int = 0, shape: Sequence[int] = (2, 4)) -> bytes:
    """Push a dense tensor."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    sizes, steps = (items(*map(number, each)) for each in (shape, strides))
    hooks = call("collections", "OrderedDict")
    arguments = (storage(key, numel), number(offset), sizes, steps, pickle.NEWFALSE, hooks)
    return call("torch._utils", "_rebuild_tensor_v2", *arguments)


def state_dict(**more: bytes) -> bytes:
    """Push the weights of the model that the attacks are made on."""
    return mapping(weight=tensor(), bias=tensor("1", 2, 0, (2,)), **more)


def program(code: bytes) -> bytes:
    """Return a whole pickle."""
    return PROTO + code + STOP


DATA = {"0": bytes(32), "1": bytes(8)}


def archive(
    code: bytes,
    data: dict[str, bytes] | None = None,
    more: Sequence[tuple[str, bytes]] = (),
    method: int = zipfile.ZIP_STORED,
) -> bytes:
    """Return an archive as torch.save writes it, with a pickle, storages and more members."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", method) as file:
        file.writestr("w/data.pkl", program(code))
        file.writestr("w/byteorder", "little")
        for name, content in (DATA if data is None else data).items():
            file.writestr(f"w/data/{name}", content)
        for name, content in more:
            file.writestr(name, content)
        file.writestr("w/version", "3\n")
    return written.getvalue()


def legacy(code: bytes, storages: Sequence[bytes] = ()) -> bytes:
    """Return what torch.save wrote before archives: five pickles, then storages with their lengths."""
    magic = pickle.LONG1 + b"\x0a" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
    machine = mapping(
        protocol_version=number(1001), little_endian=pickle.NEWTRUE, type_sizes=mapping(short=number(2))
    )
    keys = pickle.EMPTY_LIST + pickle.MARK + text("0") + text("1") + pickle.APPENDS
    parts = (magic, number(1001), machine, code, keys)
    data = b"".join(struct.pack("<q", len(each) // 4) + each for each in storages)
    return b"".join(map(program, parts)) + data
