"""The whole model with the cut channels set to zero: what the smaller model has to equal.

It is the captured graph with the slices of the cut groups zeroed in its parameters. A norm or a reduction
over channels is taken over those that stay, as in the smaller model: zeros would count in its mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Interpreter, Node

from mcomp.model.graph import attribute, module_path
from mcomp_stages.methods.pruning.cut import Cut
from mcomp_stages.methods.pruning.group_records import STAYS
from mcomp_stages.methods.pruning.groups import tensor_names
from mcomp_stages.methods.pruning.union_find import Integers

aten = torch.ops.aten


class Masked(Interpreter):
    """Runs the graph in which the groups of a cut were found, masked; the module itself is left as it is."""

    def __init__(self, module: nn.Module, cut: Cut) -> None:
        assert cut.groups.graph is not None
        super().__init__(cut.groups.graph)
        self._names = tensor_names(module)
        self._masked = masked_parameters(module, cut)
        statistics = cut.groups.statistics
        self._over = {name: (axis, kept(groups, cut)) for name, (axis, groups) in statistics.items()}
        self._record: Callable[[str, Tensor], None] | None = None

    def outputs(self, inputs: Mapping[str, Tensor]) -> Any:
        """Return what the model gives for inputs by name."""
        names = [node.target for node in self.graph.nodes if node.op == "placeholder"]
        with torch.no_grad():
            return self.run(*(inputs[name] for name in names))

    def recorded(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the last tensor that each module computed."""
        last: dict[str, Tensor] = {}
        self._record = lambda path, value: last.update(
            {path: value.clone()}
        )  # what follows may work in place
        self.outputs(inputs)
        self._record = None
        return last

    def run_node(self, n: Node) -> Any:
        """Compute one node. Overrides torch.fx."""
        if n.name in self._over:
            axis, index = self._over[n.name]
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            result = OVER_KEPT.get(n.target, reduction)(n.target, args, kwargs, axis, index)
        else:
            result = super().run_node(n)
        if self._record is not None and n.op == "call_function" and isinstance(result, Tensor):
            self._record(module_path(n), result)
        return result

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Return a parameter, masked. Overrides torch.fx."""
        value = attribute(self.module, target)
        return self._masked.get(self._names.get(id(value), ""), value)


def masked_parameters(module: nn.Module, cut: Cut) -> dict[str, Tensor]:
    """Return copies of the parameters that the cut concerns, zero in the cut groups; buffers stay."""
    parameters = dict(module.named_parameters())
    masked: dict[str, Tensor] = {}
    for (name, axis), indices in cut.kept_indices.items():
        if name in parameters:
            value = masked.setdefault(name, parameters[name].detach().clone())
            gone = torch.ones(value.shape[axis], dtype=torch.bool, device=value.device)
            gone[list(indices)] = False
            value.index_fill_(axis, gone.nonzero().flatten(), 0.0)
    return masked


def kept(groups: Integers, cut: Cut) -> Tensor:
    """Return the positions of the channels that stay."""
    return torch.from_numpy((groups == STAYS) | ~cut.removed[groups]).nonzero().flatten()


def reduction(target: Any, args: Any, kwargs: Any, axis: int, index: Tensor) -> Tensor:
    """A mean, a sum or a norm of what stays."""
    features, *others = args
    result = target(features.index_select(axis, index.to(features.device)), *others, **kwargs)
    assert isinstance(result, Tensor)
    return result


def norm(target: Any, args: Any, kwargs: Any, axis: int, index: Tensor) -> Tensor:
    """A norm of what stays, and zeros elsewhere: layer norm, RMS norm, or group norm with one group."""
    features, shape, *others = args
    index = index.to(features.device)
    size = features.shape[axis]

    def part(value: Any) -> Any:
        """The scale and the shift have as many elements as there are channels."""
        return value[index] if isinstance(value, Tensor) and value.shape == (size,) else value

    kept_shape = shape if isinstance(shape, int) else [len(index)]
    some = target(
        features.index_select(axis, index),
        kept_shape,
        *map(part, others),
        **{name: part(value) for name, value in kwargs.items()},
    )
    return torch.zeros_like(features).index_copy_(axis, index, some)


OVER_KEPT: dict[Any, Callable[[Any, Any, Any, int, Tensor], Tensor]] = dict.fromkeys(
    (aten.layer_norm.default, aten.rms_norm.default, aten.group_norm.default), norm
)
