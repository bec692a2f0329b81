"""How many input channels an integer convolution needs to be as fast as the float one in ONNX Runtime.

    python tests/benchmarks/narrow_convolutions.py

Prints FP32 time over INT8 time (above 1: integers are faster) of one convolution with its quantize and
dequantize operators, batch 8, 28 px, one thread, both timed in turns.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mcomp.measure.latency import interleaved, speedup
from mcomp.measure.runtimes.onnx import OnnxSession

BATCH, PIXELS, ROUNDS = 8, 28, 20


def convolution(path: Path, channels: int, outputs: int, kernel: int, integers: bool) -> OnnxSession:
    """Write one convolution, with quantize and dequantize pairs around it or without, and open it."""
    weight_OIHW = np.random.default_rng(0).integers(-127, 128, (outputs, channels, kernel, kernel))
    tensors = {"s": np.float32(0.05), "z": np.uint8(128), "w": weight_OIHW.astype(np.float32) / 100}
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[kernel // 2] * 4)]
    if integers:
        tensors |= {"w": weight_OIHW.astype(np.int8), "ws": np.full(outputs, 0.01, np.float32)}
        tensors["wz"] = np.zeros(outputs, np.int8)
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
            helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
            helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
            helper.make_node("Conv", ["xd", "wd"], ["c"], pads=[kernel // 2] * 4),
            helper.make_node("QuantizeLinear", ["c", "s", "z"], ["cq"]),
            helper.make_node("DequantizeLinear", ["cq", "s", "z"], ["y"]),
        ]
    shape = [BATCH, channels, PIXELS, PIXELS]
    graph = helper.make_graph(
        nodes,
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [BATCH, outputs, PIXELS, PIXELS])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, path)
    return OnnxSession(path)


def main() -> None:
    """Print a line for each kernel and number of input channels."""
    print("kernel  channels  FP32/INT8 with 6 outputs  with 32 outputs")
    with tempfile.TemporaryDirectory() as folder:
        for kernel in (3, 5):
            for channels in (1, 2, 3, 4, 8, 16):
                ratios = [ratio(Path(folder), channels, outputs, kernel) for outputs in (6, 32)]
                print(f"{kernel:6}  {channels:8}  {ratios[0]:24.2f}  {ratios[1]:15.2f}")


def ratio(folder: Path, channels: int, outputs: int, kernel: int) -> float:
    """Return FP32 time over INT8 time of one shape."""
    files = {"float": False, "integers": True}
    sessions = {
        name: convolution(folder / f"{name}.onnx", channels, outputs, kernel, integers)
        for name, integers in files.items()
    }
    inputs = np.random.default_rng(1).normal(size=(BATCH, channels, PIXELS, PIXELS)).astype(np.float32)
    turns = interleaved(sessions, {"x": inputs}, ROUNDS)
    return speedup(turns["float"], turns["integers"])


if __name__ == "__main__":
    main()
