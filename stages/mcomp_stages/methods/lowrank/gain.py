"""Whether a layer is really faster at its ranks: it alone and its thin layers, in ONNX Runtime.

A thin layer moves as much memory as it saves multiply-adds, so a layer of fewer may well be slower.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from mcomp.measure.latency import interleaved, speedup
from mcomp.measure.runtimes.onnx import OnnxSession
from mcomp.stage import Context
from mcomp_stages.methods.lowrank.candidates import Candidate
from mcomp_stages.methods.lowrank.ranks import Ranks
from mcomp_stages.methods.lowrank.thin import Layer, thin_layers

OPSET, IR_VERSION = 21, 10
ROUNDS = 9


def speedup_of(context: Context) -> Callable[[Candidate, Ranks], float]:
    """Return a function that times layers, those of one shape and rank once; times are kept."""
    known: dict[Hashable, float] = {}

    def speedup(each: Candidate, ranks: Ranks) -> float:
        shape = (1, *each.seen.input_shape[1:])
        kind = (str(each.layer), shape, ranks)
        if kind not in known:
            measure = partial(measured_speedup, each.layer, ranks, shape, context.folder)
            known[kind] = context.figure(f"speedup-{len(known)}", measure)
        return known[kind]

    return speedup


def measured_speedup(layer: Layer, ranks: Sequence[int], input_shape: Sequence[int], folder: Path) -> float:
    """Return how many times faster thin layers are than `layer`, at one thread."""
    variants: dict[str, list[nn.Module]] = {
        "whole": [layer],
        "thin": list(thin_layers(layer, ranks).children()),
    }
    sessions = {}
    for name, parts in variants.items():
        path = folder / f"{name}.onnx"
        onnx.save_model(sequence_file(parts, input_shape), path)
        sessions[name] = OnnxSession(path)
    inputs = {"x0": np.random.default_rng(0).standard_normal(input_shape, dtype=np.float32)}
    turns = interleaved(sessions, inputs, ROUNDS)
    return speedup(turns["whole"], turns["thin"])


def sequence_file(layers: Iterable[nn.Module], input_shape: Sequence[int]) -> onnx.ModelProto:
    """Return linears and convolutions one after the other as an ONNX model of one input `x0`."""
    nodes, weights = [], []
    value = "x0"
    for number, layer in enumerate(layers, start=1):
        weight = layer.get_parameter("weight").detach().cpu().numpy()
        if isinstance(layer, nn.Conv2d):
            operator, attributes = "Conv", window_of(layer)
        else:
            operator, attributes, weight = "MatMul", {}, weight.T.copy()
        weights.append(numpy_helper.from_array(weight, f"w{number}"))
        nodes.append(helper.make_node(operator, [value, f"w{number}"], [f"x{number}"], **attributes))
        value = f"x{number}"
    shapes = [helper.make_tensor_value_info("x0", TensorProto.FLOAT, list(input_shape))]
    outputs = [helper.make_tensor_value_info(value, TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "layer", shapes, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def window_of(layer: nn.Conv2d) -> dict[str, Any]:
    """Return the attributes of a Conv operator. Every padding is one with zeros: it takes the same time."""
    window = {
        "kernel_shape": list(layer.kernel_size),
        "strides": list(layer.stride),
        "dilations": list(layer.dilation),
        "group": layer.groups,
    }
    if isinstance(layer.padding, str):
        return {**window, "auto_pad": {"same": "SAME_UPPER", "valid": "VALID"}[layer.padding]}
    return {**window, "pads": [*layer.padding, *layer.padding]}
