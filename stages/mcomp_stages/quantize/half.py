"""Keep weights in 16 bits, and compute in 16 bits where that is wanted. No training, no labels.

    half:
      type: quantize.half
      dtype: float16
      activations: float
      keep_float: []
      samples: 32

Weights of two axes and more become float16 (11 binary digits, up to 65504) or bfloat16 (8 digits, the range
of float32); biases and norms stay. With `activations: float` this is how they are stored: the runtime makes
floats of them when it loads the file, which takes half of the bytes, and the time of the float file. With
`activations: half` everything but norms, softmax, attention, means and sums computes in float16. ONNX Runtime
has no such kernels for x86 processors and converts around each operator: there the file is slower than float.
`keep_float` leaves modules in float.

A weight beyond 65504 is an error that names it, as is an activation on the calibration samples. Every layer's
values are compared with those of the float model.

Source: Micikevicius et al. 2018, arXiv:1710.03740 (which operators need float).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from mcomp.config import module_patterns, shortens_to
from mcomp.stage import Context, Form, StageConfig, StageResult
from mcomp_stages.methods.half.edit import HalfType

if TYPE_CHECKING:
    from mcomp.model.model import Model
    from mcomp.sensitivity.trials import Trials

# What rounding to 11 and to 8 binary digits leaves along a deep network, with room.
USUAL_SQNR_DB: dict[HalfType, float] = {"float16": 40.0, "bfloat16": 25.0}


class QuantizeHalf(StageConfig):
    """Weights of 16 bits, and activations where they are asked for."""

    forms = {Form.FLOAT: Form.STORED}
    varies = "bits"

    type: Literal["quantize.half"] = "quantize.half"
    dtype: Annotated[HalfType, Field(description="float16: more digits; bfloat16: the range of float32")] = (
        "float16"
    )
    activations: Annotated[
        Literal["float", "half"], Field(description="half: compute in float16, not only store")
    ] = "float"
    keep_float: Annotated[
        tuple[str, ...], module_patterns(description="patterns of modules that stay in float")
    ] = ()
    samples: int = shortens_to(
        4, default=32, ge=2, description="calibration samples for the overflow check and the comparison"
    )
    smallest_sqnr_db: Annotated[
        float | None,
        Field(description="of a layer's values against the float model's; 40 for float16, 25 for bfloat16"),
    ] = None

    @model_validator(mode="after")
    def runtime_has_it(self) -> QuantizeHalf:
        """Refuse arithmetic in bfloat16."""
        if self.dtype == "bfloat16" and self.activations == "half":
            raise ValueError(
                "ONNX has no convolution in bfloat16 at these opsets: set activations: float, "
                "or dtype: float16"
            )
        return self

    def calibration_samples(self) -> int:
        return self.samples

    def run(self, model: Model, context: Context) -> StageResult:
        from mcomp.training.device import borrowed_threads

        with borrowed_threads(context.compute.threads):
            return self.halved(model, context)

    def trials(self, model: Model, context: Context, levels: tuple[float, ...]) -> Trials:
        from mcomp_stages.methods.half.choice import half_weights, require_fits
        from mcomp_stages.methods.half.edit import HalfWeights
        from mcomp_stages.methods.half.trials import half_trials

        weights, kept = half_weights(model.module, self.keep_float)
        if self.dtype == "float16":
            require_fits(model.module, weights)
        edit = HalfWeights(
            dtype=self.dtype, weights=weights, activations=self.activations == "half", keep_float=kept
        )
        return half_trials(model, edit, context.example, self.keep_float, levels)

    def halved(self, model: Model, context: Context) -> StageResult:
        """Return the model in 16 bits, proven. Raises StageError."""
        from mcomp_stages.methods.calibration import calibration_inputs
        from mcomp_stages.methods.half.choice import half_weights, require_fits
        from mcomp_stages.methods.half.edit import HalfWeights
        from mcomp_stages.methods.half.proof import require_near, require_no_overflow
        from mcomp_stages.methods.quantization.training_graph import canonical_graph

        weights, kept = half_weights(model.module, self.keep_float)
        if self.dtype == "float16":
            require_fits(model.module, weights)
        batches = calibration_inputs(context, self.samples)
        original = canonical_graph(model.copy().module, context.example)
        facts = {}
        if self.activations == "half":
            facts["largest_activation"] = require_no_overflow(original, kept, batches)
        edit = HalfWeights(
            dtype=self.dtype, weights=weights, activations=self.activations == "half", keep_float=kept
        )
        result = model.edited(edit)
        served = edit.inference_module(result, context.example)
        smallest = USUAL_SQNR_DB[self.dtype] if self.smallest_sqnr_db is None else self.smallest_sqnr_db
        ratios = require_near(original, served, batches[0], smallest)
        return StageResult(result, facts={**facts, "sqnr_db": ratios, "bytes": bytes_by_type(result)})


def bytes_by_type(model: Model) -> dict[str, int]:
    """Return what the weights take on disk, by their type."""
    from mcomp.model.checkpoint import untied

    half = {
        name.removeprefix("half."): tensor for name, tensor in model.state.items() if name.startswith("half.")
    }
    once, _ = untied(model.module.state_dict())
    rest = sum(tensor.nbytes for name, tensor in once.items() if name not in half)
    return {"16 bit": sum(tensor.nbytes for tensor in half.values()), "float": rest}
