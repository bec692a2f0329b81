"""What stands around binary layers in a captured graph: signs, shortcuts, RPReLU.

Source: Bi-Real Net, Liu et al. 2018, arXiv:1808.00278, section 3.1 (a shortcut around each layer).
Differs: a layer whose result is added to something in the model has its shortcut there; where channels double
and pixels halve, the input is averaged over 2x2 pixels and repeated, without a convolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from mcomp.errors import StageError
from mcomp.model.graph import module_path
from mcomp_stages.methods.quantization.binary.around import ShiftedPReLU, SignInput
from mcomp_stages.methods.quantization.binary.record import BinaryLayer, Shortcut
from mcomp_stages.methods.quantization.kinds import ACTIVATIONS, JOINTS, LAYERS
from mcomp_stages.methods.quantization.placement import follower, norm_of

aten = torch.ops.aten


@dataclass(frozen=True)
class Surroundings:
    """A layer in a graph: its input, its end (behind its norm), whether that is added, its activation."""

    layer: Node
    source: Node
    end: Node
    is_added: bool
    activation: Node | None

    @classmethod
    def of(cls, layer: Node) -> Surroundings:
        """Find what stands around a layer; quantizers are stepped over."""
        source, end = layer.args[0], norm_of(layer) or layer
        assert isinstance(source, Node)
        value = over_quantizer(end)
        added = next((user for user in value.users if JOINTS.get(user.target) == "addition"), None)
        last = value if added is None else over_quantizer(added)
        return cls(layer, source, end, added is not None, follower(last, ACTIVATIONS))

    def shortcut(self) -> Shortcut:
        """Return which shortcut fits around the layer."""
        if self.is_added:
            return "none"
        before, after = (tuple(node.meta["val"].shape[1:]) for node in (self.source, self.end))
        if before == after:
            return "same"
        halved = len(before) == 3 and after[1:] == tuple(-(-side // 2) for side in before[1:])
        return "pooled" if halved and after[0] % before[0] == 0 else "none"


def over_quantizer(node: Node) -> Node:
    """Return the quantizer behind a value, or the value itself if there is none."""
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].op == "call_module" else node


def layers_at(graph_module: GraphModule, path: str) -> list[Node]:
    """Return the calls of the layer at a module path. Raises StageError if there is none."""
    found = [node for node in graph_module.graph.nodes if node.target in LAYERS and module_path(node) == path]
    if not found:
        raise StageError("this layer was binary when the model was saved, and is not there", module=path)
    return found


def rewire(
    graph_module: GraphModule, layers: Mapping[str, BinaryLayer], tensors: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Put signs, shortcuts and RPReLU around the layers of a graph, in place.

    `tensors` are by site: `<path>#sign` and `<path>#rprelu`.
    """
    for path, record in layers.items():
        for layer in layers_at(graph_module, path):
            around = Surroundings.of(layer)
            if record.rprelu is not None and around.activation is not None:
                bend(graph_module, around.activation, f"{path}#rprelu", tensors)
            if record.shortcut != "none":
                add_shortcut(graph_module, around, record.shortcut)
            if record.signs is not None:
                take_signs(graph_module, around, f"{path}#sign", tensors)
    graph_module.graph.lint()


def called(graph_module: GraphModule, site: str, module: torch.nn.Module, value: Node) -> Node:
    """Register a module for a site and return a call of it with a value, where the graph inserts now."""
    target = f"quantizers.{site.replace('.', '/')}"
    if target not in dict(graph_module.named_modules()):
        graph_module.add_submodule(target, module)
    call = graph_module.graph.call_module(target, (value,))
    call.meta = {**value.meta, "site": site}
    return call


def take_signs(
    graph_module: GraphModule, around: Surroundings, site: str, tensors: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Let a layer read the signs of its input."""
    with graph_module.graph.inserting_before(around.layer):
        around.layer.update_arg(0, called(graph_module, site, SignInput(tensors[site]), around.source))


def bend(
    graph_module: GraphModule, activation: Node, site: str, tensors: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Put an RPReLU in the place of an activation."""
    source = activation.args[0]
    assert isinstance(source, Node)
    with graph_module.graph.inserting_before(activation):
        call = called(graph_module, site, ShiftedPReLU(tensors[site]), source)
    activation.replace_all_uses_with(call)
    graph_module.graph.erase_node(activation)


def add_shortcut(graph_module: GraphModule, around: Surroundings, kind: Shortcut) -> None:
    """Add the input of a layer to its result, behind the norm."""
    graph, end = graph_module.graph, around.end
    with graph.inserting_after(end):
        total = graph.call_function(aten.add.Tensor, (end, end))
    total.meta = {name: each for name, each in end.meta.items() if name != "site"}
    with graph.inserting_before(total):
        other = around.source
        if kind == "pooled":
            times = end.meta["val"].shape[1] // around.source.meta["val"].shape[1]
            other = graph.call_function(aten.avg_pool2d.default, (other, [2, 2], [2, 2], [0, 0], True, False))
            if times > 1:
                other = graph.call_function(aten.cat.default, ([other] * times, 1))
            other.meta = dict(total.meta)
    end.replace_all_uses_with(total, delete_user_cb=lambda user: user is not total)
    total.args = (end, other)
