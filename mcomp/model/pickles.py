"""Files of torch.save, read as data: nothing in them is run, and nothing in them grows when it is read.

`torch.load(weights_only=True)` runs no code of a file, but some of what it calls makes much of little
(`bytearray(2**31)`). So the instructions of a pickle are read first, and it may ask only for what torch.save
needs for dense tensors in plain containers.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from mcomp.errors import CheckpointError, named

NESTED_UNDER = ("state_dict", "model_state_dict", "model", "module", "net")
ARCHIVE = b"PK\x03\x04"  # torch takes a file that starts so for an archive, and no other
PICKLED = "data.pkl"
NUM_PICKLES = 5  # in the form before PyTorch 1.6: magic number, protocol, machine, content, names of storages
PROTOCOL = 2  # of pickle: what torch.save writes, and torch.load reads without running anything

# What is put together when dense tensors in plain containers are read.
REBUILT = frozenset(
    {
        "collections.Counter",
        "collections.OrderedDict",
        "builtins.complex",
        "builtins.set",
        "torch.Size",
        "torch.device",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_parameter_with_state",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_tensor_v3",
    }
)
PLAIN = REBUILT | {str(each) for each in vars(torch).values() if isinstance(each, torch.dtype)}
NO_PLAIN_TENSOR = "torch._utils._rebuild_"


def read_pickle(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file of torch.save by name, on the CPU. Raises CheckpointError."""
    try:
        with path.open("rb") as file:
            is_archive = file.read(len(ARCHIVE)) == ARCHIVE
            file.seek(0)
            refuse_archive(file, path) if is_archive else refuse_calls(file, path, NUM_PICKLES)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (CheckpointError, OSError):
        raise
    except Exception as error:  # a broken file raises whatever it likes inside Python's and torch's readers
        raise CheckpointError(f"{path} is truncated or not a checkpoint of PyTorch") from error
    return state_dict_in(content, path)


def refuse_archive(file: IO[bytes], path: Path) -> None:
    """Raise CheckpointError for an archive that unpacks to more than it is, or whose pickle is refused."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise CheckpointError(f"{path} is a compressed archive and not what torch.save writes")
        unpacked_bytes = sum(entry.file_size for entry in entries)
        # Where nothing starts at the front, torch may find another list of contents than Python does.
        if unpacked_bytes > path.stat().st_size or min(entry.header_offset for entry in entries) > 0:
            raise CheckpointError(f"{path} is an archive with overlapping contents: torch.save writes none")
        for entry in entries:
            if entry.filename.lower().endswith(PICKLED):  # torch finds it also in capitals, or a second one
                with archive.open(entry) as pickled:
                    refuse_calls(pickled, path)


def refuse_calls(pickled: IO[bytes], path: Path, number: int = 1) -> None:
    """Raise CheckpointError if `number` pickles, one after the other, ask for other than `PLAIN` values.

    Raises ValueError for what is no pickle.
    """
    for _ in range(number):
        for instruction, argument, _ in pickletools.genops(pickled):
            if instruction.proto > PROTOCOL:
                raise CheckpointError(
                    f"{path} is pickled with the instruction {instruction.name}, which torch.save does not "
                    "write; save model.state_dict() with torch.save's own protocol, best as .safetensors"
                )
            if instruction.name in ("GLOBAL", "INST"):
                require_plain_name(str(argument), path)


def require_plain_name(argument: str, path: Path) -> None:
    """Raise CheckpointError unless a pickle asks for one of `PLAIN`; `argument` is "module name"."""
    name = argument.replace("__builtin__ ", "builtins ").replace(" ", ".", 1)
    is_storage = name.startswith("torch.") and name.count(".") == 1 and name.endswith("Storage")
    if name in PLAIN or is_storage:
        return
    if name.startswith(NO_PLAIN_TENSOR):
        kind = name.removeprefix(NO_PLAIN_TENSOR).removesuffix("_no_storage").replace("_", " ")
        raise CheckpointError(f"{path} holds a {named(kind)}; save the weights as dense floats")
    raise CheckpointError(
        f"{path} is a pickle that would call {named(name)}, which was not run: only tensors are read; "
        "save model.state_dict(), best as .safetensors"
    )


def state_dict_in(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the tensors of what was saved: a state dict, or one below a usual key."""
    for _ in NESTED_UNDER:  # a mapping may hold itself
        if not isinstance(content, Mapping):
            break
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return plain_tensors(content, path)
        below = next((key for key in NESTED_UNDER if isinstance(content.get(key), Mapping)), None)
        if below is None:
            held = ", ".join(sorted(named(key) for key in content if isinstance(key, str))[:8]) or "nothing"
            raise CheckpointError(f"{path} holds no state dict, but: {held}")
        content = content[below]
    raise CheckpointError(f"{path} holds a {type(content).__name__} and no state dict")


def plain_tensors(tensors: Mapping[Any, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the tensors by name. Raises CheckpointError for what has no name, or is no plain array."""
    for name, tensor in tensors.items():
        if not isinstance(name, str):
            raise CheckpointError(f"{path} holds tensors under other keys than names: {type(name).__name__}")
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise CheckpointError(f"{path}: {named(name)} is no array of numbers; save it as dense floats")
    return dict(tensors)
