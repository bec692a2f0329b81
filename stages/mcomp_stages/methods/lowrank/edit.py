"""Thin layers in the place of a layer, as an edit: which layers, and of which ranks; weights are not in it.

On a fresh architecture the edit makes the thin layers, and the checkpoint fills them. On a trained model
`decomposed` (decompose.py) computes what they hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mcomp.config import Config
from mcomp.model.edits import Edit, State

if TYPE_CHECKING:
    from torch import nn

Rank = Annotated[int, Field(ge=1)]


class Factorized(Config):
    """One layer and its rank: one number for a linear or 1x1 convolution (SVD), two, of inputs and of
    outputs, for a larger convolution (Tucker-2).

    A layer that is as wide as it was before on one side (the rank is full) gets no thin layer on that side.
    """

    module: str
    ranks: Annotated[tuple[Rank, ...], Field(min_length=1, max_length=2)]


class LowRank(Edit):
    """Replace layers by sequences of thin ones: `<path>.reduce`, `<path>.core`, `<path>.restore`."""

    kind: Literal["low_rank"] = "low_rank"
    layers: tuple[Factorized, ...]

    def apply(self, module: nn.Module, state: State) -> None:
        from mcomp_stages.methods.lowrank.thin import full_ranks, refusal, thin_layers

        for each in self.layers:
            try:
                layer = module.get_submodule(each.module)
            except AttributeError as error:
                raise ValueError(f"there is no module {each.module}") from error
            reason = refusal(module, state, each.module)
            if reason:
                raise ValueError(f"{each.module} {reason}")
            full = full_ranks(layer)
            if len(each.ranks) != len(full) or any(
                rank > most for rank, most in zip(each.ranks, full, strict=True)
            ):
                raise ValueError(f"{each.module} has ranks up to {full}, not {each.ranks}")
            module.set_submodule(each.module, thin_layers(layer, each.ranks))
