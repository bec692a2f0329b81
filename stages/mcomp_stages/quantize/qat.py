"""Train a network that already computes with integers, of 8 bits down to 2, then fold it into them.

    qat:
      type: quantize.qat
      training:
        epochs: 2
        optimizer: {type: sgd, lr: 0.01}

Quantizers are put where ONNX Runtime can fuse them. A few calibration batches set the first ranges of the
activations. Then `method` says how grids train: `minmax` (ranges follow the data and the weights), `fixed`
(as calibration left them), `lsq` (learned steps), `lsq+` (learned steps and offsets), `pact` (learned
clipping) or `dorefa`. Without a method grids below 8 bits (7 too) learn their steps and the others follow. A
learned scale that stops being a positive number stops the training, which names it.

Weights below 8 bits are kept as packed integers; with `latent_weights` also as what they were rounded from.
Ranges that follow stay as they are for the last part of the training, and so do the statistics of batch norm,
if `moving_statistics` is below 1. `lowering` trains at wider grids first, each from the calibrated result of
the one before. With 7 bits (-63..63), or 8 and `sums: int16` where ranges follow (`minmax`), ONNX Runtime's
fast kernels are exact on processors without VNNI too; with 8 alone it needs slower ones there. `overrides`
give chosen layers other settings, by pattern (`modules: layer4.*`), class (`type: Linear`) or position
(`layer: first`); the last one that chooses a layer holds. Teachers may be given under `training`, as in
`distill.offline`.

Everything that can be set, for four bits:

    qat:
      type: quantize.qat
      weights: {bits: 4}
      activations: {bits: 4}
      method: {type: lsq, lr: 0.01, weight_decay: 0.0}
      observer: {type: mse}
      calibration_batches: 8
      moving_ranges: 0.75
      moving_statistics: 0.9
      lowering:
        - {bits: 8, epochs: 1}
      latent_weights: false
      keep_float: []
      overrides:
        - {layer: first, weights: {bits: 8}, activations: {bits: 8}}
        - {layer: last, weights: {bits: 8}, activations: {bits: 8}}
      training:
        epochs: 2
        optimizer: {type: sgd, lr: 0.01}

Sources: Jacob et al. 2018, arXiv:1712.05877; Esser et al. 2020, arXiv:1902.08153 (LSQ); the others are named
in `mcomp_stages/methods/quantization/learned`.
Differs: batch norm stays in the graph while training, and is folded exactly, sign and all, at conversion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mcomp.stage import Context, Form, StageConfig, StageResult
from mcomp_stages.methods.quantization.learned.stage_fields import QuantizedTraining

if TYPE_CHECKING:
    from mcomp.model.model import Model
    from mcomp.sensitivity.trials import Trials


class QuantizeQat(QuantizedTraining, StageConfig):
    """Quantization-aware training: by default weights s8 per channel and activations u8 per tensor."""

    version = "4"

    forms = {Form.FLOAT: Form.QUANTIZED}
    varies = "bits"

    type: Literal["quantize.qat"] = "quantize.qat"

    def run(self, model: Model, context: Context) -> StageResult:
        return self.finished(model, self.edit(model, context), context)

    def trials(self, model: Model, context: Context, levels: tuple[float, ...]) -> Trials:
        return self.before_training(model, context, levels)
