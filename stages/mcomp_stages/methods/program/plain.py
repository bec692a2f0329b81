"""The operators of `mcomp`, written out in those of torch: what is saved so needs torch alone to run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.fx import Graph, GraphModule, Node

from mcomp.model.graph import rewrite
from mcomp_stages.methods.half.operators import conv_half
from mcomp_stages.methods.quantization import dynamic, operators
from mcomp_stages.methods.quantization.weights import operators as weight_operators

OPERATORS: tuple[Any, ...] = (
    operators.quantize_linear,
    operators.dequantize_linear,
    operators.global_average_pool,
    dynamic.dynamic_quantize_linear,
    dynamic.matmul_integer,
    weight_operators.unpack_rows,
    weight_operators.matmul_nbits,
    conv_half,
)

# By the operator in a graph: the function behind it, which torch.export traces through. torch has no public
# way from one to the other.
PLAIN: dict[Any, Callable[..., Any]] = {each._opoverload: each._init_fn for each in OPERATORS}


def written_out(graph_module: GraphModule) -> GraphModule:
    """Return a copy of a graph without operators of `mcomp`; it shares the tensors."""
    plain = copied(graph_module)
    rewrite(plain, write_out)
    plain.eval()
    return plain


def copied(graph_module: GraphModule) -> GraphModule:
    """Return a copy of a graph, which shares the tensors; its one output is no tuple."""
    graph = Graph()
    output = graph.graph_copy(graph_module.graph, {})
    graph.output(output[0] if isinstance(output, tuple) and len(output) == 1 else output)
    return GraphModule(graph_module, graph)


def write_out(node: Node) -> None:
    """Let a node call the function behind its operator."""
    node.target = PLAIN.get(node.target, node.target)
