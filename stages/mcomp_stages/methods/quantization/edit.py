"""Quantizers as an edit: which sites a model has and what stands there; ranges are in the model's state.

This is the contract between placement, calibration, training, conversion and export:

- `Quantizers.activations` says for each site of an activation what grid it has (`config.Activations`), and
  `Quantizers.weights` the same for each weight, by its parameter's name (`sites.WeightSite`). A stage decides
  what stands there (`scheme.quantizers_for`, or on its own); nothing else is looked up later.
- The state holds `quantizers.<site>.low`, `.high`, `.seen` and `.updates_left` for an activation, and
  `quantizers.<weight>.scale` and `.zero_point` for a weight with `scale: stored`.
- `training_module` gives the `QuantizedGraph`, `inference_module` the integers that will be served.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mcomp.model.edits import Edit, State
from mcomp_stages.methods.quantization.config import Activations
from mcomp_stages.methods.quantization.sites import WeightSite, multiplies_in_integers

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.fx import GraphModule

    from mcomp.model.model import Model
    from mcomp_stages.methods.quantization.training_graph import QuantizedGraph


class Quantizers(Edit):
    """The quantizers of a model, by site."""

    last: ClassVar[bool] = True
    kind: Literal["quantizers"] = "quantizers"
    activations: dict[str, Activations] = {}
    weights: dict[str, WeightSite] = {}

    @property
    def integer_weights(self) -> tuple[str, ...]:
        """The weights that are multiplied in integers, not only stored so."""
        return tuple(
            name
            for name, site in self.weights.items()
            if site.inputs
            and all(multiplies_in_integers(site, self.activations[source]) for source in site.inputs)
        )

    def apply(self, module: nn.Module, state: State) -> None:
        """Give every site that has no state yet a fresh one; the module itself does not change."""
        from mcomp_stages.methods.quantization.fake_quantize import fresh_state, stored_grid

        for name, site in self.weights.items():
            try:
                weight = module.get_parameter(name)
            except AttributeError as error:
                raise ValueError(f"{name} is to be quantized, and the model has no such weight") from error
            add_state(state, name, stored_grid(weight, site))
        for name in self.activations:
            add_state(state, name, fresh_state())

    def training_module(self, model: Model, example: Mapping[str, Tensor]) -> QuantizedGraph:
        """Capture the model and put its quantizers in. Raises StageError if a site is not there any more."""
        from mcomp_stages.methods.quantization.fake_quantize import ActivationQuantizer, WeightQuantizer
        from mcomp_stages.methods.quantization.training_graph import canonical_graph, insert_quantizers

        tensors = site_states(model.state)
        quantizers: dict[str, nn.Module] = {
            **{name: WeightQuantizer(site, tensors.get(name)) for name, site in self.weights.items()},
            **{name: ActivationQuantizer(grid, tensors[name]) for name, grid in self.activations.items()},
        }
        return insert_quantizers(canonical_graph(model.module, example), quantizers)

    def inference_module(self, model: Model, example: Mapping[str, Tensor]) -> GraphModule:
        """Return the model in integers."""
        from mcomp_stages.methods.quantization.convert import convert

        return convert(self.training_module(model, example))

    def state_of(self, training_module: nn.Module) -> State:
        """Return the ranges and scales that training left in the quantizers."""
        from mcomp_stages.methods.quantization.training_graph import QuantizedGraph

        assert isinstance(training_module, QuantizedGraph)
        return {
            f"quantizers.{site}.{name}": tensor.detach().clone()
            for site, quantizer in training_module.by_site().items()
            for name, tensor in quantizer.state_dict().items()
        }

    def facts(self) -> dict[str, Any]:
        """Return what a report shows of the sites: their names, and how many there are of each width."""
        return {
            "activations": list(self.activations),
            "weights": list(self.weights),
            "activation_bits": num_of_each(grid.bits for grid in self.activations.values()),
            "weight_bits": num_of_each(site.bits for site in self.weights.values()),
        }


def num_of_each(bits: Iterable[int]) -> dict[str, int]:
    """Return how often each width comes, by its digits: keys of JSON are texts."""
    return {str(width): num for width, num in sorted(Counter(bits).items())}


def add_state(state: State, site: str, tensors: State) -> None:
    """Put a site's tensors in the state, unless they are there."""
    for name, tensor in tensors.items():
        state.setdefault(f"quantizers.{site}.{name}", tensor)


def site_states(state: State) -> dict[str, State]:
    """Return copies of the tensors of each site: training changes them, and the model shall stay as it is."""
    tensors: dict[str, State] = {}
    for path, tensor in state.items():
        kind, _, rest = path.partition(".")
        if kind == "quantizers":
            site, _, name = rest.rpartition(".")
            tensors.setdefault(site, {})[name] = tensor.clone()
    return tensors
