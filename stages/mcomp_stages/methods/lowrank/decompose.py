# O = output channels, I = input channels
"""A trained model with low-rank layers: their factors, and the proof that they are wired as the layer was."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp.model.fastpath import without_fastpath
from mcomp.model.model import Model
from mcomp_stages.methods.lowrank.edit import LowRank
from mcomp_stages.methods.lowrank.factors import svd_factors, tucker_factors
from mcomp_stages.methods.lowrank.thin import is_matrix
from mcomp_stages.methods.pruning.proof import equal, random_inputs, tensors


def decomposed(model: Model, edit: LowRank) -> Model:
    """Return a copy in which the layers of an edit are products of factors, as near as the ranks allow."""
    thin = model.edited(edit)
    with torch.no_grad():
        for each in edit.layers:
            layer = model.module.get_submodule(each.module)
            factors = factors_of(layer, each.ranks)
            names = [name for name, _ in thin.module.get_submodule(each.module).named_children()]
            for name in names:
                thin.module.get_parameter(f"{each.module}.{name}.weight").copy_(factors[name])
            if layer.bias is not None:
                bias = model.module.get_parameter(f"{each.module}.bias")
                thin.module.get_parameter(f"{each.module}.{names[-1]}.bias").copy_(bias)
    return thin


def factors_of(layer: nn.Module, ranks: tuple[int, ...]) -> dict[str, Tensor]:
    """Return the weights of the thin layers by name, in the shapes that these have."""
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    weight = layer.weight.detach()
    if isinstance(layer, nn.Linear):
        reduce, restore = svd_factors(weight, *ranks)
        return {"reduce": reduce, "restore": restore}
    if is_matrix(layer):
        reduce, restore = svd_factors(weight.flatten(1), *ranks)
        return {"reduce": reduce[..., None, None], "restore": restore[..., None, None]}
    rank_in, rank_out = ranks
    reduce, core, restore = tucker_factors(weight, rank_in, rank_out)
    if rank_in == layer.in_channels:
        core = torch.einsum("qphw,pi->qihw", core, reduce)
    if rank_out == layer.out_channels:
        core = torch.einsum("qphw,oq->ophw", core, restore)
    return {"reduce": reduce[..., None, None], "core": core, "restore": restore[..., None, None]}


def product_weight(parts: nn.Module) -> Tensor:
    """Return the one weight that a sequence of thin layers stands for."""
    weights = {name: parts.get_parameter(f"{name}.weight").detach() for name, _ in parts.named_children()}
    if isinstance(next(parts.children()), nn.Linear):
        return weights["restore"] @ weights["reduce"]
    if "core" not in weights:
        return torch.einsum("orhw,ri->oihw", weights["restore"], weights["reduce"].flatten(1))
    product = weights["core"]
    if "reduce" in weights:
        product = torch.einsum("qphw,pi->qihw", product, weights["reduce"].flatten(1))
    if "restore" in weights:
        product = torch.einsum("qihw,oq->oihw", product, weights["restore"].flatten(1))
    return product


def require_equal_to_products(
    thin: Model, model: Model, edit: LowRank, example: Mapping[str, Tensor]
) -> None:
    """Raise StageError unless thin layers compute what the old ones do with the products as their weights.

    Equal means to 1e-5 of the largest output. `model` is the model before the edit.
    """
    multiplied, sequence = model.copy().module.eval(), thin.copy().module.eval()
    inputs = random_inputs(example)
    with torch.no_grad(), without_fastpath():
        for each in edit.layers:
            product = product_weight(thin.module.get_submodule(each.module))
            multiplied.get_parameter(f"{each.module}.weight").copy_(product)
        expected = tensors(multiplied(**inputs))
        try:
            actual = tensors(sequence(**inputs))
        except AttributeError as error:
            raise StageError(
                f"the model's own code reads what a layer no longer has ({error}); put the layer in skip"
            ) from error
    if not all(equal(*pair) for pair in zip(expected, actual, strict=True)):
        raise StageError("the model with low-rank layers does not compute what their products compute")
