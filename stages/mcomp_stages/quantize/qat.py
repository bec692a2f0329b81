"""Train a network that already computes with 8-bit integers, then fold it into them.

    qat:
      type: quantize.qat
      weights: {bits: 8}
      activations: {bits: 8}
      observer: {type: minmax}
      calibration_batches: 8
      moving_ranges: 0.75
      keep_float: []
      overrides:
        - {layer: first, weights: {bits: 8}}
      training:
        epochs: 2
        optimizer: {type: sgd, lr: 0.01}

Quantizers are put where ONNX Runtime can fuse them. A few calibration batches set the ranges of the
activations; in training the ranges follow the data, and stay as they are for the last part. Weights have a
scale for each output channel. With 7 bits (-63..63) ONNX Runtime's fast kernels are exact on processors
without VNNI too; with 8 it needs slower ones there. `overrides` give chosen layers other settings, by pattern
(`modules: layer4.*`), class (`type: Linear`) or position (`layer: first`); the last one that chooses a layer
holds. Teachers may be given under `training`, as in `distill.offline`.

Source: Jacob et al. 2018, arXiv:1712.05877.
Differs: batch norm stays in the graph while training, and is folded exactly, sign and all, at conversion.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mcomp.stage import Checkpoint, Context, Form, StageConfig, StageResult
from mcomp_stages.methods.distillation.config import DistilledTraining
from mcomp_stages.methods.quantization.config import Scheme
from mcomp_stages.methods.quantization.observers.config import MinMax, ObserverChoice

if TYPE_CHECKING:
    from torch import Tensor

    from mcomp.model.model import Model
    from mcomp.sensitivity.trials import Trials


class QuantizeQat(Scheme, StageConfig):
    """Quantization-aware training: by default weights s8 per channel and activations u8 per tensor."""

    version = "2"

    forms = {Form.FLOAT: Form.QUANTIZED}
    varies = "bits"

    type: Literal["quantize.qat"] = "quantize.qat"
    observer: Annotated[
        ObserverChoice, Field(description="how the first ranges follow from the calibration batches")
    ] = MinMax()
    calibration_batches: Annotated[int, Field(ge=1, description="batches that set the first ranges")] = 8
    moving_ranges: Annotated[
        float, Field(ge=0, le=1, description="share of the training steps in which ranges follow the data")
    ] = 0.75
    training: DistilledTraining

    def run(self, model: Model, context: Context) -> StageResult:
        from mcomp_stages.methods.distillation.training import fit_with_teachers
        from mcomp_stages.methods.quantization.calibrate import with_moving_ranges
        from mcomp_stages.methods.quantization.compare import require_equal
        from mcomp_stages.methods.quantization.edit import Quantizers

        batches = self.batches(context)
        ranges = context.unit("calibration", lambda: self.calibrated(model, context, batches))
        edit = Quantizers.model_validate(ranges.numbers["edit"])
        inserted = model.edited(edit)
        inserted.state.update(ranges.tensors)
        start = with_moving_ranges(inserted, self.num_moving_steps(context))
        result = fit_with_teachers(start, self.training, context, label="quantize")
        comparison = require_equal(result.model, context.example, batches[0])
        facts = {**result.facts(), **edit.facts(), "converted": asdict(comparison)}
        return StageResult(result.model, facts=facts)

    def trials(self, model: Model, context: Context, levels: tuple[float, ...]) -> Trials:
        from mcomp_stages.methods.quantization.trials import calibrated_trials

        return calibrated_trials(self, model, context.example, self.batches(context), self.observer, levels)

    def batches(self, context: Context) -> list[dict[str, Tensor]]:
        """Return the inputs that set the first ranges."""
        import torch

        split = context.data.split("calibration")
        positions = torch.split(torch.arange(len(split)), context.batch_size)[: self.calibration_batches]
        return [split.batch(some).inputs for some in positions]

    def calibrated(self, model: Model, context: Context, batches: list[dict[str, Tensor]]) -> Checkpoint:
        """Return calibrated quantizers: their sites, as an edit, and its tensors."""
        from mcomp.training.device import borrowed_threads
        from mcomp_stages.methods.quantization.calibrate import calibrated
        from mcomp_stages.methods.quantization.scheme import quantizers_for

        with borrowed_threads(context.compute.threads):
            edit = quantizers_for(model.module, context.example, self)
            ready = calibrated(model.edited(edit), context.example, batches, self.observer)
        return Checkpoint(ready.state, {"edit": edit.model_dump(mode="json")})

    def num_moving_steps(self, context: Context) -> int:
        """Return the number of training steps in which the ranges follow the data."""
        from mcomp.data.sampler import cut_batches

        steps_per_epoch = len(cut_batches(len(context.data.split("train")), context.batch_size))
        return int(self.moving_ranges * self.training.epochs * steps_per_epoch)
