"""Quantizers as an edit: which sites a model has and what stands there; ranges are in the model's state.

This is the contract between placement, calibration, training, conversion and export:

- `Quantizers.activations` says for each site of an activation what grid it has (`config.Activations`), and
  `Quantizers.weights` the same for each weight, by its parameter's name (`sites.WeightSite`). A stage decides
  what stands there (`scheme.quantizers_for`, or on its own); nothing else is looked up later.
- `Quantizers.binary` says what stands around binary layers (`binary.rewire`); the state holds what is learned
  of it by the sites `<path>#sign` and `<path>#rprelu`.
- `Quantizers.methods` says how a site trains (`learned.choice`), unless its grid follows what it sees.
- The state holds `quantizers.<site>.low`, `.high`, `.seen` and `.updates_left` for an activation (or what
  its method has, `ActivationQuantizer.fresh`), and `quantizers.<weight>.scale` and `.zero_point` for a weight
  with `scale: stored`.
- `training_module` gives the `QuantizedGraph`, `inference_module` the integers that will be served.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from mcomp.model.edits import Edit, State
from mcomp_stages.methods.quantization.binary.record import BinaryLayer
from mcomp_stages.methods.quantization.config import Activations
from mcomp_stages.methods.quantization.learned.config import ActivationMethod, WeightMethod
from mcomp_stages.methods.quantization.sites import WeightSite, multiplies_in_integers

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.fx import GraphModule

    from mcomp.model.model import Model
    from mcomp_stages.methods.quantization.training_graph import QuantizedGraph


Grid = TypeVar("Grid", Activations, WeightSite)


class Quantizers(Edit):
    """The quantizers of a model, by site."""

    last: ClassVar[bool] = True
    kind: Literal["quantizers"] = "quantizers"
    activations: dict[str, Activations] = {}
    weights: dict[str, WeightSite] = {}
    methods: dict[str, ActivationMethod | WeightMethod] = {}
    binary: dict[str, BinaryLayer] = {}

    def method(self, site: str) -> ActivationMethod | WeightMethod:
        """Return how a site trains."""
        return self.methods.get(site, "minmax")

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
        from mcomp_stages.methods.quantization.binary.around import ShiftedPReLU, SignInput
        from mcomp_stages.methods.quantization.fake_quantize import stored_grid
        from mcomp_stages.methods.quantization.learned.choice import ACTIVATIONS
        from mcomp_stages.methods.quantization.packing import fresh_codes

        for name, site in self.weights.items():
            try:
                weight = module.get_parameter(name)
            except AttributeError as error:
                raise ValueError(f"{name} is to be quantized, and the model has no such weight") from error
            require_fits(name, site, tuple(weight.shape))
            add_state(state, name, stored_grid(weight, site))
            if site.packed is not None:
                require_packed(name, weight, site)
                add_state(state, name, {"codes": fresh_codes(site)})
        for name, grid in self.activations.items():
            add_state(state, name, ACTIVATIONS[self.method(name)].fresh(grid))
        for path, layer in self.binary.items():
            if layer.signs is not None:
                add_state(state, f"{path}#sign", SignInput.fresh(layer.signs))
            if layer.rprelu is not None:
                add_state(state, f"{path}#rprelu", ShiftedPReLU.fresh(layer.rprelu))

    def training_module(self, model: Model, example: Mapping[str, Tensor]) -> QuantizedGraph:
        """Capture the model and put its quantizers in. Raises StageError if a site is not there any more."""
        from mcomp_stages.methods.quantization.binary.rewire import rewire
        from mcomp_stages.methods.quantization.learned.choice import ACTIVATIONS, WEIGHTS
        from mcomp_stages.methods.quantization.training_graph import canonical_graph, insert_quantizers

        tensors = site_states(model.state)
        quantizers: dict[str, nn.Module] = {
            **{
                name: WEIGHTS[self.method(name)](site, without_codes(tensors.get(name, {})))
                for name, site in self.weights.items()
            },
            **{
                name: ACTIVATIONS[self.method(name)](grid, tensors[name])
                for name, grid in self.activations.items()
            },
        }
        graph = insert_quantizers(canonical_graph(model.module, example), quantizers)
        rewire(graph, self.binary, tensors)
        return graph.train(False)

    def inference_module(self, model: Model, example: Mapping[str, Tensor]) -> GraphModule:
        """Return the model in integers."""
        from mcomp_stages.methods.quantization.convert import convert

        return convert(self.training_module(model, example))

    def state_of(self, training_module: nn.Module) -> State:
        """Return the ranges and scales that training left in the quantizers, and codes of packed weights."""
        from mcomp_stages.methods.quantization.packing import packed_tensors
        from mcomp_stages.methods.quantization.training_graph import QuantizedGraph

        assert isinstance(training_module, QuantizedGraph)
        state = {
            f"quantizers.{site}.{name}": tensor.detach().clone()
            for site, quantizer in training_module.by_site().items()
            for name, tensor in quantizer.state_dict().items()
        }
        for name, quantizer in training_module.weight_quantizers().items():
            if quantizer.site.packed is not None:
                integers = quantizer.integers(training_module.get_parameter(name))
                for part, tensor in packed_tensors(integers, quantizer.site).items():
                    state[f"quantizers.{name}.{part}"] = tensor
        return state

    def values(self, state: State) -> State:
        """Return the weights that are kept as codes."""
        from mcomp_stages.methods.quantization.packing import numbers

        packed = {name: site for name, site in self.weights.items() if site.packed is not None}
        tensors = site_states(state) if packed else {}
        return {name: numbers(tensors[name], site) for name, site in packed.items()}

    def at_least(self, bits: int) -> Quantizers:
        """Return the edit with grids of at least so many bits."""
        weights = {name: wider(site, bits) for name, site in self.weights.items()}
        activations = {name: wider(grid, bits) for name, grid in self.activations.items()}
        return self.model_copy(update={"weights": weights, "activations": activations})

    def facts(self) -> dict[str, Any]:
        """Return what a report shows of the sites: their names, and how many there are of each width."""
        return {
            "activations": list(self.activations),
            "weights": list(self.weights),
            "activation_bits": num_of_each(grid.bits for grid in self.activations.values()),
            "weight_bits": num_of_each(site.bits for site in self.weights.values()),
            "methods": num_of_each(self.method(site) for site in (*self.activations, *self.weights)),
        }


def wider(grid: Grid, bits: int) -> Grid:
    """Return a grid with at least so many bits."""
    return grid.model_copy(update={"bits": max(bits, grid.bits)})


def without_quantizers(model: Model) -> Model:
    """Return the float model that quantizers stand in; its weights are shared."""
    state = {name: tensor for name, tensor in model.state.items() if not name.startswith("quantizers.")}
    edits = tuple(edit for edit in model.edits if not isinstance(edit, Quantizers))
    return replace(model, edits=edits, state=state)


def require_fits(name: str, site: WeightSite, shape: tuple[int, ...]) -> None:
    """Raise ValueError if a weight does not have the axis or the groups that are recorded of it."""
    if not 0 <= site.axis < len(shape):
        raise ValueError(f"{name} has no axis {site.axis}: its shape is {shape}")
    if site.group_size is not None and (len(shape) != 2 or shape[site.scale_axis] % site.group_size):
        raise ValueError(f"{name} of shape {shape} has no groups of {site.group_size}")


def without_codes(tensors: State) -> State:
    """Return the tensors of a weight that its quantizer works with."""
    return {name: tensor for name, tensor in tensors.items() if name != "codes"}


def num_of_each(values: Iterable[Any]) -> dict[str, int]:
    """Return how often each value comes; keys of JSON are texts."""
    count = Counter(values)
    return {str(value): count[value] for value in sorted(count)}


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


def require_packed(name: str, weight: Tensor, site: WeightSite) -> None:
    """Raise ValueError unless a weight has the shape of its codes."""
    if tuple(weight.shape) != site.packed:
        raise ValueError(f"{name} is kept as codes of shape {site.packed}, and has {tuple(weight.shape)}")
    if site.scale == "follows":
        raise ValueError(f"{name} is kept as codes, and its scale would follow from the weight")
