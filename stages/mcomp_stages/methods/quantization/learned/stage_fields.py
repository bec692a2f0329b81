"""The fields and the work that stages which train quantizers have in common. Free of torch at the top."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from mcomp.config import Config, shortens_to
from mcomp.stage import Checkpoint, Context, StageResult
from mcomp_stages.methods.distillation.config import DistilledTraining
from mcomp_stages.methods.quantization.config import Scheme
from mcomp_stages.methods.quantization.learned.config import Method
from mcomp_stages.methods.quantization.observers.config import ObserverChoice

if TYPE_CHECKING:
    from torch import Tensor

    from mcomp.model.model import Model
    from mcomp.sensitivity.trials import Trials
    from mcomp.training.loop import Fit
    from mcomp_stages.methods.quantization.edit import Quantizers


class Lowered(Config):
    """A part of the training in which no grid has fewer bits."""

    bits: Annotated[int, Field(ge=3, le=8, description="of weights and activations, at least")]
    epochs: Annotated[int, shortens_to(1, ge=1)] = 1


class QuantizedTraining(Scheme):
    """How quantizers train; a stage inherits it beside `StageConfig`."""

    method: Annotated[
        Method | None, Field(description="how grids train; default: lsq below 8 bits, minmax at 8 and above")
    ] = None
    observer: Annotated[
        ObserverChoice | None,
        Field(
            description="how the first ranges follow from the calibration batches; default: mse for lsq "
            "and lsq+, minmax for the others"
        ),
    ] = None
    calibration_batches: Annotated[int, Field(ge=1, description="batches that set the first ranges")] = 8
    moving_ranges: Annotated[
        float, Field(ge=0, le=1, description="share of the training steps in which ranges follow the data")
    ] = 0.75
    moving_statistics: Annotated[
        float,
        Field(ge=0, le=1, description="share of the steps in which batch norm's statistics follow the data"),
    ] = 1.0
    lowering: Annotated[
        tuple[Lowered, ...], Field(description="wider grids to train before, each from the one before")
    ] = ()
    latent_weights: Annotated[
        bool,
        Field(
            description="keep what weights below 8 bits were rounded from, to train on; else their integers"
        ),
    ] = False
    training: DistilledTraining

    def finished(self, model: Model, final: Quantizers, context: Context) -> StageResult:
        """Train a float model with quantizers, convert it, and return it with what the report says."""
        from mcomp_stages.methods.quantization.compare import require_equal
        from mcomp_stages.methods.quantization.edit import without_quantizers
        from mcomp_stages.methods.quantization.packing import with_packed_weights

        batches, before = self.batches(context), []
        for part in self.lowering:
            fitted = self.trained(model, final.at_least(part.bits), part, context, batches)
            before.append({"bits": part.bits, **fitted.facts()})
            model = without_quantizers(fitted.model)
        fitted = self.trained(model, final, None, context, batches)
        result = fitted.model if self.latent_weights else with_packed_weights(fitted.model, context.example)
        comparison = require_equal(result, context.example, batches[0])
        facts: dict[str, Any] = {**fitted.facts(), **final.facts(), "converted": asdict(comparison)}
        return StageResult(result, facts={**facts, "lowering": before} if before else facts)

    def edit(self, model: Model, context: Context) -> Quantizers:
        """Return the quantizers that the recipe asks for, with the methods that train them."""
        from mcomp.training.device import borrowed_threads
        from mcomp_stages.methods.quantization.learned.assign import with_methods
        from mcomp_stages.methods.quantization.scheme import quantizers_for

        with borrowed_threads(context.compute.threads):
            edit = quantizers_for(model.module, context.example, self)
        return with_methods(edit, self.method.type if self.method else None, context.example)

    def trained(
        self,
        model: Model,
        edit: Quantizers,
        part: Lowered | None,
        context: Context,
        batches: list[dict[str, Tensor]],
    ) -> Fit:
        """Calibrate and train a model with these quantizers, for a part of the lowering or for good."""
        from mcomp.training.optimizers import OwnRates
        from mcomp_stages.methods.distillation.training import fit_with_teachers
        from mcomp_stages.methods.quantization.calibrate import with_moving_ranges
        from mcomp_stages.methods.quantization.training_graph import norms_still_after

        where = f"-at-{part.bits}-bits" if part else ""
        training = self.training.model_copy(update={"epochs": part.epochs}) if part else self.training
        inserted = model.edited(edit)
        ready = context.unit(f"calibration{where}", lambda: self.calibrated(inserted, context, batches))
        inserted.state.update(ready.tensors)
        num_steps = training.epochs * self.steps_per_epoch(context)
        return fit_with_teachers(
            with_moving_ranges(inserted, int(self.moving_ranges * num_steps)),
            training,
            context,
            label=f"quantize{where}",
            own_rates=OwnRates("quantizers.", self.scale_lr, getattr(self.method, "weight_decay", 0.0)),
            prepare=norms_still_after(self.moving_statistics * num_steps),
        )

    def before_training(
        self, model: Model, context: Context, levels: tuple[float, ...], free: int | None = None
    ) -> Trials:
        """Return the trials of layers with calibrated quantizers, as `quantization_trials` does."""
        from mcomp_stages.methods.quantization.trials import quantization_trials

        batches = self.batches(context)

        def quantized(stage: QuantizedTraining) -> Model:
            inserted = model.edited(stage.edit(model, context))
            inserted.state.update(stage.calibrated(inserted, context, batches).tensors)
            return inserted

        return quantization_trials(self, quantized, context.example, levels, free)

    @property
    def scale_lr(self) -> float:
        """The learning rate of the learned scales: steps are small numbers, and must stay above zero."""
        return getattr(self.method, "lr", None) or 0.1 * self.training.optimizer.lr

    def batches(self, context: Context) -> list[dict[str, Tensor]]:
        """Return the inputs that set the first ranges."""
        import torch

        split = context.data.split("calibration")
        positions = torch.split(torch.arange(len(split)), context.batch_size)[: self.calibration_batches]
        return [split.batch(some).inputs for some in positions]

    def calibrated(self, model: Model, context: Context, batches: list[dict[str, Tensor]]) -> Checkpoint:
        """Return the tensors of calibrated quantizers."""
        from mcomp.training.device import borrowed_threads
        from mcomp_stages.methods.quantization.calibrate import calibrated
        from mcomp_stages.methods.quantization.learned.start import with_first_scales

        weights_from = getattr(self.method, "weights_from", None)
        with borrowed_threads(context.compute.threads):
            started = with_first_scales(model, weights_from)
            return Checkpoint(calibrated(started, context.example, batches, self.observer).state)

    def steps_per_epoch(self, context: Context) -> int:
        """Return the number of updates in an epoch."""
        from mcomp.data.sampler import cut_batches

        return len(cut_batches(len(context.data.split("train")), context.batch_size))
