"""Cut whole heads of attention.

    prune:
      type: prune.heads
      importance: taylor
      target: {ratio: 0.25}
      recover: {epochs: 4}

A head goes with its queries, keys and values and with its part of the output; heads that share keys (grouped
queries) and layers that share a bias go together. Fused and written-out attention, separate and fused
projections and `nn.MultiheadAttention` are all understood. `ratio` is the share of heads to remove,
`keep_heads` what every layer keeps at least. A target of `macs` or `params` is one of the whole model, of
which attention is only a part. `neurons: true` also cuts the inner width of the feed-forward layers, to
multiples of `round_to`.

Sources: Michel et al. 2019, arXiv:1905.10650 (heads by their effect on the loss); the fields are those of
`prune.channels`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mcomp_stages.methods.pruning.config import Importance, Unit
from mcomp_stages.methods.pruning.structured import StructuredPruning

if TYPE_CHECKING:
    from mcomp_stages.methods.pruning.limits import Limits


class PruneHeads(StructuredPruning):
    """Cut the least important heads of attention, then train what is left."""

    type: Literal["prune.heads"] = "prune.heads"
    importance: Annotated[Importance, Field(description="what a head is scored by")] = "taylor"
    neurons: Annotated[bool, Field(description="cut neurons of feed-forward layers too")] = False
    keep_heads: Annotated[int, Field(ge=1, description="never keep fewer heads than this")] = 1

    def limits(self) -> Limits:
        return replace(super().limits(), min_groups=self.keep_heads)

    def cut_units(self) -> tuple[Unit, ...]:
        return ("heads", "neurons") if self.neurons else ("heads",)
