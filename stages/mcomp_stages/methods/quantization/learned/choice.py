"""What stands at a site, by the method that trains it."""

from __future__ import annotations

from mcomp_stages.methods.quantization.binary.weights import BinaryWeight, TernaryWeight
from mcomp_stages.methods.quantization.fake_quantize import (
    ActivationQuantizer,
    FixedActivation,
    WeightQuantizer,
)
from mcomp_stages.methods.quantization.learned.dorefa import TanhWeight, UnitActivation
from mcomp_stages.methods.quantization.learned.lsq import (
    LearnedActivation,
    LearnedWeight,
    OffsetActivation,
)
from mcomp_stages.methods.quantization.learned.pact import ClippedActivation

ACTIVATIONS: dict[str, type[ActivationQuantizer]] = {
    "minmax": ActivationQuantizer,
    "fixed": FixedActivation,
    "lsq": LearnedActivation,
    "lsq+": OffsetActivation,
    "pact": ClippedActivation,
    "dorefa": UnitActivation,
}
WEIGHTS: dict[str, type[WeightQuantizer]] = {
    "minmax": WeightQuantizer,
    "fixed": WeightQuantizer,
    "lsq": LearnedWeight,
    "dorefa": TanhWeight,
    "binary": BinaryWeight,
    "ternary": TernaryWeight,
}
