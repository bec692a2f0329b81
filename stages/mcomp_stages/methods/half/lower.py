"""From a captured graph to one whose weights, or whose arithmetic too, are of 16 bits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

import mcomp_stages.methods.quantization.operators  # noqa: F401  registers torch.ops.mcomp
from mcomp.model.graph import attribute, module_path
from mcomp.model.model import Model
from mcomp_stages.methods.half.edit import HalfWeights, torch_type
from mcomp_stages.methods.half.operators import lower_convolutions
from mcomp_stages.methods.quantization.canonical import lower_pooling, remove_dropout
from mcomp_stages.methods.quantization.layers import buffer
from mcomp_stages.methods.quantization.training_graph import canonical_graph

aten = torch.ops.aten

# Operators of torch, by the beginning of their names, that stay in float: their sums have many terms, their
# values a range beyond 16 bits, or their constants (the masks of attention).
FLOAT_OPERATORS = (
    "softmax", "log_softmax", "_softmax", "scaled_dot_product_attention",
    "batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm",
    "mean", "sum", "var", "std", "norm", "cumsum", "exp", "log", "pow", "rsqrt",
)  # fmt: skip


def everywhere(node: Node) -> bool:
    """Whether a call may compute in 16 bits: any may."""
    return True


def lowered(
    model: Model,
    edit: HalfWeights,
    example: Mapping[str, Tensor],
    where: Callable[[Node], bool] = everywhere,
) -> GraphModule:
    """Return the captured graph of a model in inference mode, with weights in 16 bits, and activations too if
    the edit says so, of the calls that `where` accepts. Inputs and outputs stay float32. Raises StageError if
    the model cannot be captured.
    """
    captured = canonical_graph(model.module, example)
    graph = captured.graph
    remove_dropout(graph)
    computes = set(filter(where, half_nodes(graph, edit.keep_float))) if edit.activations else set()
    lowering = Lowering(captured, torch_type(edit.dtype), computes)
    lowering.store(model, edit.weights)
    for node in list(graph.nodes):
        lowering.convert_inputs(node)
    lower_pooling(graph)
    lower_convolutions(graph, computes)
    graph.eliminate_dead_code()
    graph.lint()
    served = GraphModule(captured, graph)  # anew: it holds only what the graph still reads
    served.eval()
    return served


@dataclass
class Lowering:
    """A graph on its way: `computes` are the calls in 16 bits, `narrow` the values that come in 16 bits."""

    graph_module: GraphModule
    dtype: torch.dtype
    computes: Collection[Node]
    narrow: set[Node] = field(default_factory=set)
    made: dict[tuple[Node, torch.dtype], Node] = field(default_factory=dict)

    def store(self, model: Model, weights: Collection[str]) -> None:
        """Let everything that reads one of these weights read it in 16 bits."""
        names = {id(parameter): name for name, parameter in model.module.named_parameters()}
        for node in list(self.graph_module.graph.find_nodes(op="get_attr")):
            name = names.get(id(attribute(self.graph_module, str(node.target))), "")
            if name in weights:
                half = model.state[f"half.{name}"]
                with self.graph_module.graph.inserting_after(node):
                    stored = buffer(self.graph_module, f"{name}_half", half)
                stored.meta = {**node.meta, "val": half}
                node.replace_all_uses_with(stored)
                self.narrow.add(stored)

    def convert_inputs(self, node: Node) -> None:
        """Give a call its inputs in the type that it computes in; an embedding looks up what there is."""
        is_half = node in self.computes
        if node.target is aten.embedding.default and node.args[0] in self.narrow:
            is_half = True
        elif node.op in ("call_function", "output"):
            for source in node.all_input_nodes:
                if is_float(source) and (source in self.narrow) != is_half:
                    node.replace_input_with(source, self.converted(source, is_half))
        if is_half:
            self.narrow.add(node)

    def converted(self, source: Node, to_half: bool) -> Node:
        """Return a value in the other type; each conversion stands in the graph once."""
        dtype = self.dtype if to_half else torch.float32
        if (source, dtype) not in self.made:
            with self.graph_module.graph.inserting_after(source):
                made = self.graph_module.graph.call_function(aten.to.dtype, (source, dtype))
            made.meta = dict(source.meta)
            self.made[source, dtype] = made
        return self.made[source, dtype]


def half_nodes(graph: Graph, keep_float: Collection[str]) -> set[Node]:
    """Return the calls that compute in 16 bits; those in the modules `keep_float` do not."""
    return {
        node
        for node in graph.nodes
        if node.op == "call_function"
        and is_float(node)
        and any(is_float(source) for source in node.all_input_nodes)
        and not stays_float(node, keep_float)
    }


def stays_float(node: Node, keep_float: Collection[str]) -> bool:
    """Whether a call stays in float: by what it is, by a type that it names, or by the module it is in."""
    name = getattr(node.target, "__name__", "").partition(".")[0].rstrip("_")
    says_type = any(isinstance(value, torch.dtype) for value in (*node.args, *node.kwargs.values()))
    path = module_path(node)
    inside = any(path == kept or path.startswith(f"{kept}.") for kept in keep_float)
    return name in FLOAT_OPERATORS or says_type or inside


def is_float(node: Node) -> bool:
    """Whether a value is a float tensor."""
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_floating_point()
