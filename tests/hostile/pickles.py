"""Checkpoints of others in the form of torch.save, made to run code, to grow, or to mislead."""

from __future__ import annotations

import io
import os
import pickle
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hostile.attack import Attack, Prepare, each_of, files, hole, link, pipe
from tests.hostile.pickle_code import (
    DATA,
    PAYLOAD,
    archive,
    call,
    glob,
    items,
    legacy,
    mapping,
    number,
    program,
    state_dict,
    storage,
    tensor,
    text,
)

BROKEN = "is truncated or not a checkpoint of PyTorch"
REFUSED = "which was not run: only tensors are read"


def load(folder: Path) -> None:
    """Start from the weights of a file."""
    from torch import nn

    from mcomp.model.checkpoint import load_weights

    load_weights(nn.Linear(4, 2), folder / "w.pt")


def laid(prepare: Prepare, told: str, source: str = "own") -> Attack:
    """Return an attack by what lies in the place of a checkpoint."""
    return Attack(source, prepare, load, told, error="CheckpointError")


def bytes_of(content: bytes, told: str, source: str = "own") -> Attack:
    """Return an attack by the bytes of a checkpoint."""
    return laid(files({"w.pt": content}), told, source)


def saved(content: Callable[[], Any], told: str, source: str = "own", **how: Any) -> Attack:
    """Return an attack by something that torch.save writes."""

    def write(folder: Path) -> None:
        import torch

        torch.save(content(), folder / "w.pt", **how)

    return laid(write, told, source)


class Malice:
    """Pickled, it asks the reader to run a command."""

    def __reduce__(self) -> Any:
        return os.system, (PAYLOAD,)


# Calls that a pickle may ask for: module, name and arguments.
CALLS: dict[str, tuple[str, str, tuple[bytes, ...], str]] = {
    "os.system": ("os", "system", (text(PAYLOAD),), "python-pickle"),
    "posix.system": ("posix", "system", (text(PAYLOAD),), "python-pickle"),
    "subprocess": ("subprocess", "getoutput", (text(PAYLOAD),), "python-pickle"),
    "eval": ("builtins", "eval", (text(f"__import__('os').system('{PAYLOAD}')"),), "python-pickle"),
    "exec": ("__builtin__", "exec", (text(f"import os; os.system('{PAYLOAD}')"),), "python-pickle"),
    "a module beside it": ("evil", "run", (), "python-pickle"),
    "getattr": ("builtins", "getattr", (glob("torch", "Size"), text("__class__")), "sour-pickles"),
    "open": ("builtins", "open", (text("pwned"), text("w")), "sour-pickles"),
    "a pickle in the pickle": ("pickle", "loads", (text("x"),), "sour-pickles"),
    "attributes by dots": ("builtins", "print.__class__.__base__.__subclasses__", (), "modelscan-338"),
    "a command of torch": ("torch.utils.collect_env", "run", (text(PAYLOAD),), "saferpickle-18"),
    "a command of multiprocessing": (
        "multiprocessing.util",
        "spawnv_passfds",
        (text("/bin/sh"), items(text("sh"), text("-c"), text(PAYLOAD)), items()),
        "saferpickle-18",
    ),
    "pip": ("pip", "main", (items(text("install"), text("evil")),), "picklescan-655q"),
    "timeit": ("timeit", "timeit", (text("open('pwned', 'w')"),), "picklescan-655q"),
    "runpy": ("runpy", "run_path", (text("evil.py"),), "picklescan-655q"),
    "a file read by NumPy": ("numpy", "load", (text("../outside/secret.npy"),), "picklescan-655q"),
    "another checkpoint": ("torch.serialization", "load", (text("../outside/secret.pt"),), "picklescan-655q"),
    "bytes that torch loads": ("torch.storage", "_load_from_bytes", (text("x"),), "picklescan-655q"),
    "a name that torch imports": ("torch._utils", "_import_dotted_name", (text("evil.run"),), "own"),
    "a hub": ("torch.hub", "load", (text("evil/repository"), text("model")), "saferpickle-18"),
    "escapes in the name": ("os\x1b[2J", "system\x1b]0;pwned\x07", (), "cwe-150"),
    # allowed by torch.load(weights_only=True), and not needed for weights
    "two gigabytes of zeros": ("builtins", "bytearray", (number(2**31 - 1),), "own"),
    "two gigabytes, spelt the old way": ("__builtin__", "bytearray", (number(2**31 - 1),), "own"),
    "a text that is encoded": ("_codecs", "encode", (text("ab" * 999), text("hex")), "own"),
    "a storage of its own": ("torch.storage", "UntypedStorage", (number(2**31 - 1),), "cve-2026-24747"),
    "a tensor of its own": ("torch", "Tensor", (number(2**31 - 1),), "cve-2026-24747"),
    "a layout": ("torch.serialization", "_get_layout", (text("torch.strided"),), "own"),
    "a tensor of another type": ("torch._tensor", "_rebuild_from_type_v2", (), "cve-2025-32434"),
}


def calls(name: str) -> Attack:
    """Return an attack by a call for the value of a state dict."""
    module, function, arguments, source = CALLS[name]
    told = "would call" if function != "_rebuild_from_type_v2" else REFUSED
    return bytes_of(archive(state_dict(evil=call(module, function, *arguments))), told, source)


# What torch.load(weights_only=True) puts together and no state dict of dense floats holds.
KINDS = {
    "sparse": ("_rebuild_sparse_tensor", "holds a sparse tensor"),
    "quantized": ("_rebuild_qtensor", "holds a qtensor"),
    "nested": ("_rebuild_nested_tensor", "holds a nested tensor"),
    "without numbers": ("_rebuild_meta_tensor_no_storage", "holds a meta tensor"),
    "that wraps another": ("_rebuild_wrapper_subclass", "holds a wrapper subclass"),
    "from NumPy": ("_rebuild_device_tensor_from_numpy", "holds a device tensor from numpy"),
}


def tensor_of_a_kind(name: str) -> Attack:
    """Return an attack by a tensor that is no dense array."""
    function, told = KINDS[name]
    return bytes_of(archive(state_dict(odd=call("torch._utils", function))), told, "cve-2026-24747")


OTHER_INSTRUCTIONS = {
    "a name from the stack": text("os") + text("system") + b"\x93" + items(text(PAYLOAD)) + pickle.REDUCE,
    "a class with arguments": b"(X\x01\x00\x00\x00xios\nsystem\n",
    "a class on the stack": b"(" + glob("os", "system") + text(PAYLOAD) + b"o",
    "a new object": glob("subprocess", "Popen") + items(text(PAYLOAD)) + pickle.NEWOBJ,
    "a new object by keywords": glob("subprocess", "Popen") + items() + mapping(args=text("x")) + b"\x92",
    "an object that is built": glob("evil", "run") + mapping(__setstate__=glob("os", "system")) + b"b",
    "a state with code": call("collections", "OrderedDict")
    + mapping(x=call("os", "system", text("x")))
    + b"b",
    "an extension": b"\x82\x01",
    "a byte array of its own": b"\x96" + struct.pack("<Q", 2**40),
    "a frame": b"\x95" + struct.pack("<Q", 2**62),
    "a long text": b"\x8d" + struct.pack("<Q", 2**62),
    "a long number": b"\x8b" + struct.pack("<i", 2**31 - 1),
    "text of the old kind": b"S'" + b"\\x41" * 10 + b"'\n",
}
TOLD_OF_INSTRUCTIONS = {
    "a name from the stack": "instruction STACK_GLOBAL",
    "a class with arguments": "would call os.system",
    "a class on the stack": "would call os.system",
    "a new object": "would call subprocess.Popen",
    "a new object by keywords": "would call subprocess.Popen",
    "an object that is built": "would call evil.run",
    "a state with code": "would call os.system",
    "a byte array of its own": BROKEN,
    "a frame": "instruction FRAME",
}


def instruction(name: str) -> Attack:
    """Return an attack by an instruction that torch.save does not write."""
    told = TOLD_OF_INSTRUCTIONS.get(name, BROKEN)
    return bytes_of(archive(OTHER_INSTRUCTIONS[name]), told, "sour-pickles")


def doubled(times: int) -> bytes:
    """Return lists of lists, each twice in the next: 2 ** times in all."""
    code = pickle.EMPTY_LIST + b"q\0"
    for at in range(times):
        code += pickle.EMPTY_LIST + pickle.MARK + bytes([*b"h", at, *b"h", at]) + pickle.APPENDS
        code += bytes([*b"q", at + 1])
    return code


def holding_itself() -> bytes:
    """Return a dict that is its own `model`."""
    return pickle.EMPTY_DICT + b"q\0" + text("model") + b"h\0" + pickle.SETITEM


def overlapping(count: int) -> bytes:
    """Return an archive whose list names one storage many times."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as file:
        file.writestr("w/data.pkl", program(state_dict()))
        file.writestr("w/data/0", bytes(2**16))
        (first,) = (each for each in file.infolist() if each.filename == "w/data/0")
        for number in range(1, count):
            again = zipfile.ZipInfo(f"w/data/{number}")
            for name in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(again, name, getattr(first, name))
            file.filelist.append(again)
            file.NameToInfo[again.filename] = again
    return written.getvalue()


def two_lists() -> bytes:
    """Return an archive with two tables of contents: Python reads the last, torch where the end points to."""
    evil, good = (archive(code) for code in (call("os", "system", text(PAYLOAD)), state_dict()))
    end = evil[evil.rindex(b"PK\5\6") :]
    table = evil[struct.unpack_from("<I", end, 16)[0] : evil.rindex(b"PK\5\6")]
    return (
        evil
        + good[: good.rindex(b"PK\5\6")]
        + struct.pack(
            "<4s4H2IH",
            b"PK\5\6",
            0,
            0,
            *struct.unpack_from("<2H", end, 8),
            len(table),
            len(evil) - len(table),
            0,
        )
    )


def changed(content: bytes, old: bytes, new: bytes, count: int = -1) -> bytes:
    """Return bytes with others in their place."""
    assert old in content
    return content.replace(old, new, count)


def with_flags(flags: int) -> bytes:
    """Return an archive whose members say something else of themselves in the table of contents."""
    content = bytearray(archive(call("os", "system", text(PAYLOAD))))
    at = content.index(b"PK\1\2")
    while at >= 0:
        struct.pack_into("<H", content, at + 8, flags)
        at = content.find(b"PK\1\2", at + 1)
    return bytes(content)


def linked_member() -> bytes:
    """Return an archive whose storage is a symbolic link."""
    member = zipfile.ZipInfo("w/data/0")
    member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as file:
        file.writestr("w/data.pkl", program(state_dict()))
        file.writestr(member, "../outside/secret.bin")
        file.writestr("w/data/1", DATA["1"])
    return written.getvalue()


def old_tar() -> bytes:
    """Return the archive that torch wrote before 2017."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as file:
        for name in ("storages", "tensors", "pickle", "../../pwned"):
            content = program(call("os", "system", text(PAYLOAD)))
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return written.getvalue()


def deep(times: int) -> bytes:
    """Return tuples in tuples."""
    return pickle.NONE + pickle.TUPLE1 * times


EVIL = call("os", "system", text(PAYLOAD))
FAKED = "\nno mistakes"  # a line that mcomp did not write
ESCAPES = f"\x1b[2J\x1b]0;pwned\x07{FAKED}\u202e"

ATTACKS: dict[str, Attack] = {
    # what runs code
    **{f"calls {name}": attack for name, attack in each_of(calls, tuple(CALLS)).items()},
    **{f"uses {name}": attack for name, attack in each_of(instruction, tuple(OTHER_INSTRUCTIONS)).items()},
    "reduce": saved(lambda: {"state_dict": Malice()}, "would call posix.system", "python-pickle"),
    "reduce, as before 1.6": saved(
        lambda: {"state_dict": Malice()},
        "would call posix.system",
        "python-pickle",
        _use_new_zipfile_serialization=False,
    ),
    "reduce, by protocol 4": saved(
        lambda: {"state_dict": Malice()}, "instruction", "sour-pickles", pickle_protocol=4
    ),
    "a bare pickle": bytes_of(pickle.dumps(Malice(), 2), "would call posix.system", "python-pickle"),
    "code before what breaks": bytes_of(
        archive(EVIL + b"\xff\xff"), "would call os.system", "saferpickle-18"
    ),
    "code for a key": bytes_of(
        archive(pickle.EMPTY_DICT + EVIL + tensor() + pickle.SETITEM), "would call os.system", "python-pickle"
    ),
    "code behind the weights, as before 1.6": bytes_of(
        legacy(state_dict(evil=EVIL), (DATA["0"], DATA["1"])), "would call os.system", "python-pickle"
    ),
    "code in the names of storages, as before 1.6": bytes_of(
        legacy(state_dict())[:-1] + program(EVIL), "would call os.system", "python-pickle"
    ),
    "a whole module": saved(
        lambda: __import__("torch").nn.Linear(4, 2),
        "would call torch.nn.modules.linear.Linear",
        "python-pickle",
    ),
    "a program of TorchScript": bytes_of(
        archive(state_dict(), more=[("w/constants.pkl", program(EVIL)), ("w/code/evil.py", b"")]),
        BROKEN,
        "own",
    ),
    "a tar of long ago": bytes_of(old_tar(), BROKEN, "cve-2025-32434"),
    # persistent ids
    "an id that is a text": bytes_of(archive(text("evil") + pickle.BINPERSID), BROKEN, "cve-2025-32434"),
    "an id that is a module with its source": bytes_of(
        legacy(items(text("module"), glob("torch", "Size"), text("evil.py"), text("x")) + pickle.BINPERSID),
        BROKEN,
        "cve-2025-32434",
    ),
    "a storage outside of the archive": bytes_of(
        archive(mapping(weight=tensor("../../outside/secret.bin"))), BROKEN, "cwe-22"
    ),
    "a storage with an absolute name": bytes_of(
        archive(mapping(weight=tensor("/etc/passwd"))), BROKEN, "cwe-22"
    ),
    "a storage on a device that is not there": bytes_of(
        archive(mapping(weight=storage("0", 8, location="xla:9"))), "no state dict", "own"
    ),
    # what grows
    "a huge storage": bytes_of(archive(mapping(weight=tensor(numel=2**31 - 1))), BROKEN, "cve-2026-24747"),
    "a huge storage, as before 1.6": bytes_of(
        legacy(mapping(weight=tensor(numel=2**31 - 1)), [DATA["0"]]), BROKEN, "cve-2026-24747"
    ),
    "a negative storage": bytes_of(archive(mapping(weight=tensor(numel=-8))), BROKEN, "cve-2026-24747"),
    "a tensor larger than its storage": bytes_of(
        archive(mapping(weight=tensor(shape=(2**20, 2**10)))), BROKEN, "cve-2026-24747"
    ),
    "a tensor before its storage": bytes_of(
        archive(mapping(weight=tensor(offset=-4))), BROKEN, "cve-2026-24747"
    ),
    "a tensor of negative size": bytes_of(
        archive(mapping(weight=tensor(shape=(-2, -4)))), BROKEN, "cve-2026-24747"
    ),
    "one number for a trillion": saved(
        lambda: {"weight": __import__("torch").zeros(1, 1).expand(2**20, 2**20)}, "of another shape", "own"
    ),
    "a compressed bomb": bytes_of(
        archive(state_dict(), {"0": bytes(2**24)}, method=zipfile.ZIP_DEFLATED),
        "compressed archive",
        "cwe-409",
    ),
    "a bomb by bzip2": bytes_of(
        archive(state_dict(), {"0": bytes(2**24)}, method=zipfile.ZIP_BZIP2), "compressed archive", "cwe-409"
    ),
    "a bomb by LZMA": bytes_of(
        archive(state_dict(), {"0": bytes(2**22)}, method=zipfile.ZIP_LZMA), "compressed archive", "cwe-409"
    ),
    "members that overlap": bytes_of(overlapping(1000), "overlapping contents", "fifield"),
    "lists of lists": bytes_of(archive(doubled(200)), "holds a list", "own"),
    "a dict that holds itself": bytes_of(archive(holding_itself()), "holds a dict", "own"),
    "tuples in tuples": bytes_of(archive(deep(10_000)), "holds a tuple", "cwe-674"),
    "tuples in tuples for a key": bytes_of(
        archive(pickle.EMPTY_DICT + deep(10_000) + tensor() + pickle.SETITEM),
        "under other keys than names",
        "cwe-674",
    ),
    # archives
    "names that lead out": bytes_of(
        archive(state_dict(extra=tensor()), more=[("../../pwned", b"x"), ("/tmp/pwned", b"x")]),
        BROKEN,
        "zip-slip",
    ),
    "two pickles of one name, code first": bytes_of(
        changed(archive(EVIL, more=[("w/data.pk1", program(state_dict()))]), b"data.pk1", b"data.pkl"),
        "would call os.system",
        "modelaudit-1408",
    ),
    "two pickles of one name, code last": bytes_of(
        changed(archive(state_dict(), more=[("w/data.pk1", program(EVIL))]), b"data.pk1", b"data.pkl"),
        "would call os.system",
        "modelaudit-1408",
    ),
    "a pickle in capitals": bytes_of(
        changed(archive(EVIL), b"w/data.pkl", b"W/DATA.PKL"), "would call os.system", "picklescan-769v"
    ),
    "another name in front of the member": bytes_of(
        changed(archive(EVIL), b"w/data.pkl", b"w/data.txt", 1), BROKEN, "picklescan-7q5r"
    ),
    "members that say they are encrypted": bytes_of(with_flags(1), BROKEN, "picklescan-w8jq"),
    "two tables of contents": bytes_of(two_lists(), "overlapping contents", "picklescan-7q5r"),
    "a member with a wrong checksum": bytes_of(
        changed(archive(EVIL), PAYLOAD.encode(), b"touch Pwned", 1), BROKEN, "picklescan-7q5r"
    ),
    "a member that is a link": bytes_of(linked_member(), BROKEN, "zip-slip"),
    "no pickle": bytes_of(changed(archive(state_dict()), b"data.pkl", b"data.txt"), BROKEN, "own"),
    "nothing but an end": bytes_of(b"PK\3\4" + bytes(30) + b"PK\5\6" + bytes(18), BROKEN, "own"),
    "a comment for an end": bytes_of(archive(state_dict())[:-1] + b"PK\5\6", BROKEN, "own"),
    # contents
    **{f"a tensor {name}": each for name, each in each_of(tensor_of_a_kind, tuple(KINDS)).items()},
    "numbers for names": bytes_of(
        archive(pickle.EMPTY_DICT + number(1) + tensor() + pickle.SETITEM),
        "under other keys than names",
        "own",
    ),
    "names with escapes": saved(
        lambda: {ESCAPES: __import__("torch").zeros(2, 4)}, r"\x1b[2J\x1b]0;pwned", "cwe-150"
    ),
    "keys with escapes": saved(lambda: {ESCAPES: 1}, r"but: \x1b[2J", "cwe-150"),
    "a long name": saved(lambda: {"w" * 2**20: __import__("torch").zeros(2, 4)}, "www…", "own"),
    "many names": saved(
        lambda: dict.fromkeys((f"weigh{n}" for n in range(3000)), __import__("torch").zeros(1)),
        "and 2992 more",
        "own",
    ),
    "floats of eight bits": saved(
        lambda: {"weight": __import__("torch").zeros(2, 4).to(__import__("torch").float8_e5m2)},
        "UntypedStorage",
        "own",
    ),
    "numbers that are none": saved(
        lambda: (
            dict.fromkeys(("weight",), __import__("torch").full((2, 4), float("nan")))
            | {"bias": __import__("torch").zeros(2)}
        ),
        "not numbers",
        "own",
    ),
    # what is no file of torch
    "nothing": bytes_of(b"", BROKEN),
    "zeros": bytes_of(bytes(4096), BROKEN),
    "a hole of a terabyte": laid(hole("w.pt"), BROKEN, "cwe-770"),
    "a page of a server": bytes_of(b"<!doctype html><title>404</title>", BROKEN),
    "a pointer of Git LFS": bytes_of(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", BROKEN),
    "a program": bytes_of(b"\x7fELF" + bytes(100), BROKEN),
    "safetensors under another name": bytes_of(b"\x02\0\0\0\0\0\0\0{}", BROKEN),
    "a folder": laid(lambda folder: (folder / "w.pt").mkdir(), "model.json cannot be read"),
    "a pipe": laid(pipe("w.pt"), "does not exist, or is no file", "cwe-67"),
    "a device": laid(link("w.pt", "/dev/zero"), "does not exist, or is no file", "cwe-67"),
    "a link to itself": laid(link("w.pt", "w.pt"), "does not exist, or is no file", "cwe-59"),
}
