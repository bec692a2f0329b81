"""Compute with integers without training: a few samples, no labels, set the ranges.

    static:
      type: quantize.static
      weights: {bits: 8, sums: int16}
      activations: {bits: 8}
      observer: {type: mse}
      weight_range: least_squares
      samples: 128
      equalize: true
      smoothquant: {strength: null}
      adaround: {per: layer, steps: 1000}
      bias_correction: true
      tolerance: {drop: 0.005, fallback: float}
      keep_float: []
      overrides:
        - {layer: first, weights: {bits: 8}}

Quantizers are put where ONNX Runtime can fuse them. `samples` of the calibration split run through the float
model once; `observer` makes ranges of what it sees, with memory that does not grow with the samples. Weights
have a scale for each output channel, over the range that rounds them with the least squared error
(`least_squares`), or over all of it (`extremes`). `sums: int16` makes them coarser by as much as it takes, up
to twice, that ONNX Runtime's fast kernels are exact on processors without VNNI too; 7 bits always do.
`overrides` give chosen layers other settings, as in `quantize.qat`.

What can be switched on: `equalize` shares out the ranges of channels between layers before anything is
rounded. `smoothquant` moves outliers of linears' inputs into their weights, where a norm or a linear comes
before; without a `strength` (0 to 1) it finds the best for each input. `adaround` chooses for each weight
whether it goes up or down, so that the outputs of its layer (or residual block) stay; with 4 bits and less it
recovers most of what rounding to nearest loses, in minutes. `bias_correction` gives each channel its mean
back. `tolerance` measures on validation, with its labels, and gives the layers that cost most back to float,
or to `fallback: 8` or `16` bits, until no more than `drop` is lost.

Sources: Migacz 2017 (ranges by divergence); Nagel et al. 2019, arXiv:1906.04721 (equalisation, biases);
Xiao et al. 2022, arXiv:2211.10438 (SmoothQuant); Nagel et al. 2020, arXiv:2004.10568 (AdaRound).
Differs: see the modules in `mcomp_stages/methods/quantization/post_training`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from mcomp.config import shortens_to
from mcomp.stage import Checkpoint, Context, Form, StageConfig, StageResult
from mcomp_stages.methods.quantization.config import Scheme
from mcomp_stages.methods.quantization.observers.config import MSE, ObserverChoice
from mcomp_stages.methods.quantization.post_training.config import AdaRound, SmoothQuant, Tolerance

if TYPE_CHECKING:
    from mcomp.model.model import Model
    from mcomp.sensitivity.trials import Trials
    from mcomp_stages.methods.quantization.post_training.pipeline import PostTraining
    from mcomp_stages.methods.quantization.post_training.tolerance import Search


class QuantizeStatic(Scheme, StageConfig):
    """Post-training quantization: by default weights s8 per channel and activations u8 per tensor."""

    forms = {Form.FLOAT: Form.QUANTIZED}
    varies = "bits"

    type: Literal["quantize.static"] = "quantize.static"
    observer: Annotated[
        ObserverChoice, Field(description="how the ranges of activations follow from the samples")
    ] = MSE()
    weight_range: Annotated[
        Literal["extremes", "least_squares"],
        Field(description="ends of a weight's grid: its extremes, or what rounds it with the least error"),
    ] = "least_squares"
    samples: int = shortens_to(4, default=128, ge=2, description="calibration samples")
    equalize: Annotated[bool, Field(description="share out the ranges of channels between layers")] = False
    smoothquant: Annotated[
        SmoothQuant | None, Field(description="move outliers of linears' inputs into their weights")
    ] = None
    adaround: Annotated[
        AdaRound | None, Field(description="round weights as their layers' outputs need it, not to nearest")
    ] = None
    bias_correction: Annotated[
        bool, Field(description="give each channel its mean back through the biases")
    ] = False
    tolerance: Annotated[
        Tolerance | None, Field(description="give layers back until no more than this is lost on validation")
    ] = None

    def calibration_samples(self) -> int:
        return self.samples

    def run(self, model: Model, context: Context) -> StageResult:
        from mcomp.training.device import borrowed_threads

        with borrowed_threads(context.compute.threads):
            how = self.post_training(context)
            prepared, facts = how.prepared(model)
            quantized = self.calibrated(prepared, how, context)
            weights, rounding = how.roundings(quantized)
            result, biases = how.finished(quantized, weights)
            facts |= {**rounding, **biases}
            if self.tolerance is not None and not context.rehearsal:
                found = self.search(self.tolerance, context).within(
                    self, prepared, result, lambda scheme: how.anew(prepared, scheme, quantized, weights)[1]
                )
                quantized, result = how.anew(prepared, found.scheme, quantized, weights)
                facts["tolerance"] = found.facts()
            return StageResult(result, facts={**facts, **proven(quantized, result, how)})

    def trials(self, model: Model, context: Context, levels: tuple[float, ...]) -> Trials:
        from mcomp_stages.methods.quantization.trials import quantization_trials

        how = self.post_training(context)
        prepared, _ = how.prepared(model)
        return quantization_trials(
            self, lambda scheme: how.quantized(prepared, scheme), context.example, levels
        )

    def post_training(self, context: Context) -> PostTraining:
        """Return how the model is quantized, with the samples that it is quantized by."""
        from mcomp_stages.methods.calibration import calibration_inputs
        from mcomp_stages.methods.quantization.post_training.pipeline import PostTraining
        from mcomp_stages.methods.quantization.post_training.reconstruct import Reconstruction

        rounding = None
        if self.adaround is not None:
            rounding = Reconstruction(self.adaround, context.unit, context.steps, context.generator)
        return PostTraining(
            context.example,
            calibration_inputs(context, self.samples),
            self.observer,
            self.weight_range,
            equalize=self.equalize,
            smoothquant=self.smoothquant,
            weight_bits=self.weights.bits,
            reconstruction=rounding,
            bias_correction=self.bias_correction,
            unit=context.unit,
        )

    def calibrated(self, prepared: Model, how: PostTraining, context: Context) -> Model:
        """Return the model with its quantizers, as they are or were found."""
        from mcomp_stages.methods.quantization.edit import Quantizers

        def compute() -> Checkpoint:
            found = how.quantized(prepared, self, context.steps)
            # As text: the sites stay in the order of the graph.
            return Checkpoint(found.state, {"edit": found.edits[-1].model_dump_json()})

        done = context.unit("calibration", compute)
        model = prepared.edited(Quantizers.model_validate_json(done.numbers["edit"]))
        model.state.update(done.tensors)
        return model

    def search(self, tolerance: Tolerance, context: Context) -> Search:
        """Return how layers are given back: by what they cost on validation."""
        from mcomp.measure.accuracy import evaluate
        from mcomp_stages.methods.quantization.post_training.tolerance import Search

        validation = context.data.split("validation")
        return Search(
            tolerance,
            lambda module: evaluate(module, validation, context.task),
            context.task.direction == "higher",
            context.example,
            context.figure,
        )


def proven(reference: Model, result: Model, how: PostTraining) -> dict[str, Any]:
    """Return what the report says, after the proof that what is served is this model."""
    from mcomp_stages.methods.quantization.compare import require_equal
    from mcomp_stages.methods.quantization.sensitivity import quantizers_of
    from mcomp_stages.methods.quantization.sqnr import site_sqnr

    comparison = require_equal(result, how.example, how.batches[0])
    ratios = site_sqnr(reference, result, how.example, how.batches)
    return {**quantizers_of(result).facts(), "sqnr_db": ratios, "converted": asdict(comparison)}
