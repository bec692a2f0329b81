"""Weights kept in 16 bits as an edit; what the module computes with are the same numbers as float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from mcomp.model.edits import Edit, State

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.fx import GraphModule

    from mcomp.model.model import Model

HalfType = Literal["float16", "bfloat16"]


class HalfWeights(Edit):
    """The weights `half.<name>` in the state, in 16 bits.

    `activations`: whether what is served computes in 16 bits too, but for the modules `keep_float` and for
    operators that need the range or the digits (`lower.FLOAT_OPERATORS`).
    """

    last: ClassVar[bool] = True
    kind: Literal["half_weights"] = "half_weights"
    dtype: HalfType
    weights: tuple[str, ...]
    activations: bool = False
    keep_float: tuple[str, ...] = ()

    def apply(self, module: nn.Module, state: State) -> None:
        """Round the weights of a module, and keep them in 16 bits."""
        import torch

        for name in self.weights:
            try:
                weight = module.get_parameter(name)
            except AttributeError as error:
                raise ValueError(f"{name} is kept in 16 bits, and the model has no such weight") from error
            half = state.setdefault(f"half.{name}", weight.detach().to(torch_type(self.dtype)))
            if half.shape != weight.shape:
                shapes = f"{tuple(half.shape)}, and the model's has {tuple(weight.shape)}"
                raise ValueError(f"{name} is kept in 16 bits with shape {shapes}")
            with torch.no_grad():
                weight.copy_(half)

    def values(self, state: State) -> State:
        """Return the weights as float32."""
        return {name: state[f"half.{name}"].float() for name in self.weights}

    def inference_module(self, model: Model, example: Mapping[str, Tensor]) -> GraphModule:
        """Return the graph that reads the weights in 16 bits, as the runtime will."""
        from mcomp_stages.methods.half.lower import lowered

        return lowered(model, self, example)


def torch_type(dtype: HalfType) -> torch.dtype:
    """Return the type of torch by its name."""
    import torch

    found = getattr(torch, dtype)
    assert isinstance(found, torch.dtype)
    return found
