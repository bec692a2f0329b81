"""The captured graph both engines stand on: `torch.export` of the model, parameter names unchanged.

A captured graph shares its parameters and buffers with the module it was captured from: training the
graph trains the module. Graphs are made on demand and never stored; one process captures a structure once
(`mcomp.model.recapture`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from mcomp.model.example import dynamic_shapes
from mcomp.model.partial_graphs import without_partial_graphs
from mcomp.model.recapture import Captures, Kept, dependencies
from mcomp.model.uncapturable import refusal

CAPTURES = Captures()

# Operations whose behaviour in training is an argument of the call: its position in the schema.
TRAINING_ARGUMENT: dict[Any, int] = {
    torch.ops.aten.batch_norm.default: 5,
    torch.ops.aten.dropout.default: 2,
    torch.ops.aten.dropout_.default: 2,
    torch.ops.aten.feature_dropout.default: 2,
    torch.ops.aten.instance_norm.default: 5,
}


def capture(module: nn.Module, example: Mapping[str, Tensor], *, dynamic_batch: bool = True) -> GraphModule:
    """Capture `module` in inference mode as one graph of ATen calls.

    `example` maps input names to tensors whose first axis is the batch (at least 2, or torch.export
    takes the size for a constant). With `dynamic_batch` the graph accepts any batch size, and any size
    of the other axes that vary in an `Example`; without, only those of the example.
    Raises StageError with the line of the model's code that cannot be captured, and what can be done.
    """
    name = dependencies(module, example)
    if name is None:
        return captured_anew(module, example, dynamic_batch)
    kept = CAPTURES.find((name, dynamic_batch))
    if kept is None:
        kept = Kept.of(captured_anew(module, example, dynamic_batch), module)
        CAPTURES.keep((name, dynamic_batch), kept)
    return kept.on(module)


def captured_anew(module: nn.Module, example: Mapping[str, Tensor], dynamic_batch: bool) -> GraphModule:
    """Do what `capture` does, by torch.export."""
    shapes = dynamic_shapes(example) if dynamic_batch else None
    was_training = {path: part.training for path, part in module.named_modules()}
    module.eval()
    try:
        with without_partial_graphs():
            program = torch.export.export(module, (), dict(example), dynamic_shapes=shapes, strict=False)
    except Exception as error:  # torch.export raises whatever the model's own code raises
        raise refusal(module, error) from error
    finally:
        for path, part in module.named_modules():
            part.training = was_training[path]
    graph_module = program.module()
    assert isinstance(graph_module, GraphModule)
    remove_guards(graph_module)
    graph_module.graph.eliminate_dead_code()
    graph_module.recompile()
    return graph_module


def remove_guards(graph_module: GraphModule) -> None:
    """Drop the input checks that torch.export adds: stages feed batches of the provider, checked there."""
    for node in list(graph_module.graph.nodes):
        if node.op == "call_module" and node.target == "_guards_fn":
            graph_module.graph.erase_node(node)


def set_training(graph_module: GraphModule, training: bool) -> None:
    """Switch dropout and batch norm between training and inference, in place.

    This is the only place where a captured graph changes mode; its own `train()` is disabled by torch.
    """
    for node in graph_module.graph.nodes:
        position = TRAINING_ARGUMENT.get(node.target)
        if position is not None:
            node.update_arg(position, training)
    graph_module.recompile()


def module_path(node: Node) -> str:
    """Return the path of the module whose forward made this call (`layer1.0.conv1`); "" is the root."""
    stack = node.meta.get("nn_module_stack")
    return str(list(stack.values())[-1][0]) if stack else ""


def attribute(graph_module: nn.Module, target: str) -> Any:
    """Return the parameter, buffer or module at a dotted path."""
    for part in target.split("."):
        graph_module = getattr(graph_module, part)
    return graph_module


def rewrite(graph_module: GraphModule, change: Callable[[Node], None]) -> None:
    """Call `change` on every node of a snapshot of the graph, then recompile it."""
    for node in list(graph_module.graph.nodes):
        change(node)
    graph_module.graph.lint()
    graph_module.recompile()
