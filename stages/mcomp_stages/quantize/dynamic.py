"""Round weights to integers now, and inputs when they come. No training, no labels.

    dynamic:
      type: quantize.dynamic
      bits: 8
      operators: [linear, matmul, embedding]
      smoothing: search
      samples: 128
      keep_float: []
      overrides:
        - {modules: classifier, bits: 16}

For transformers, whose time goes into linears. With 8 bits (7: exact and fast on processors without VNNI) the
runtime finds the range of a linear's input when it comes, rounds it to 8 bits and multiplies integers, all in
one operator; embeddings are looked up as integers. With 16 bits only the weights change: half the bytes, the
products in float. Every output of a weight has a scale of its own.

`smoothing` divides the channels of an input by a vector, by which the weights are multiplied: outliers then
stretch the input's range less. `search` finds for each input whether that pays and how strongly, from
calibration samples; a number is the strength for all; null leaves inputs as they are and looks at no samples.

`matmul` is a product with a raw parameter; products of two activations stay in float, where integers gain
nothing. `convolution` keeps the weights of convolutions in integers, for their size: the runtime makes floats
of them when it loads the file.

Source of the smoothing: Xiao et al. 2022, arXiv:2211.10438. Differs: see `weights/smoothing.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from mcomp.config import Config, module_patterns, shortens_to
from mcomp.stage import Checkpoint, Context, Form, StageConfig, StageResult

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from mcomp.model.model import Model
    from mcomp.sensitivity.trials import Trials
    from mcomp_stages.methods.quantization.weights.dynamic import Smoothing
    from mcomp_stages.methods.quantization.weights.uses import UsedWeight

DynamicBits = Literal[7, 8, 16]
Operator = Literal["linear", "matmul", "embedding", "convolution"]


class DynamicOverride(Config):
    """Another width for chosen layers; where several choose the same layer, the last one holds."""

    modules: Annotated[str, module_patterns(description="pattern of layers, or of what holds them")]
    bits: DynamicBits


class QuantizeDynamic(StageConfig):
    """Integer weights, and inputs rounded at run time."""

    forms = {Form.FLOAT: Form.STORED}
    varies = "bits"

    type: Literal["quantize.dynamic"] = "quantize.dynamic"
    bits: Annotated[
        DynamicBits, Field(description="of the weights; 7 and 8 multiply in integers, 16 in float")
    ] = 8
    operators: Annotated[
        tuple[Operator, ...], Field(min_length=1, description="the operators whose weights are rounded")
    ] = ("linear", "matmul", "embedding")
    smoothing: Annotated[
        Literal["search"] | Annotated[float, Field(gt=0, lt=1)] | None,
        Field(description="how much of the inputs' outliers moves into the weights"),
    ] = "search"
    samples: int = shortens_to(4, default=128, ge=2, description="calibration samples for the smoothing")
    keep_float: Annotated[
        tuple[str, ...],
        module_patterns(description="patterns of layers, or of what holds them, that stay in float"),
    ] = ()
    overrides: Annotated[
        tuple[DynamicOverride, ...], Field(description="another width for chosen layers")
    ] = ()

    @model_validator(mode="after")
    def operators_are_named_once(self) -> QuantizeDynamic:
        """Refuse a list that says the same twice."""
        if len(set(self.operators)) < len(self.operators):
            raise ValueError("operators: names one twice")
        return self

    def calibration_samples(self) -> int:
        return self.samples if self.smoothing is not None else 0

    def run(self, model: Model, context: Context) -> StageResult:
        from mcomp.training.device import borrowed_threads
        from mcomp_stages.methods.quantization.training_graph import canonical_graph
        from mcomp_stages.methods.quantization.weights.dynamic import dynamically_quantized, with_stored

        def compute() -> Checkpoint:
            return dynamically_quantized(captured, model, chosen, bits, self.smoothed(context))

        with borrowed_threads(context.compute.threads):
            captured = canonical_graph(model.module, context.example)
            chosen, bits = self.chosen(captured, model)
            done = context.unit("weights", compute)
            result = with_stored(model, done)
            return StageResult(result, facts=self.facts(model, result, done, context))

    def trials(self, model: Model, context: Context, levels: tuple[float, ...]) -> Trials:
        from mcomp_stages.methods.quantization.training_graph import canonical_graph
        from mcomp_stages.methods.quantization.weights.dynamic import dynamically_quantized
        from mcomp_stages.methods.quantization.weights.dynamic_trials import Fields, Rounded, dynamic_trials

        captured = canonical_graph(model.module, context.example)
        chosen, bits = self.chosen(captured, model)
        smoothing = self.smoothed(context)

        def round_all(width: int) -> Checkpoint:
            return dynamically_quantized(captured, model, chosen, dict.fromkeys(bits, width), smoothing)

        said = Fields(self.keep_float, [each.model_dump(mode="json") for each in self.overrides])
        return dynamic_trials(Rounded(model, context.example, round_all), chosen, bits, said, levels)

    def chosen(self, captured: GraphModule, model: Model) -> tuple[list[UsedWeight], dict[str, int]]:
        """Return the weights to round and the width of each. Raises StageError if there are none."""
        from mcomp.errors import StageError
        from mcomp_stages.methods.quantization.weights.uses import inside, used_weights

        weights = {
            weight.name: weight
            for weight in used_weights(captured, model.module)
            if weight.operators & set(self.operators)
        }
        bits: dict[str, int] = dict.fromkeys(weights, self.bits)
        for override in self.overrides:
            bits |= dict.fromkeys(inside(model.module, weights, override.modules), override.bits)
        for pattern in self.keep_float:
            for name in inside(model.module, weights, pattern):
                bits.pop(name, None)
        if not bits:
            raise StageError(
                f"there is no {' or '.join(self.operators)} to quantize; choose others in operators:"
                + (", or keep fewer in float" if self.keep_float else "")
            )
        return [weights[name] for name in bits], bits

    def smoothed(self, context: Context) -> Smoothing:
        """Return how inputs are smoothed, with the samples for it."""
        from mcomp_stages.methods.calibration import calibration_inputs
        from mcomp_stages.methods.quantization.weights.dynamic import Smoothing

        if self.smoothing is None:
            return Smoothing(())
        strength = None if self.smoothing == "search" else self.smoothing
        return Smoothing(calibration_inputs(context, self.samples), strength, context.unit)

    def facts(self, model: Model, result: Model, done: Checkpoint, context: Context) -> dict[str, Any]:
        """Return what the report says, after the proof that the integers are those of the rounded weights."""
        import torch

        from mcomp_stages.methods.quantization.weights.edit import StoredWeights
        from mcomp_stages.methods.quantization.weights.proof import require_same_outputs, signal_to_noise_db
        from mcomp_stages.methods.quantization.weights.size import bytes_by_width

        inputs = context.data.split("calibration").batch(torch.arange(2)).inputs
        edit = result.edits[-1]
        assert isinstance(edit, StoredWeights)
        return {
            "bytes": bytes_by_width(result.module, result.state, edit.weights),
            "bits": {name: record.bits for name, record in edit.weights.items()},
            "smoothing": done.numbers["smoothing"],
            "converted": {
                "output_error": require_same_outputs(result, context.example, inputs, inputs_in_float=True),
                "output_sqnr_db": signal_to_noise_db(model, result, context.example, inputs),
            },
        }
