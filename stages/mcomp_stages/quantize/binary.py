"""Train a network whose weights are -1 or 1 (or -1, 0, 1), with activations of 32, 8, 2 or 1 bits.

    binary:
      type: quantize.binary
      weights: binary
      activations: 1
      shortcuts: true
      rprelu: true
      first_layer: false
      last_layer: false
      keep_float: []
      first_step: {epochs: 2}
      training:
        epochs: 4
        optimizer: {type: adamw, lr: 0.002}

Each output channel has one scale. The first and the last layer stay in float unless `first_layer` and
`last_layer` say otherwise. With `activations: 1` a layer reads the signs of its input, from a learned
threshold for each channel. `shortcuts` adds the input of a layer to its result where the shapes allow, and
`rprelu` puts a PReLU with learned shifts in the place of its activation. `first_step` trains all of that
around float weights first. Teachers may be given under `training`, as in `distill.offline`.

Weights lie packed, one bit or two each, in the checkpoint and in the exported file, which unpacks them and
multiplies in float: smaller, not faster. Pruned weights can be ternary, not binary.

Sources: Rastegari et al. 2016, arXiv:1603.05279 (XNOR-Net); Li et al. 2016, arXiv:1605.04711 (ternary); Liu
et al. 2018, arXiv:1808.00278 (Bi-Real Net); Liu et al. 2020, arXiv:2003.03488 (ReActNet, two steps).
Differs: activations have no scale of their own (XNOR-Net's K), as in the later two.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from mcomp.config import Config, module_patterns, shortens_to
from mcomp.stage import Checkpoint, Context, Form, StageConfig, StageResult
from mcomp_stages.methods.distillation.config import DistilledTraining

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Graph

    from mcomp.model.model import Model
    from mcomp.sensitivity.trials import Trials
    from mcomp.training.loop import Fit
    from mcomp_stages.methods.quantization.edit import Quantizers
    from mcomp_stages.methods.quantization.placement import Layer


class FirstStep(Config):
    """The part of the training in which weights are floats."""

    epochs: Annotated[int, shortens_to(1, ge=1)] = 2


class QuantizeBinary(StageConfig):
    """Binary and ternary networks: weights of one bit or two, activations of 32 bits down to one."""

    forms = {Form.FLOAT: Form.QUANTIZED}
    varies = "bits"

    type: Literal["quantize.binary"] = "quantize.binary"
    weights: Annotated[Literal["binary", "ternary"], Field(description="-1 and 1, or -1, 0 and 1")] = "binary"
    activations: Annotated[
        Literal[1, 2, 8, 32], Field(description="bits of what the layers read; 32: floats")
    ] = 1
    shortcuts: Annotated[bool, Field(description="add the input of each layer to its result")] = True
    rprelu: Annotated[bool, Field(description="a PReLU with learned shifts in place of activations")] = True
    first_layer: Annotated[bool, Field(description="change the first layer too, which costs most")] = False
    last_layer: Annotated[bool, Field(description="change the last layer too")] = False
    keep_float: Annotated[
        tuple[str, ...],
        module_patterns(description="patterns of layers, or of what holds them, that stay in float"),
    ] = ()
    calibration_batches: Annotated[int, Field(ge=1, description="batches for activations of 2 or 8 bits")] = 8
    first_step: Annotated[FirstStep | None, Field(description="train with float weights before")] = None
    training: DistilledTraining

    @model_validator(mode="after")
    def first_step_trains_something(self) -> QuantizeBinary:
        """Refuse a first step that would train the float network as it is."""
        if self.first_step and self.activations == 32 and not (self.shortcuts or self.rprelu):
            raise ValueError("first_step has nothing to get used to: activations, shortcuts or rprelu")
        return self

    def run(self, model: Model, context: Context) -> StageResult:
        from dataclasses import replace

        from mcomp_stages.methods.quantization.compare import require_equal
        from mcomp_stages.methods.quantization.edit import without_quantizers
        from mcomp_stages.methods.quantization.packing import with_packed_weights

        edit, batches, facts = self.edit(model, context), self.batches(context), dict[str, Any]()
        kept: dict[str, Tensor] = {}
        if self.first_step is not None:
            around = edit.model_copy(update={"weights": {}})
            training = self.training.model_copy(update={"epochs": self.first_step.epochs})
            fitted = self.trained(model.edited(around), training, context, batches, "first-step")
            facts["first_step"] = fitted.facts()
            kept, model = fitted.model.state, without_quantizers(fitted.model)
        inserted = model.edited(edit)
        inserted = replace(inserted, state={**inserted.state, **kept})
        fitted = self.trained(inserted, self.training, context, batches, "binary", calibrated=bool(kept))
        result = with_packed_weights(fitted.model, context.example)
        comparison = require_equal(result, context.example, batches[0])
        facts = {**fitted.facts(), **edit.facts(), **facts, "converted": asdict(comparison)}
        return StageResult(result, facts=facts)

    def trials(self, model: Model, context: Context, levels: tuple[float, ...]) -> Trials:
        from mcomp_stages.methods.quantization.binary.choose import WIDTH
        from mcomp_stages.methods.quantization.binary.trials import binary_trials

        graph, chosen = self.chosen(model, context)
        batches = self.batches(context)

        def changed(layers: tuple[Layer, ...]) -> Model:
            inserted = model.edited(self.around(model, graph, layers))
            inserted.state.update(self.calibrated(inserted, context, batches).tensors)
            return inserted

        bits = WIDTH[self.weights]
        return binary_trials(model, chosen, changed, context.example, bits, self.keep_float, levels)

    def edit(self, model: Model, context: Context) -> Quantizers:
        """Return which layers change, and what stands around them."""
        from mcomp.training.device import borrowed_threads

        with borrowed_threads(context.compute.threads):
            return self.around(model, *self.chosen(model, context))

    def chosen(self, model: Model, context: Context) -> tuple[Graph, tuple[Layer, ...]]:
        """Return the graph of a model, and the layers in it that change."""
        from mcomp_stages.methods.quantization.binary.choose import chosen_layers, quantizable

        graph, layers = quantizable(model, context.example)
        return graph, chosen_layers(model, layers, self.keep_float, self.first_layer, self.last_layer)

    def around(self, model: Model, graph: Graph, layers: tuple[Layer, ...]) -> Quantizers:
        """Return the edit that changes these layers, and what stands around them."""
        from mcomp_stages.methods.quantization.binary.choose import binary_quantizers

        return binary_quantizers(
            model,
            layers,
            graph,
            weights=self.weights,
            activations=self.activations,
            shortcuts=self.shortcuts,
            rprelu=self.rprelu,
        )

    def trained(
        self,
        model: Model,
        training: DistilledTraining,
        context: Context,
        batches: list[dict[str, Tensor]],
        label: str,
        calibrated: bool = False,
    ) -> Fit:
        """Calibrate what stands at activations, unless it is, and train."""
        from mcomp.training.optimizers import OwnRates
        from mcomp_stages.methods.distillation.training import fit_with_teachers

        if not calibrated:
            ready = context.unit(f"calibration-{label}", lambda: self.calibrated(model, context, batches))
            model.state.update(ready.tensors)
        own = OwnRates("quantizers.")
        return fit_with_teachers(model, training, context, label=label, own_rates=own)

    def calibrated(self, model: Model, context: Context, batches: list[dict[str, Tensor]]) -> Checkpoint:
        """Return the tensors of a model whose activations have ranges."""
        from mcomp.training.device import borrowed_threads
        from mcomp_stages.methods.quantization.calibrate import calibrated

        with borrowed_threads(context.compute.threads):
            return Checkpoint(calibrated(model, context.example, batches, None).state)

    def batches(self, context: Context) -> list[dict[str, Tensor]]:
        """Return the inputs that set the first ranges."""
        import torch

        split = context.data.split("calibration")
        positions = torch.split(torch.arange(len(split)), context.batch_size)[: self.calibration_batches]
        return [split.batch(some).inputs for some in positions]
