"""Small ONNX files with known layers, built by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = 4
IMAGE = (1, 8, 8)


def save(
    path: Path, nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray], shape: tuple[int, ...]
) -> Path:
    """Write a graph from `x` (N, *shape) to `y`."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, path)
    return path


def parameters(seed: int = 0) -> dict[str, np.ndarray]:
    """Return the weights of a convolution to 4 channels and of a linear layer to 4 classes."""
    draw = np.random.default_rng(seed)
    return {
        "conv.weight": draw.normal(size=(4, 1, 3, 3)).astype(np.float32),
        "conv.bias": draw.normal(size=4).astype(np.float32),
        "fc.weight": draw.normal(size=(CLASSES, 4 * 8 * 8)).astype(np.float32),
    }


def float_classifier(path: Path, seed: int = 0) -> Path:
    """Write convolution, ReLU, flatten, linear: two layers, both in float."""
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight", "conv.bias"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Flatten", ["r"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "fc.weight"], ["y"], "fc", transB=1),
    ]
    return save(path, nodes, parameters(seed), IMAGE)


def pair(name: str, scale: str, zero: str) -> list[onnx.NodeProto]:
    """Return a quantize/dequantize pair from `name` to `name_dq`."""
    return [
        helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}_q"], f"{name}_quantize"),
        helper.make_node(
            "DequantizeLinear", [f"{name}_q", scale, zero], [f"{name}_dq"], f"{name}_dequantize"
        ),
    ]


def half_quantized_classifier(path: Path, zeros: float = 0.0) -> Path:
    """Write the same network with pairs around the convolution alone: one layer in integers, one in float.

    `zeros` is the share of the convolution's weights that is zero in each channel.
    """
    floats = parameters()
    floats["conv.weight"].reshape(4, -1)[:, : round(zeros * floats["conv.weight"][0].size)] = 0
    scale_O = np.abs(floats["conv.weight"]).max(axis=(1, 2, 3)) / 127
    tensors = {
        "x_scale": np.float32(0.05),
        "x_zero": np.uint8(128),
        "r_scale": np.float32(0.1),
        "r_zero": np.uint8(0),
        "w_q": np.round(floats["conv.weight"] / scale_O[:, None, None, None]).astype(np.int8),
        "w_scale": scale_O.astype(np.float32),
        "w_zero": np.zeros(4, np.int8),
        "b_q": np.round(floats["conv.bias"] / (0.05 * scale_O)).astype(np.int32),
        "b_scale": (0.05 * scale_O).astype(np.float32),
        "b_zero": np.zeros(4, np.int32),
        "fc.weight": floats["fc.weight"],
    }
    nodes = [
        *pair("x", "x_scale", "x_zero"),
        helper.make_node("DequantizeLinear", ["w_q", "w_scale", "w_zero"], ["w"], axis=0),
        helper.make_node("DequantizeLinear", ["b_q", "b_scale", "b_zero"], ["b"], axis=0),
        helper.make_node("Conv", ["x_dq", "w", "b"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        *pair("r", "r_scale", "r_zero"),
        helper.make_node("Flatten", ["r_dq"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "fc.weight"], ["y"], "fc", transB=1),
    ]
    return save(path, nodes, {name: np.asarray(value) for name, value in tensors.items()}, IMAGE)


def attention_scores(path: Path) -> Path:
    """Write a product of two activations, which is not a layer, behind a linear layer."""
    nodes = [
        helper.make_node("MatMul", ["x", "proj.weight"], ["p"], "proj"),
        helper.make_node("Transpose", ["p"], ["t"], "transpose", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["p", "t"], ["y"], "scores"),
    ]
    return save(path, nodes, {"proj.weight": np.ones((6, 6), np.float32)}, (3, 6))
