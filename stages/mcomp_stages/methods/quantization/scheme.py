"""From what a recipe asks for to the quantizers of a model: which layers, and the grid of every site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp.model.select import select_modules
from mcomp.recipe.nearest import did_you_mean
from mcomp_stages.methods.quantization.config import Activations, Override, Scheme, Weights
from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.methods.quantization.pairs import adds_no_pairs
from mcomp_stages.methods.quantization.placement import Placement, placement
from mcomp_stages.methods.quantization.presets import RUNTIMES
from mcomp_stages.methods.quantization.sites import WeightSite
from mcomp_stages.methods.quantization.training_graph import canonical_graph


@dataclass(frozen=True)
class LayerSettings:
    """What is asked for one layer; `activations` is the grid of its input."""

    weights: Weights
    activations: Activations
    keep_float: bool = False

    def changed(self, override: Override) -> LayerSettings:
        """Return the settings with what an override says in place of theirs; new grids end `keep_float`."""
        weights, activations = override.weights, override.activations
        return replace(
            self,
            weights=weights.applied(self.weights) if weights else self.weights,
            activations=activations.applied(self.activations) if activations else self.activations,
            keep_float=override.keep_float,
        )


def quantizers_for(
    module: nn.Module, example: Mapping[str, Tensor], scheme: Scheme | None = None
) -> Quantizers:
    """Return the edit that quantizes a module as `scheme` says (default: 8 bits everywhere).

    Raises StageError if a choice of layers is empty, if no layer is left, or if a weight cannot have the grid
    that is asked for it.
    """
    scheme = scheme or Scheme()
    graph, runtime = canonical_graph(module, example).graph, RUNTIMES[scheme.preset]
    everywhere = placement(graph, runtime=runtime)
    settings = layer_settings(module, everywhere, scheme)
    kept = tuple(path for path, asked in settings.items() if asked.keep_float)
    sites = placement(graph, kept, runtime)
    if not sites.layers:
        raise StageError(
            "there is no convolution or linear to quantize"
            + (f"; {lacks(module, everywhere.missing[0], scheme)}" if everywhere.missing else "")
        )
    return Quantizers(
        activations={
            site: activation_of(site, sites, settings, scheme.activations) for site in sites.activations
        },
        weights={
            **{table.weight: WeightSite() for table in sites.tables},
            **{name: weight_site(name, sites, settings, module) for name in sites.weights},
        },
    )


def layer_settings(module: nn.Module, found: Placement, scheme: Scheme) -> dict[str, LayerSettings]:
    """Return the settings of every layer that can be quantized, by module path.

    What the runtime has no integers for stays in float anyway, and embeddings have 8 bits or stay in float;
    more cannot be asked of either.
    """
    kept = tuple(Override(modules=pattern, keep_float=True) for pattern in scheme.keep_float)
    layers = tuple(dict.fromkeys(layer.path for layer in found.layers))
    tables = tuple(dict.fromkeys(table.path for table in found.tables))
    asked = LayerSettings(scheme.weights, scheme.activations)
    settings = dict.fromkeys((*layers, *tables), asked)
    for override in (*kept, *scheme.overrides):
        others = [path for path in (*found.missing, *tables) if is_chosen(module, path, override)]
        if not override.keep_float:
            require_ordinary(module, others, override, scheme)
        elif others and not any(is_chosen(module, path, override) for path in layers):
            settings |= {path: asked.changed(override) for path in others if path in tables}
            continue
        for path in chosen(module, layers, override):
            settings[path] = settings[path].changed(override)
        if override.keep_float:
            settings |= {path: asked.changed(override) for path in others if path in tables}
    return settings


def chosen(module: nn.Module, layers: tuple[str, ...], override: Override) -> tuple[str, ...]:
    """Return the layers that an override chooses. Raises StageError if there is none."""
    if override.layer is not None:
        return layers[:1] if override.layer == "first" else layers[-1:]
    if override.modules is not None:
        return inside(module, layers, override.modules)
    types = {path: type(module.get_submodule(path)).__name__ for path in layers}
    found = tuple(path for path in layers if types[path] == override.type)
    if not found:
        there = ", ".join(sorted(set(types.values())))
        what = f"no layer that can be quantized is a {override.type}; there are: {there}"
        near = did_you_mean(str(override.type), types.values())
        raise StageError("; ".join(filter(None, (what, near))), about=override.type)
    return found


def is_chosen(module: nn.Module, path: str, override: Override) -> bool:
    """Whether an override names a layer by its path or its class."""
    if override.modules is not None:
        selected = select_modules(module, [override.modules])
        return any(path == each or path.startswith(f"{each}.") for each in selected)
    return override.type == type(module.get_submodule(path)).__name__


def require_ordinary(module: nn.Module, others: Sequence[str], override: Override, scheme: Scheme) -> None:
    """Raise StageError if an override asks for grids where there is no choice of them.

    One that also chooses ordinary layers leaves embeddings as they are.
    """
    about = override.modules or override.type
    for path in others:
        if not isinstance(module.get_submodule(path), nn.Embedding):
            raise StageError(lacks(module, path, scheme), about=about)
        if override.modules == path or override.type is not None:
            what = f"{path} is an embedding, which has 8 bits or keep_float: true"
            raise StageError(f"{what}; quantize.weights gives embeddings fewer", about=about)


def lacks(module: nn.Module, path: str, scheme: Scheme) -> str:
    """Return the words for a layer that the preset's runtime has no integers for."""
    kind = type(module.get_submodule(path)).__name__
    others = [name for name, runtime in RUNTIMES.items() if "transposed convolution" in runtime.layers]
    return (
        f"{path} is a {kind}, which {RUNTIMES[scheme.preset].words} has no integers for: it stays in float "
        f"with preset {scheme.preset}; {' and '.join(others)} have"
    )


def inside(module: nn.Module, layers: Sequence[str], pattern: str) -> tuple[str, ...]:
    """Return the layers that a pattern matches, or that lie in a module that it matches."""
    selected = select_modules(module, [pattern])
    found = tuple(
        layer for layer in layers if any(layer == path or layer.startswith(f"{path}.") for path in selected)
    )
    if not found:
        raise StageError(f"'{pattern}' matches {selected[0]}, which has nothing to quantize", about=pattern)
    return found


def activation_of(
    site: str, sites: Placement, settings: Mapping[str, LayerSettings], default: Activations
) -> Activations:
    """Return the grid of an activation: the finest that a layer which reads it asks for."""
    readers = [settings[layer.path].activations for layer in sites.layers if layer.input == site]
    return max(readers, key=lambda grid: grid.bits, default=default)


def weight_site(
    name: str, sites: Placement, settings: Mapping[str, LayerSettings], module: nn.Module
) -> WeightSite:
    """Return the grid of a weight. Raises StageError if its layers ask for different ones."""
    layers = [layer for layer in sites.layers if layer.weight == name]
    grids = {settings[layer.path].weights for layer in layers}
    if len(grids) > 1:
        paths = " and ".join(dict.fromkeys(layer.path for layer in layers))
        raise StageError(f"{paths} share one weight; give them the same settings", module=layers[0].path)
    (grid,) = grids
    inputs = tuple(dict.fromkeys(layer.input for layer in layers))
    if any(adds_no_pairs(module.get_submodule(layer.path)) for layer in layers):
        grid = grid.model_copy(update={"sums": "int32"})
    site = WeightSite(**grid.model_dump(), inputs=inputs, axis=layers[0].axis)
    require_groups_fit(name, site, module.get_parameter(name))
    return site


def require_groups_fit(name: str, site: WeightSite, weight: Tensor) -> None:
    """Raise StageError if a weight cannot be divided into its groups."""
    if site.per != "group":
        return
    layer, size = name.rpartition(".")[0], site.group_size
    if weight.ndim != 2:
        raise StageError(
            "per: group is for linears; set per: channel for this layer in overrides:", module=layer
        )
    assert size is not None
    if weight.shape[site.scale_axis] % size:
        raise StageError(
            f"its {weight.shape[site.scale_axis]} inputs are no multiple of group_size: {size}", module=layer
        )
