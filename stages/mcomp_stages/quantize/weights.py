"""Keep weights in 2 to 8 bits; activations stay in float. No training, no labels.

    weights:
      type: quantize.weights
      method: gptq
      bits: 4
      group_size: 32
      symmetric: false
      range: extremes
      samples: 128
      unpack: load
      keep_float: []

Linears, convolutions and embeddings become integers with a scale for each group of neighbours. `rtn` rounds
to nearest; `hqq` finds scales that serve most weights and give up on outliers, also without samples; `gptq`
rounds column after column and lets the rest of a row make up for it, layer after layer, on unlabelled
calibration samples; `awq` stores the columns of linears whose inputs are large larger, so that they are
rounded finer.

`unpack: load`: the runtime makes floats of the weights when it loads the file, which is then as fast as a
float one and as large in memory; any width, any layer. `product`: linears stay packed in memory and are
unpacked inside the product (MatMulNBits: 2, 4 or 8 bits, groups of 16, 32, 64, ...). Embeddings are looked up
packed in both.

Sources: Badri & Shaji 2023 (HQQ); Frantar et al. 2022, arXiv:2210.17323 (GPTQ); Lin et al. 2023,
arXiv:2306.00978 (AWQ). Differs: see the modules in `mcomp_stages/methods/quantization/weights`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from mcomp.config import module_patterns, shortens_to
from mcomp.stage import Context, Form, StageConfig, StageResult
from mcomp_stages.methods.quantization.weights.config import WeightOverride, WeightSettings, has_product

if TYPE_CHECKING:
    from mcomp.model.model import Model
    from mcomp.sensitivity.trials import Trials
    from mcomp_stages.methods.quantization.weights.choice import Chosen
    from mcomp_stages.methods.quantization.weights.compress import Compression
    from mcomp_stages.methods.quantization.weights.record import Unpack


class QuantizeWeights(WeightSettings, StageConfig):
    """Weights alone in few bits, by rounding, half-quadratic scales, GPTQ or activation-aware scaling."""

    version = "2"

    forms = {Form.FLOAT: Form.STORED}
    varies = "bits"

    type: Literal["quantize.weights"] = "quantize.weights"
    method: Annotated[
        Literal["rtn", "hqq", "gptq", "awq"], Field(description="gptq and awq look at calibration samples")
    ] = "gptq"
    range: Annotated[
        Literal["extremes", "least_squares"],
        Field(description="ends of a grid: the group's extremes, or what rounds it with the least error"),
    ] = "extremes"
    samples: int = shortens_to(4, default=128, ge=2, description="calibration samples for gptq and awq")
    damping: Annotated[
        float, Field(gt=0, lt=1, description="gptq: added to the Hessian's diagonal, relative to its mean")
    ] = 0.01
    by_activity: Annotated[
        bool, Field(description="gptq: columns with the largest inputs first, on grids of the first weights")
    ] = True
    unpack: Annotated[
        Literal["load", "product"], Field(description="when the runtime makes floats of the weights")
    ] = "load"
    keep_float: Annotated[
        tuple[str, ...],
        module_patterns(description="patterns of layers, or of what holds them, that stay in float"),
    ] = ()
    overrides: Annotated[
        tuple[WeightOverride, ...], Field(description="other settings for chosen layers")
    ] = ()

    @model_validator(mode="after")
    def settings_fit(self) -> QuantizeWeights:
        """Refuse what the method has no use for, and a product that the runtime does not have."""
        if self.method == "hqq" and self.range != "extremes":
            raise ValueError("hqq finds its own ranges: leave out range")
        settings = [self, *(override.applied(self) for override in self.overrides if not override.keep_float)]
        if self.unpack == "product" and not all(map(has_product, settings)):
            raise ValueError(
                "unpack: product is for 2, 4 or 8 bits and a group_size of 16, 32, 64 or so; "
                "unpack: load takes any"
            )
        return self

    def calibration_samples(self) -> int:
        from mcomp_stages.methods.quantization.weights.methods import WITH_SAMPLES

        return self.samples if self.method in WITH_SAMPLES else 0

    def run(self, model: Model, context: Context) -> StageResult:
        from mcomp.training.device import borrowed_threads
        from mcomp_stages.methods.quantization.weights.choice import chosen_weights
        from mcomp_stages.methods.quantization.weights.compress import compressed

        chosen = chosen_weights(model.module, self, self.keep_float, self.overrides)
        with borrowed_threads(context.compute.threads):
            result, losses = compressed(model, chosen, self.compression(chosen, context), context.unit)
        return StageResult(result, facts=self.facts(result, losses, context))

    def trials(self, model: Model, context: Context, levels: tuple[float, ...]) -> Trials:
        from mcomp_stages.methods.quantization.weights.choice import chosen_weights
        from mcomp_stages.methods.quantization.weights.trials import weight_trials

        chosen = chosen_weights(model.module, self, self.keep_float, self.overrides)
        return weight_trials(model, chosen, self.compression(chosen, context), self.overrides, levels)

    def compression(self, chosen: tuple[Chosen, ...], context: Context) -> Compression:
        """Return how the weights are compressed, with the samples if the method looks at any."""
        from mcomp_stages.methods.calibration import calibration_inputs
        from mcomp_stages.methods.quantization.weights.compress import Compression
        from mcomp_stages.methods.quantization.weights.grid import FITS
        from mcomp_stages.methods.quantization.weights.methods import WITH_SAMPLES, Options

        with_samples = self.method in WITH_SAMPLES
        return Compression(
            self.method,
            Options(FITS[self.range], self.damping, self.by_activity),
            calibration_inputs(context, self.samples) if with_samples else [],
            {each.name: self.unpacked(each) for each in chosen},
        )

    def unpacked(self, chosen: Chosen) -> Unpack:
        """Return how the runtime unpacks one weight: inside of products only those of linears."""
        from torch import nn

        return self.unpack if isinstance(chosen.layer, nn.Linear) else "load"

    def facts(self, result: Model, losses: dict[str, float | None], context: Context) -> dict[str, Any]:
        """Return what the report says, after the proof that what is served is this model."""
        import torch

        from mcomp_stages.methods.quantization.weights.edit import StoredWeights
        from mcomp_stages.methods.quantization.weights.proof import require_same_outputs
        from mcomp_stages.methods.quantization.weights.size import bytes_by_width

        inputs = context.data.split("calibration").batch(torch.arange(2)).inputs
        error = require_same_outputs(result, context.example, inputs)
        (edit,) = (edit for edit in result.edits if isinstance(edit, StoredWeights))
        return {
            "bytes": bytes_by_width(result.module, result.state, edit.weights),
            "bits": {name: record.bits for name, record in edit.weights.items()},
            "sqnr_db": losses,
            "converted": {"output_error": error},
        }
