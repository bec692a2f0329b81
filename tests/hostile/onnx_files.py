"""Exported files that lead ONNX Runtime out of their folder, or lie about what they hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from tests.hostile.attack import Attack, Prepare, both, files, link, pipe
from tests.hostile.pickles import ESCAPES

OUTSIDE = "../../../outside/secret.bin"  # from the folder of the file, which lies three below
FLOAT = TensorProto.FLOAT
REFUSED = "ONNX Runtime cannot load model.onnx"
ONES = np.ones((1, 4), np.float32)


def weight(location: str | None = None, dims: Sequence[int] = (2, 4), **more: str) -> Any:
    """Return a weight of zeros; with a location, one that lies in another file."""
    tensor = TensorProto(name="w", data_type=FLOAT, dims=dims)
    if location is None:
        tensor.raw_data = bytes(32)
        return tensor
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def model(
    tensor: Any = None, nodes: Sequence[Any] = (), input_name: str = "x", opset: int = 21, ir: int = 10
) -> bytes:
    """Return a file that multiplies its input by a weight."""
    nodes = nodes or [helper.make_node("Gemm", [input_name, "w"], ["y"], transB=1)]
    inputs = [helper.make_tensor_value_info(input_name, FLOAT, ["batch", 4])]
    outputs = [helper.make_tensor_value_info("y", FLOAT, ["batch", 2])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [weight() if tensor is None else tensor])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    return bytes(made.SerializeToString())


def run(folder: Path) -> None:
    """Load the file in its runtime and run it."""
    from mcomp.measure.runtimes.onnx import OnnxSession

    OnnxSession(folder / "files" / "model.onnx").run({"x": ONES})


def count(folder: Path) -> None:
    """Count its operators."""
    from mcomp.measure.census import census

    census(folder / "files" / "model.onnx", folder)


def compare(folder: Path) -> None:
    """Compare it with the model that it should be."""
    import torch

    from mcomp.measure.parity import compare
    from mcomp.measure.runtimes.onnx import OnnxSession

    class Halves(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :2]

    compare(OnnxSession(folder / "files" / "model.onnx"), Halves(), [{"x": torch.ones(1, 4)}])


def laid(
    prepare: Prepare,
    told: str = REFUSED,
    source: str = "own",
    act: Callable[[Path], object] = run,
    writes: bool = False,
) -> Attack:
    """Return an attack by what lies in a folder of exported files."""
    made = both(lambda folder: (folder / "files").mkdir(), prepare)
    return Attack(source, made, act, told, 5, "StageError", writes)


def file(
    content: bytes, told: str = REFUSED, source: str = "own", act: Callable[[Path], object] = run
) -> Attack:
    """Return an attack by the bytes of a file."""
    return laid(files({"files/model.onnx": content}), told, source, act)


def external(location: str, source: str, beside: Prepare = lambda folder: None, **more: str) -> Attack:
    """Return an attack by a weight that lies in another file."""
    written = files({"files/model.onnx": model(weight(location, **more)), "files/w.bin": bytes(64)})
    return laid(both(written, beside), source=source)


def absolute(folder: Path) -> None:
    """Write a file whose weight lies outside under an absolute name."""
    outside = str(folder.parents[1] / "outside" / "secret.bin")
    (folder / "files" / "model.onnx").write_bytes(model(weight(outside)))


def wire(field: int, content: bytes) -> bytes:
    """Return a field of a message as it is written: its number, its length and its bytes."""
    length, digits = len(content), bytearray()
    while length > 127:
        digits.append(length & 127 | 128)
        length >>= 7
    return bytes([field << 3 | 2, *digits, length]) + content


def nested(times: int) -> bytes:
    """Return a file with graphs in graphs, deeper than any library would write them."""
    node = helper.make_node("Identity", ["x"], ["y"]).SerializeToString()
    for _ in range(times):
        attribute = wire(1, b"body") + wire(6, wire(1, node)) + b"\xa0\x01\x05"
        node = wire(4, b"Loop") + wire(5, attribute)
    return wire(7, wire(1, node)) + b"\x08\x0a"


def constant(values: Mapping[str, Any]) -> bytes:
    """Return a file whose output is a constant."""
    tensor = helper.make_tensor("v", FLOAT, [1, 2], [values["value"]] * 2)
    nodes = [
        helper.make_node("Constant", [], ["c"], value=tensor),
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=1),
        helper.make_node("Add", ["c", "s"], ["y"]),
    ]
    return model(nodes=nodes)


ATTACKS: dict[str, Attack] = {
    # external data
    "weights above": external(OUTSIDE, "cve-2022-25882"),
    "weights above, by a detour": external(f"./w/../{OUTSIDE}", "cve-2024-27318"),
    "weights under an absolute name": laid(absolute, source="cve-2022-25882"),
    "weights of the machine": external("/etc/passwd", "ort-26776"),
    "weights behind a link": external("l", "cve-2026-27489", link("files/l", OUTSIDE)),
    "weights behind a linked folder": external(
        "l/secret.bin", "cve-2026-27489", link("files/l", "../../../outside")
    ),
    "weights on a device": external("l", "cve-2026-27489", link("files/l", "/dev/zero")),
    "weights under the name of a device": external("/dev/zero", "cwe-67"),
    "weights in a pipe": external("l", "cwe-67", pipe("files/l")),
    "weights in a folder": external("l", "own", lambda folder: (folder / "files" / "l").mkdir()),
    "weights that are not there": external("gone.bin", "own"),
    "weights without a name": external("", "own"),
    "weights in the memory of the process": external(
        "*/_ORT_MEM_ADDR_/*", "ort-26776", offset="4096", length="32"
    ),
    "weights in its memory, in its order": external(
        "*/_ORT_NATIVE_ENDIAN_MEM_ADDR_/*", "ort-26776", offset="4096", length="32"
    ),
    "weights behind the end": external("w.bin", "own", offset="60"),
    "weights before the start": external("w.bin", "own", offset="-8"),
    "weights far behind the end": external("w.bin", "cwe-770", offset=str(2**63)),
    "weights of a terabyte": external("w.bin", "cwe-770", length=str(2**40)),
    "weights of no length": external("w.bin", "own", length="x"),
    "weights with a key of Python": external("w.bin", "cve-2026-34445", __class__="x"),
    "weights above, counted": laid(
        files({"files/model.onnx": model(weight(OUTSIDE))}), source="cve-2022-25882", act=count, writes=True
    ),
    "weights above, compared": file(model(weight(OUTSIDE)), source="cve-2022-25882", act=compare),
    # what it says of itself
    "nothing": file(b"", "ONNX Runtime cannot"),
    "a pickle": file(b"\x80\x02cos\nsystem\n(S'touch pwned'\ntR."),
    "half of a file": file(model()[:-20]),
    "a weight larger than its numbers": file(model(weight(dims=(2, 400))), source="cwe-770"),
    "a weight of a quintillion": file(model(weight(dims=(2**30, 2**30))), source="cwe-770"),
    "a weight of negative size": file(model(weight(dims=(-2, -4)))),
    "an operator of its own": file(model(nodes=[helper.make_node("Evil", ["x"], ["y"], domain="evil")])),
    "an operator that does not exist": file(model(nodes=[helper.make_node("System", ["x"], ["y"])])),
    "operators of the future": file(model(opset=999)),
    "a format of the future": file(model(ir=999)),
    "a circle": file(model(nodes=[helper.make_node("Add", ["x", "y"], ["y"])])),
    "graphs in graphs": file(nested(5000), source="cwe-674"),
    "an input with escapes": file(model(input_name=ESCAPES), r"takes \x1b[2J\x1b]0;pwned\x07", "cwe-150"),
    "an operator with escapes": file(
        model(nodes=[helper.make_node(ESCAPES, ["x"], ["y"])]), r"\x1b[2J", "cwe-150"
    ),
    # what it computes
    "values that are none": file(
        constant({"value": float("nan")}), "values that are not finite", act=compare
    ),
    "another shape": file(
        model(nodes=[helper.make_node("Identity", ["x"], ["y"])]), "gives shape (1, 4)", act=compare
    ),
    # what is no file
    "a folder": laid(lambda folder: (folder / "files" / "model.onnx").mkdir(), "no such file"),
    "a pipe in its place": laid(pipe("files/model.onnx"), "no such file", "cwe-67"),
    "a device in its place": laid(link("files/model.onnx", "/dev/zero"), "no such file", "cwe-67"),
}
