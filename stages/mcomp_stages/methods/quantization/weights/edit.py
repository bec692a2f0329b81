"""Weights in few bits as an edit: how each is kept; the codes themselves are in the model's state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from mcomp.model.edits import Edit, State
from mcomp_stages.methods.quantization.weights.record import StoredWeight

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.fx import GraphModule

    from mcomp.model.model import Model


class StoredWeights(Edit):
    """Weights kept as codes in few bits; the parameters of the module are the numbers that they stand for.

    The tensors of a weight are in the model's state as `stored.<weight>.<tensor>`. Nothing trains any more.
    """

    last: ClassVar[bool] = True
    kind: Literal["stored_weights"] = "stored_weights"
    weights: dict[str, StoredWeight]

    @property
    def integer_weights(self) -> tuple[str, ...]:
        """The weights that are multiplied in integers, not only stored so."""
        return tuple(name for name, record in self.weights.items() if record.unpack == "integers")

    def apply(self, module: nn.Module, state: State) -> None:
        """Give every weight that has no state yet a fresh one; the module itself does not change."""
        from mcomp_stages.methods.quantization.weights.stored import fresh_tensors

        for name, record in self.weights.items():
            require_shape(module, name, record)
            for part, tensor in fresh_tensors(record).items():
                state.setdefault(f"stored.{name}.{part}", tensor)

    def values(self, state: State) -> State:
        """Return the numbers that the codes stand for."""
        from mcomp_stages.methods.quantization.weights.stored import numbers

        return {name: numbers(record, tensors_of(state, name)) for name, record in self.weights.items()}

    def inference_module(self, model: Model, example: Mapping[str, Tensor]) -> GraphModule:
        """Return the graph that unpacks the codes as the runtime will."""
        from mcomp_stages.methods.quantization.weights.lower import lowered

        return lowered(model, self.weights, example)


def tensors_of(state: State, name: str) -> State:
    """Return the tensors of one weight by part."""
    prefix = f"stored.{name}."
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def require_shape(module: nn.Module, name: str, record: StoredWeight) -> None:
    """Raise ValueError unless a module has a weight of this name and shape."""
    try:
        shape = tuple(module.get_parameter(name).shape)
    except AttributeError as error:
        raise ValueError(f"{name} is kept in few bits, and the model has no such weight") from error
    if shape != record.shape:
        raise ValueError(f"{name} is kept in few bits with shape {record.shape}, and the model's has {shape}")
