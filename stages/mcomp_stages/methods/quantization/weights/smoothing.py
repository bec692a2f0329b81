# O = outputs of the linears that read one input, K = its channels, B = calibration batches
"""Smoothing: part of the inputs' outliers is moved into the weights, which are rounded more finely.

W x = (W diag(s)) (x / s) with s = max|x| ** a / max|W| ** (1 - a). A large `a` moves more.
Source: Xiao et al. 2022, arXiv:2211.10438, equation 4.
Differs: `a` is found for each input, as the one with the smallest error that rounding is expected to make
in the outputs; where that is not clearly less than without, the input stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mcomp.stage import Checkpoint, Unit
from mcomp_stages.methods.quantization.weights.grid import Width, extremes
from mcomp_stages.methods.quantization.weights.round_to_nearest import round_to_nearest

STRENGTHS = tuple(step / 20 for step in range(10, 20))
CLEARLY = 0.8  # of the expected squared error: a product with s costs time in every run
INPUT_STEPS = 255


@dataclass
class InputStatistics:
    """What is known of the input of linears: extremes of each channel by batch, and mean squares."""

    lows: list[Tensor] = field(default_factory=list)  # (K,) each
    highs: list[Tensor] = field(default_factory=list)
    squares: Tensor | None = None
    num_rows: int = 0

    def see(self, x: Tensor) -> None:
        """Take in one batch (..., K). Raises ValueError if it is not finite."""
        rows = x.detach().flatten(0, -2).double()
        if not rows.isfinite().all():
            raise ValueError("its inputs are not finite")
        self.lows.append(rows.amin(0))
        self.highs.append(rows.amax(0))
        squares = rows.square().sum(0)
        self.squares = squares if self.squares is None else self.squares + squares
        self.num_rows += len(rows)

    @property
    def largest(self) -> Tensor:
        """The largest absolute value of each channel."""
        return torch.maximum(torch.stack(self.highs).amax(0), -torch.stack(self.lows).amin(0))

    @property
    def mean_square(self) -> Tensor:
        assert self.squares is not None
        return self.squares / self.num_rows

    def rounding_variance(self, scale_K: Tensor) -> float:
        """Return the expected squared error of x / s when it is rounded over the range of its batch."""
        low = (torch.stack(self.lows) / scale_K).amin(1).clamp(max=0)
        high = (torch.stack(self.highs) / scale_K).amax(1).clamp(min=0)
        return float((((high - low) / INPUT_STEPS).square() / 12).mean())


def smoothing_scale(weight_OK: Tensor, inputs: InputStatistics, strength: float) -> Tensor:
    """Return s (K,), float64; its largest and smallest entries are each other's inverse.

    1 where an input or its weights are always zero.
    """
    input_K, weight_K = inputs.largest, weight_OK.double().abs().amax(0)
    live = (input_K > 0) & (weight_K > 0)
    if not live.any():
        return torch.ones_like(input_K)
    scale_K = input_K[live] ** strength / weight_K[live] ** (1 - strength)
    scale_K = scale_K / (scale_K.max() * scale_K.min()).sqrt()
    return torch.ones_like(input_K).masked_scatter(live, scale_K)


def expected_error(weight_OK: Tensor, inputs: InputStatistics, scale_K: Tensor, bits: int) -> float:
    """Return the mean squared error that rounding both factors is expected to make in all outputs."""
    stretched_OK = weight_OK.double() * scale_K
    rounded = round_to_nearest(stretched_OK, Width(bits, None, symmetric=True), extremes).numbers()
    from_inputs = inputs.rounding_variance(scale_K) * float(stretched_OK.square().sum())
    change_OK = rounded.double() / scale_K - weight_OK.double()
    return from_inputs + float((change_OK.square() * inputs.mean_square).sum())


def best_scale(weights_OK: Sequence[Tensor], inputs: InputStatistics, bits: int) -> tuple[Tensor, float]:
    """Return s (K,) for linears that read one input, and its strength; ones and 0 where it does not pay."""
    weight_OK = torch.cat([weight.detach() for weight in weights_OK])
    plain = torch.ones(weight_OK.shape[1], dtype=torch.float64)
    without = expected_error(weight_OK, inputs, plain, bits)
    tried = {strength: smoothing_scale(weight_OK, inputs, strength) for strength in STRENGTHS}
    errors = {strength: expected_error(weight_OK, inputs, tried[strength], bits) for strength in STRENGTHS}
    best = min(errors, key=errors.__getitem__)
    return (tried[best], best) if errors[best] < CLEARLY * without else (plain, 0.0)


def seen_once(unit: Unit, look: Callable[[], Sequence[InputStatistics]]) -> list[InputStatistics]:
    """Return what a pass over the samples shows of some inputs, in order, as one unit."""

    def compute() -> Checkpoint:
        seen = look()
        tensors: dict[str, Tensor] = {}
        for number, each in enumerate(seen):
            assert each.squares is not None
            tensors[f"{number}.lows"] = torch.stack(each.lows)
            tensors[f"{number}.highs"] = torch.stack(each.highs)
            tensors[f"{number}.squares"] = each.squares
        return Checkpoint(tensors, {"num_rows": [each.num_rows for each in seen]})

    done = unit("smoothing-inputs", compute)
    return [
        InputStatistics(
            list(done.tensors[f"{number}.lows"]),
            list(done.tensors[f"{number}.highs"]),
            done.tensors[f"{number}.squares"],
            num_rows,
        )
        for number, num_rows in enumerate(done.numbers["num_rows"])
    ]


def scale_for(
    weights_OK: Sequence[Tensor], inputs: InputStatistics, strength: float | None, bits: int
) -> tuple[Tensor, float]:
    """Return s (K,) and its strength, which is found if it is None."""
    if strength is None:
        return best_scale(weights_OK, inputs, bits)
    return smoothing_scale(torch.cat([each.detach() for each in weights_OK]), inputs, strength), strength


def scale_once(unit: Unit, number: int, find: Callable[[], tuple[Tensor, float]]) -> tuple[Tensor, float]:
    """Return the s of one input, in float64, and its strength, as a unit."""

    def compute() -> Checkpoint:
        scale_K, strength = find()
        return Checkpoint({"scale": scale_K}, {"strength": strength})

    done = unit(f"smoothing-{number}", compute)
    return done.tensors["scale"], float(done.numbers["strength"])
