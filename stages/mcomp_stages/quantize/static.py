"""Compute with integers without training: a few samples, no labels, set the ranges.

    static:
      type: quantize.static
      weights: {bits: 8}
      activations: {bits: 8}
      observer: {type: kl}
      weight_range: least_squares
      samples: 128
      equalize: true
      bias_correction: true
      keep_float: []
      overrides:
        - {layer: first, weights: {bits: 8}}

Quantizers are put where ONNX Runtime can fuse them. `samples` of the calibration split run through the float
model once; `observer` makes ranges of what it sees, with memory that does not grow with the samples. Weights
have a scale for each output channel, over the range that rounds them with the least squared error
(`least_squares`), or over all of it (`extremes`). With 7 bits (-63..63) ONNX Runtime's fast kernels are exact
on processors without VNNI too. `overrides` give chosen layers other settings, as in `quantize.qat`.

`equalize` shares out the ranges of channels between layers before anything is rounded; `bias_correction`
gives each channel its mean back afterwards.

Sources: Migacz 2017 (ranges by divergence); Nagel et al. 2019, arXiv:1906.04721 (equalisation, biases).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from mcomp.config import shortens_to
from mcomp.stage import Checkpoint, Context, Form, StageConfig, StageResult
from mcomp_stages.methods.quantization.config import Scheme
from mcomp_stages.methods.quantization.observers.config import KL, ObserverChoice

if TYPE_CHECKING:
    from mcomp.model.model import Model
    from mcomp_stages.methods.quantization.post_training.pipeline import PostTraining


class QuantizeStatic(Scheme, StageConfig):
    """Post-training quantization: by default weights s8 per channel and activations u8 per tensor."""

    forms = {Form.FLOAT: Form.QUANTIZED}

    type: Literal["quantize.static"] = "quantize.static"
    observer: Annotated[
        ObserverChoice, Field(description="how the ranges of activations follow from the samples")
    ] = KL()
    weight_range: Annotated[
        Literal["extremes", "least_squares"],
        Field(description="ends of a weight's grid: its extremes, or what rounds it with the least error"),
    ] = "least_squares"
    samples: int = shortens_to(4, default=128, ge=2, description="calibration samples")
    equalize: Annotated[bool, Field(description="share out the ranges of channels between layers")] = False
    bias_correction: Annotated[
        bool, Field(description="give each channel its mean back through the biases")
    ] = False

    def run(self, model: Model, context: Context) -> StageResult:
        from mcomp.training.device import borrowed_threads

        with borrowed_threads(context.compute.threads):
            how = self.post_training(context)
            prepared, facts = how.prepared(model)
            reference = self.calibrated(prepared, how, context)
            result, more = how.finished(reference, reference)
            return StageResult(result, facts={**facts, **more, **self.proven(reference, result, how)})

    def post_training(self, context: Context) -> PostTraining:
        """Return how the model is quantized, with the samples that it is quantized by."""
        from mcomp_stages.methods.calibration import calibration_inputs
        from mcomp_stages.methods.quantization.post_training.pipeline import PostTraining

        return PostTraining(
            context.example,
            calibration_inputs(context, self.samples),
            self.observer,
            self.weight_range,
            equalize=self.equalize,
            bias_correction=self.bias_correction,
        )

    def calibrated(self, prepared: Model, how: PostTraining, context: Context) -> Model:
        """Return the model with its quantizers, as they are or were found."""
        from mcomp_stages.methods.quantization.edit import Quantizers

        def compute() -> Checkpoint:
            found = how.quantized(prepared, self)
            return Checkpoint(found.state, {"edit": found.edits[-1].model_dump(mode="json")})

        done = context.unit("calibration", compute)
        model = prepared.edited(Quantizers.model_validate(done.numbers["edit"]))
        model.state.update(done.tensors)
        return model

    def proven(self, reference: Model, result: Model, how: PostTraining) -> dict[str, Any]:
        """Return what the report says, after the proof that what is served is this model."""
        from mcomp_stages.methods.quantization.compare import require_equal
        from mcomp_stages.methods.quantization.edit import Quantizers
        from mcomp_stages.methods.quantization.sqnr import site_sqnr

        edit = result.edits[-1]
        assert isinstance(edit, Quantizers)
        comparison = require_equal(result, how.example, how.batches[0])
        ratios = site_sqnr(reference, result, how.example, how.batches)
        return {**edit.facts(), "sqnr_db": ratios, "converted": asdict(comparison)}
