"""The steps of static quantization in order: what comes before the quantizers, ranges, what comes after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp.progress import Steps, in_turn
from mcomp.stage import Unit, at_once
from mcomp_stages.methods.quantization.bias_correction import with_corrected_biases
from mcomp_stages.methods.quantization.calibrate import calibrated
from mcomp_stages.methods.quantization.config import Scheme
from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.methods.quantization.equalize import equalized
from mcomp_stages.methods.quantization.lockstep import Inputs
from mcomp_stages.methods.quantization.observers.config import ObserverChoice
from mcomp_stages.methods.quantization.post_training.config import SmoothQuant
from mcomp_stages.methods.quantization.post_training.reconstruct import Reconstruction
from mcomp_stages.methods.quantization.post_training.smooth import smoothed
from mcomp_stages.methods.quantization.post_training.weight_ranges import (
    set_weight_ranges,
    with_stored_scales,
)
from mcomp_stages.methods.quantization.scheme import quantizers_for
from mcomp_stages.methods.quantization.sensitivity import quantizers_of


@dataclass(frozen=True)
class PostTraining:
    """How a model is quantized by a few samples: on which inputs, and with what.

    `example` is what graphs are captured with; `batches` are the calibration inputs. `unit` keeps what is
    found beforehand (`mcomp.stage.Context.unit`).
    """

    example: Inputs
    batches: Sequence[Inputs]
    observer: ObserverChoice
    weight_range: str
    equalize: bool = False
    smoothquant: SmoothQuant | None = None
    weight_bits: int = 8
    reconstruction: Reconstruction | None = None
    bias_correction: bool = False
    unit: Unit = at_once

    def prepared(self, model: Model) -> tuple[Model, dict[str, Any]]:
        """Return a float model that computes the same and rounds better, and what was done."""
        facts: dict[str, Any] = {}
        if self.equalize:
            model, facts["equalized"] = equalized(model, self.example)
        if self.smoothquant is not None:
            strength = self.smoothquant.strength
            model, facts["smoothed"] = smoothed(
                model, self.example, self.batches, strength, self.weight_bits, self.unit
            )
        return model, facts

    def quantized(self, prepared: Model, scheme: Scheme, steps: Steps = in_turn) -> Model:
        """Return a copy with quantizers whose ranges are set.

        `steps` keeps how far the unit "calibration" is (`mcomp.stage.Context.steps`). Raises StageError
        naming a site whose values are not finite, or all zero.
        """
        edit = with_stored_scales(quantizers_for(prepared.module, self.example, scheme))
        model = prepared.edited(edit)
        set_weight_ranges(model, edit, self.weight_range)
        model = calibrated(model, self.example, self.batches, self.observer, "calibration", steps)
        require_ranges(model, edit)
        return model

    def roundings(self, quantized: Model) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the weights that are not rounded to nearest, on their grids, and what they bring."""
        if self.reconstruction is None:
            return {}, {}
        weights, done = self.reconstruction.apply(quantized, self.example, self.batches)
        return weights, {"relative_error": {each.segment: [each.nearest, each.chosen] for each in done}}

    def finished(self, quantized: Model, weights: Mapping[str, Tensor]) -> tuple[Model, dict[str, Any]]:
        """Return a copy with these weights, and biases that make up for all roundings, and what was done."""
        result = with_weights(quantized, weights)
        if not self.bias_correction:
            return result, {}
        corrected, shifts = with_corrected_biases(quantized, result, self.example, self.batches)
        return corrected, {"bias_shifts": shifts}

    def anew(
        self, prepared: Model, scheme: Scheme, before: Model, weights: Mapping[str, Tensor]
    ) -> tuple[Model, Model]:
        """Quantize by another scheme: return the model before its weights are rounded, and as it is done.

        `weights` are the roundings found for `before`; those on grids that are still the same are taken.
        """
        quantized = self.quantized(prepared, scheme)
        old, new = quantizers_of(before).weights, quantizers_of(quantized).weights
        still = {name: weight for name, weight in weights.items() if new.get(name) == old[name]}
        return quantized, self.finished(quantized, still)[0]


def with_weights(model: Model, weights: Mapping[str, Tensor]) -> Model:
    """Return a copy with other numbers in some of its weights."""
    changed = model.copy()
    with torch.no_grad():
        for name, weight in weights.items():
            changed.module.get_parameter(name).copy_(weight)
    return changed


def require_ranges(model: Model, edit: Quantizers) -> None:
    """Raise StageError naming the first activation that was zero in all samples: its grid is unknown."""
    for site in edit.activations:
        low, high = (model.state[f"quantizers.{site}.{end}"] for end in ("low", "high"))
        if not torch.maximum(low.abs(), high.abs()) > 0:
            raise StageError(
                "it is zero in all calibration samples, so nothing is known of its range; "
                "give other samples, or keep_float: the layers that read it",
                module=site,
            )
