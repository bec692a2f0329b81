"""The graph that QAT trains: the captured model with a quantizer at every site."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from mcomp.errors import StageError
from mcomp.model.graph import TRAINING_ARGUMENT, capture, set_training
from mcomp_stages.methods.quantization.attention import write_out_attention
from mcomp_stages.methods.quantization.canonical import canonical_pooling, pure
from mcomp_stages.methods.quantization.fake_quantize import (
    ActivationQuantizer,
    Quantizer,
    WeightQuantizer,
)
from mcomp_stages.methods.quantization.kinds import NORMS
from mcomp_stages.methods.quantization.placement import site_values


class QuantizedGraph(GraphModule):
    """A captured graph with quantizers. It shares parameters and buffers, by their names, with its model.

    With `still_norms` batch norm computes with its running statistics, and leaves them, in training too.
    """

    still_norms = False

    def train(self, mode: bool = True) -> QuantizedGraph:
        """Switch batch norm, dropout and the quantizers."""
        set_training(self, mode)
        nn.Module.train(self, mode)
        if self.still_norms:
            self.keep_norms(True)
        return self

    def keep_norms(self, still: bool) -> None:
        """Let the statistics of batch norm stay as they are in training, or follow the data."""
        self.still_norms = still
        for target in NORMS:
            for node in self.graph.find_nodes(op="call_function", target=target):
                node.update_arg(TRAINING_ARGUMENT[target], self.training and not still)
        self.recompile()

    def require_sound(self, where: str) -> None:
        """Raise StageError, naming the site, if a learned scale is not a positive number any more."""
        scales = self.positive()
        if not scales:
            return
        ends = torch.stack([end for each in scales.values() for end in torch.aminmax(each.detach())])
        if bool(((ends > 0) & torch.isfinite(ends)).all()):  # one wait for the device
            return
        lowest = {name: float(each.detach().min()) for name, each in scales.items()}
        name = next(name for name, each in scales.items() if not sound(each))
        raise StageError(
            f"{where}: the learned scale became {lowest[name]:.3g}; give the scales a lower lr in `method`",
            module=name,
        )

    def positive(self) -> dict[str, Tensor]:
        """Return the learned scales that must be positive, by site."""
        return {
            site: getattr(quantizer, name)
            for site, quantizer in self.by_site().items()
            if isinstance(quantizer, Quantizer)
            for name in quantizer.POSITIVE
        }

    def activation_quantizers(self) -> dict[str, ActivationQuantizer]:
        """Return the activation quantizers by site."""
        modules = self.by_site().items()
        return {site: module for site, module in modules if isinstance(module, ActivationQuantizer)}

    def weight_quantizers(self) -> dict[str, WeightQuantizer]:
        """Return the weight quantizers by the weight's name."""
        modules = self.by_site().items()
        return {site: module for site, module in modules if isinstance(module, WeightQuantizer)}

    def by_site(self) -> dict[str, nn.Module]:
        """Return all quantizers by site, in the graph's order."""
        return {node.meta["site"]: self.get_submodule(str(node.target)) for node in self.sites()}

    def sites(self) -> list[Node]:
        """Return the calls of quantizers, in the graph's order."""
        return [node for node in self.graph.nodes if node.op == "call_module" and "site" in node.meta]


def canonical_graph(module: nn.Module, example: Mapping[str, Tensor]) -> GraphModule:
    """Capture a module in the form that placement reads. Raises StageError if it cannot be captured."""
    graph_module = capture(module, example)
    canonical_pooling(graph_module)
    write_out_attention(graph_module)
    return graph_module


def insert_quantizers(graph_module: GraphModule, quantizers: Mapping[str, nn.Module]) -> QuantizedGraph:
    """Return the graph with quantizers at their sites, in inference mode; `graph_module` is used up.

    A site is a weight's name, or that of an activation in `placement.site_values`. Raises StageError naming
    the first site that the graph does not have.
    """
    values = {str(node.target): node for node in graph_module.graph.find_nodes(op="get_attr")}
    values |= site_values(graph_module.graph)
    lost = [site for site in quantizers if site not in values]
    if lost:
        raise StageError(
            f"{len(lost)} of {len(quantizers)} quantizers have no place in this model any more; it was saved "
            "by another version of mcomp or of the model's code",
            module=lost[0],
        )
    for site, quantizer in quantizers.items():
        insert(graph_module, site, values[site], quantizer)
    return QuantizedGraph(graph_module, graph_module.graph).train(False)


def insert(graph_module: GraphModule, site: str, value: Node, quantizer: nn.Module) -> None:
    """Put a quantizer behind a value, for all of its users."""
    target = f"quantizers.{site.replace('.', '/')}"  # a dot would nest modules
    graph_module.add_submodule(target, quantizer)
    with graph_module.graph.inserting_after(value):
        call = graph_module.graph.call_module(target, (value,))
    call.meta = {**value.meta, "site": site}
    value.replace_all_uses_with(call, delete_user_cb=lambda user: user is not call)
    for user in call.users:  # a quantizer reads its result again for the gradient
        user.target = pure(user.target)


def sound(scale: Tensor) -> bool:
    """Whether all scales are positive numbers."""
    return bool(((scale > 0) & torch.isfinite(scale)).all())


def norms_still_after(num_updates: float) -> Callable[[nn.Module, int], None]:
    """Return what lets the statistics of batch norm stay as they are after so many updates."""

    def prepare(module: nn.Module, done: int) -> None:
        assert isinstance(module, QuantizedGraph)
        if module.still_norms != (done >= num_updates):
            module.keep_norms(done >= num_updates)

    return prepare
