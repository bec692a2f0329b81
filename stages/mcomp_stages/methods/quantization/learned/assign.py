"""Which sites train by which method."""

from __future__ import annotations

from collections.abc import Collection

from mcomp.errors import StageError
from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.methods.quantization.learned.config import (
    WEIGHT_METHODS,
    WITH_STORED_SCALES,
    ActivationMethod,
    WeightMethod,
)
from mcomp_stages.methods.quantization.sites import WeightSite

# These cut activations at a bound for what a network computes; their papers leave its inputs in float.
NOT_FOR_INPUTS = ("pact", "dorefa")


def with_methods(edit: Quantizers, method: ActivationMethod | None, inputs: Collection[str]) -> Quantizers:
    """Return the edit with the method of every site; `inputs` are the names of the model's inputs.

    Without a method, grids of fewer than 8 bits learn their steps (LSQ), the others follow what they see.
    Raises StageError if the grid of a weight does not go with its method.
    """
    own = {f"#{name}" for name in inputs}
    methods: dict[str, ActivationMethod | WeightMethod] = {}
    for site, grid in edit.activations.items():
        chosen = method or default_method(grid.bits)
        methods[site] = "minmax" if site in own and chosen in NOT_FOR_INPUTS else chosen
    weights = {}
    for name, weight in edit.weights.items():
        methods[name] = of_weight = WEIGHT_METHODS[method or default_method(weight.bits)]
        weights[name] = trained_site(name, weight, of_weight)
    apart = {site: each for site, each in methods.items() if each != "minmax"}
    return edit.model_copy(update={"methods": apart, "weights": weights})


def default_method(bits: int) -> ActivationMethod:
    """Return how a grid trains if nothing is said."""
    return "lsq" if bits < 8 else "minmax"


def trained_site(name: str, site: WeightSite, method: WeightMethod) -> WeightSite:
    """Return a weight's site with what its method needs. Raises StageError if its grid does not fit."""
    if method in ("lsq", "dorefa") and not site.symmetric:
        raise StageError(
            f"{method} is for symmetric weights; leave out symmetric: false, or take method minmax or fixed",
            module=name.rpartition(".")[0],
        )
    if site.sums == "int16" and method != "minmax":
        raise StageError(
            f"{method} does not keep sums: int16, which asks for scales that follow the weights; "
            "take method minmax, or 7 bits",
            module=name.rpartition(".")[0],
        )
    return site.model_copy(update={"scale": "stored" if method in WITH_STORED_SCALES else "follows"})
