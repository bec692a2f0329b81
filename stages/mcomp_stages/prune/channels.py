"""Cut whole channels: smaller tensors, the same architecture, no special runtime.

    prune:
      type: prune.channels
      importance: l2
      target: {macs: 0.5}
      recover: {epochs: 4}

Which channels must go together is found by running the model's graph on labels, so residual connections,
concatenations, grouped convolutions, attention (a head goes as a whole) and norms need no list of layers.
Channels that feed the model's output, or an operator that is not understood, stay. After the cut the model
is compared with the original with the same channels set to zero (a norm over channels is one over those that
stay); the stage fails if they differ.

`target` is at most what stays (`macs`, `params`: shares to keep; `ratio`: share of channels to remove).
`layers` sets other limits for some layers, or fixes what they lose:

    prune:
      type: prune.channels
      layers: [{match: "layer1.*", ratio: 0.25}, {match: "layer3.*", ratio: 0.5}]

`importance`: `l1`, `l2` (norm of all weights of a group), `fpgm` (distance to the other filters of the
layer), `bn_scale` (scale of its norms), `taylor` and `obd` (what the loss would change by, to first and
second order, on labelled calibration samples), `apoz` (how often it is active), `random` (a control).
`normalization` makes scores of different layers comparable: by the mean of the layer, as a share of all that
are not smaller (`lamp`), or by ranks among layers of one structure (`isomorphic`). `units` restricts what is
cut: `filters` of one convolution, `neurons` of one linear, `heads` of attention, `width` (channels that
several layers share). One-shot pruning costs much accuracy that comes back with training: give `recover`,
best with `teachers`.

Sources: Li et al. 2017, arXiv:1608.08710 (norms); He et al. 2019, arXiv:1811.00250 (fpgm); Liu et al. 2017,
arXiv:1708.06519 (bn_scale); Molchanov et al. 2019, arXiv:1906.10771 (taylor); LeCun et al. 1990, Optimal
Brain Damage (obd); Hu et al. 2016, arXiv:1607.03250 (apoz); Lee et al. 2021, arXiv:2010.07611 (lamp); Fang et
al. 2023, arXiv:2301.12900 (groups), and 2024, arXiv:2407.04616 (isomorphic).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mcomp_stages.methods.pruning.config import Unit
from mcomp_stages.methods.pruning.structured import StructuredPruning


class PruneChannels(StructuredPruning):
    """Cut the least important channels down to a target, then train what is left."""

    version: ClassVar[str] = "2"

    type: Literal["prune.channels"] = "prune.channels"
    units: Annotated[
        tuple[Unit, ...] | None, Field(min_length=1, description="what may be cut; default: everything")
    ] = None

    def cut_units(self) -> tuple[Unit, ...] | None:
        return self.units
