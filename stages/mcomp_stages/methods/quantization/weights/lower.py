# N = outputs of a linear, K = its inputs, G = groups of columns in a row, B = bytes of a group
"""From a captured graph to one that reads weights in few bits, as the runtime will serve it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import getitem
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.nn import functional

import mcomp_stages.methods.quantization.dynamic
import mcomp_stages.methods.quantization.weights.operators  # noqa: F401  both register torch.ops.mcomp
from mcomp.model.edits import State
from mcomp.model.graph import attribute
from mcomp.model.model import Model
from mcomp_stages.methods.quantization.canonical import lower_pooling, remove_dropout, replace
from mcomp_stages.methods.quantization.layers import buffer
from mcomp_stages.methods.quantization.training_graph import canonical_graph
from mcomp_stages.methods.quantization.weights.edit import tensors_of
from mcomp_stages.methods.quantization.weights.grid import Width
from mcomp_stages.methods.quantization.weights.pack import packed, unpacked
from mcomp_stages.methods.quantization.weights.products import is_product, operands
from mcomp_stages.methods.quantization.weights.record import StoredWeight, Unpack

aten, mcomp = torch.ops.aten, torch.ops.mcomp


@dataclass(frozen=True)
class Stored:
    """One weight: its parameter's name, how it is kept, and its tensors."""

    name: str
    record: StoredWeight
    tensors: State

    @property
    def num_columns(self) -> int:
        return self.record.columns

    def codes(self) -> Tensor:
        """Return the codes (N, K), uint8."""
        return unpacked(self.tensors["codes"], self.record.bits, self.num_columns)


@dataclass
class Lowering:
    """A graph on its way. What several layers need of one input is made once: `scaled`, `rounded`."""

    graph_module: GraphModule
    scaled: dict[tuple[Node, bytes], Node] = field(default_factory=dict)
    rounded: dict[Node, tuple[Node, ...]] = field(default_factory=dict)

    def call(self, target: Callable[..., Any], *args: Any) -> Node:
        return self.graph_module.graph.call_function(target, args)

    def buffer(self, stored: Stored, part: str, value: Tensor | None = None) -> Node:
        """Return a node that reads one tensor of a weight: as it is kept, or in the form `value`."""
        return buffer(
            self.graph_module,
            f"{stored.name}_{part}",
            stored.tensors[part] if value is None else value,
        )

    def rows(self, stored: Stored, codes: Node, scale: Node, zero: Node | None) -> Node:
        """Return the numbers of some rows."""
        record = stored.record
        return self.call(
            mcomp.unpack_rows.default, codes, scale, zero, record.bits, record.group_size, stored.num_columns
        )

    def kept(self, stored: Stored) -> tuple[Node, Node, Node | None]:
        """Return the nodes of the codes, the scales and the zeros."""
        zero = None if stored.record.symmetric else self.buffer(stored, "zero")
        return self.buffer(stored, "codes"), self.buffer(stored, "scale"), zero

    def scaled_input(self, stored: Stored, x: Node) -> Node:
        """Return the input of a layer, multiplied by what its weight asks for."""
        if not stored.record.scaled_inputs:
            return x
        gain = stored.tensors["gain"]
        key = x, gain.numpy().tobytes()
        if key not in self.scaled:
            self.scaled[key] = self.call(aten.mul.Tensor, x, self.buffer(stored, "gain"))
        return self.scaled[key]


def lowered(model: Model, weights: Mapping[str, StoredWeight], example: Mapping[str, Tensor]) -> GraphModule:
    """Return the captured graph of a model with its stored weights in their codes, in inference mode.

    Raises StageError if the model cannot be captured.
    """
    captured = canonical_graph(model.module, example)
    graph = captured.graph
    remove_dropout(graph)
    lowering = Lowering(captured)
    names = {id(parameter): name for name, parameter in model.module.named_parameters()}
    for node in list(graph.find_nodes(op="get_attr")):
        name = names.get(id(attribute(captured, str(node.target))), "")
        if name in weights:
            lower_weight(lowering, node, Stored(name, weights[name], tensors_of(model.state, name)))
    lower_pooling(graph)
    graph.eliminate_dead_code()
    graph.lint()
    served = GraphModule(captured, graph)  # anew: it holds only what the graph still reads
    served.eval()
    return served


def lower_weight(lowering: Lowering, node: Node, stored: Stored) -> None:
    """Let everything that reads a weight read its codes."""
    for user in list(node.users):
        with node.graph.inserting_before(user):
            if user.target is aten.embedding.default:
                replace(user, looked_up(lowering, user, stored))
            elif is_product(user, node):
                LINEARS[stored.record.unpack](lowering, user, node, stored)
            else:
                read_numbers(lowering, user, node, stored)


def looked_up(lowering: Lowering, node: Node, stored: Stored) -> Node:
    """Return the numbers of the rows that an embedding picks; the others stay packed."""
    picked = [
        None if part is None else lowering.call(aten.embedding.default, part, node.args[1])
        for part in lowering.kept(stored)
    ]
    codes, scale, zero = picked
    assert codes is not None
    assert scale is not None
    return lowering.rows(stored, codes, scale, zero)


def read_numbers(lowering: Lowering, node: Node, weight: Node, stored: Stored) -> None:
    """Let a layer read the numbers of its weight, which the runtime computes when it loads the file."""
    rows = lowering.rows(stored, *lowering.kept(stored))
    if stored.record.scaled_inputs:
        rows = lowering.call(aten.mul.Tensor, rows, lowering.buffer(stored, "gain"))
    if stored.record.transposed:
        numbers = lowering.call(aten.transpose.int, rows, 0, 1)
    else:
        numbers = lowering.call(aten.view.default, rows, list(stored.record.shape))
    node.replace_input_with(weight, numbers)


def product_of_codes(lowering: Lowering, node: Node, weight: Node, stored: Stored) -> None:
    """Replace a linear by the product that unpacks its weight on the way."""
    record = stored.record
    source, bias = operands(node)
    x = lowering.scaled_input(stored, source)
    zero = None if record.symmetric else lowering.buffer(stored, "zero")
    packed_rows = (
        lowering.buffer(stored, "groups", whole_groups(stored)),
        lowering.buffer(stored, "scale"),
        zero,
    )
    result = lowering.call(mcomp.matmul_nbits.default, x, *packed_rows, record.bits, stored.num_columns)
    replace(node, with_bias(lowering, result, bias))


def whole_groups(stored: Stored) -> Tensor:
    """Return the codes as bytes (N, G, B); the last group is filled up with codes for zero."""
    record, codes = stored.record, stored.codes()
    missing = -stored.num_columns % record.group_size
    filled = functional.pad(codes, (0, missing))
    if missing and record.symmetric:
        filled[:, -missing:] = Width(record.bits).middle
    elif missing:
        zeros = unpacked(stored.tensors["zero"], record.bits, filled.shape[1] // record.group_size)
        filled[:, -missing:] = zeros[:, -1:]
    return packed(filled, record.bits).reshape(len(codes), filled.shape[1] // record.group_size, -1)


def product_of_integers(lowering: Lowering, node: Node, weight: Node, stored: Stored) -> None:
    """Replace a linear by a product of integers; its input is rounded to 8 bits as it comes."""
    source, bias = operands(node)
    x = lowering.scaled_input(stored, source)
    if x not in lowering.rounded:
        rounding = lowering.call(mcomp.dynamic_quantize_linear.default, x)
        lowering.rounded[x] = tuple(lowering.call(getitem, rounding, place) for place in range(3))
    integers, scale, zero_point = lowering.rounded[x]
    steps_KN = (stored.codes().short() - Width(stored.record.bits).middle).to(torch.int8).mT.contiguous()
    sums = lowering.call(
        mcomp.matmul_integer.default, integers, lowering.buffer(stored, "steps", steps_KN), zero_point
    )
    scale_N = lowering.buffer(stored, "scale", stored.tensors["scale"].float().squeeze(1))
    both = lowering.call(aten.mul.Tensor, scale, scale_N)
    floats = lowering.call(aten.to.dtype, sums, torch.float32)
    replace(node, with_bias(lowering, lowering.call(aten.mul.Tensor, floats, both), bias))


def with_bias(lowering: Lowering, result: Node, bias: Any) -> Node:
    """Return a product plus the bias of the linear that it stands for, if it has one."""
    return result if bias is None else lowering.call(aten.add.Tensor, result, bias)


LINEARS: dict[Unpack, Callable[[Lowering, Node, Node, Stored], None]] = {
    "load": read_numbers,
    "product": product_of_codes,
    "integers": product_of_integers,
}
