"""Cut single filters: only channels that one layer makes and that nothing else fixes.

    prune:
      type: prune.filters
      importance: l1
      target: {macs: 0.6}
      recover: {epochs: 4}

Channels that several layers share (the sums of residual connections) stay, so every block keeps its inputs
and outputs: this is how single filters were pruned before groups were known, and it is the mildest cut. The
fields are those of `prune.channels`.

Source: Li et al. 2017, arXiv:1608.08710 (section 3.2: the first layers of residual blocks).
"""

from __future__ import annotations

from typing import Literal

from mcomp_stages.methods.pruning.config import Unit
from mcomp_stages.methods.pruning.structured import StructuredPruning


class PruneFilters(StructuredPruning):
    """Cut the least important filters that stand alone, then train what is left."""

    type: Literal["prune.filters"] = "prune.filters"

    def cut_units(self) -> tuple[Unit, ...]:
        return ("filters", "neurons")
