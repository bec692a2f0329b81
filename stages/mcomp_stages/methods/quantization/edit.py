"""Quantizers as an edit: which sites a model has; their ranges are in the model's state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from mcomp.errors import StageError
from mcomp.model.edits import Edit, State

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.fx import GraphModule

    from mcomp.model.model import Model
    from mcomp_stages.methods.quantization.training_graph import QuantizedGraph


class Quantizers(Edit):
    """Activations in uint8 at `activations`, weights in int8 at `weights`; the layers `keep_float` have none.

    The weights use `weight_bits` of their 8 bits.

    Ranges are in the model's state as `quantizers.<site>.<buffer>`.
    """

    last: ClassVar[bool] = True
    kind: Literal["quantizers"] = "quantizers"
    activations: tuple[str, ...]
    weights: tuple[str, ...]
    keep_float: tuple[str, ...] = ()
    weight_bits: int = 8

    def apply(self, module: nn.Module, state: State) -> None:
        """Give every site that has no state yet a fresh one; the module itself does not change."""
        from mcomp_stages.methods.quantization.fake_quantize import fresh_state

        for name in self.weights:
            try:
                module.get_parameter(name)
            except AttributeError as error:
                raise ValueError(f"{name} is to be quantized, and the model has no such weight") from error
        for site in self.activations:
            for name, tensor in fresh_state().items():
                state.setdefault(f"quantizers.{site}.{name}", tensor)

    def training_module(self, model: Model, example: Mapping[str, Tensor]) -> QuantizedGraph:
        """Capture the model and put its quantizers in. Raises StageError if its sites are others."""
        from mcomp_stages.methods.quantization.placement import placement
        from mcomp_stages.methods.quantization.training_graph import canonical_graph, insert_quantizers

        captured = canonical_graph(model.module, example)
        sites = placement(captured.graph, self.keep_float)
        require_same("activations", self.activations, tuple(sites.activations))
        require_same("weights", self.weights, tuple(sites.weights))
        graph = insert_quantizers(captured, sites, self.weight_bits)
        for site, quantizer in graph.activation_quantizers().items():
            prefix = f"quantizers.{site}."
            state = {name: model.state[prefix + name].clone() for name in quantizer.state_dict()}
            quantizer.load_state_dict(state, assign=True)  # and so on the model's device
        return graph

    def inference_module(self, model: Model, example: Mapping[str, Tensor]) -> GraphModule:
        """Return the model in integers."""
        from mcomp_stages.methods.quantization.convert import convert

        return convert(self.training_module(model, example))

    def state_of(self, training_module: nn.Module) -> State:
        """Return the ranges that training left in the quantizers."""
        from mcomp_stages.methods.quantization.training_graph import QuantizedGraph

        assert isinstance(training_module, QuantizedGraph)
        return {
            f"quantizers.{site}.{name}": tensor.detach().clone()
            for site, quantizer in training_module.activation_quantizers().items()
            for name, tensor in quantizer.state_dict().items()
        }


def require_same(what: str, recorded: tuple[str, ...], found: tuple[str, ...]) -> None:
    """Raise StageError with the first site that was recorded and is not there, or the other way round."""
    if recorded == found:
        return
    lost = [site for site in recorded if site not in found]
    new = [site for site in found if site not in recorded]
    first = (lost or new or list(recorded))[0]
    raise StageError(
        f"the quantized {what} are not those this model was quantized with: {len(lost)} gone, {len(new)} "
        "new; it was saved by another version of mcomp or of the model's code",
        module=first,
    )
