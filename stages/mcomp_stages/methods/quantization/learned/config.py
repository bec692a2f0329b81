"""What a recipe may say about how quantizers train. Free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mcomp.config import Config
from mcomp_stages.methods.quantization.observers.config import ObserverChoice

SCALE_LR = Field(gt=0, description="learning rate of the learned scales; default: 0.1 of the training's")
SCALE_DECAY = Field(ge=0, description="weight decay of the learned scales")
WEIGHTS_FROM = Field(
    description="how the first scales of weights follow from them; default: LSQ's 2 mean|w| / sqrt(Qp)"
)


class FollowingRanges(Config):
    """Ranges that follow the data and the weights: nothing is clipped."""

    type: Literal["minmax"] = "minmax"


class FixedScales(Config):
    """Scales as calibration left them."""

    type: Literal["fixed"] = "fixed"
    weights_from: Annotated[ObserverChoice | None, WEIGHTS_FROM] = None


class LSQ(Config):
    """Learned step sizes (Esser et al. 2020, arXiv:1902.08153)."""

    type: Literal["lsq"] = "lsq"
    lr: Annotated[float | None, SCALE_LR] = None
    weight_decay: Annotated[float, SCALE_DECAY] = 0.0
    weights_from: Annotated[ObserverChoice | None, WEIGHTS_FROM] = None


class LSQPlus(Config):
    """Learned step sizes, and learned offsets of activations (Bhalgat et al. 2020, arXiv:2004.09576)."""

    type: Literal["lsq+"] = "lsq+"
    lr: Annotated[float | None, SCALE_LR] = None
    weight_decay: Annotated[float, SCALE_DECAY] = 0.0
    weights_from: Annotated[ObserverChoice | None, WEIGHTS_FROM] = None


class PACT(Config):
    """Learned clipping of activations, DoReFa's weights (Choi et al. 2018, arXiv:1805.06085)."""

    type: Literal["pact"] = "pact"
    lr: Annotated[float | None, SCALE_LR] = None
    weight_decay: Annotated[float, SCALE_DECAY] = 5e-4


class DoReFa(Config):
    """Weights through a hyperbolic tangent, activations cut at 1 (Zhou et al. 2016, arXiv:1606.06160)."""

    type: Literal["dorefa"] = "dorefa"


Method = Annotated[FollowingRanges | FixedScales | LSQ | LSQPlus | PACT | DoReFa, Field(discriminator="type")]

ActivationMethod = Literal["minmax", "fixed", "lsq", "lsq+", "pact", "dorefa"]
WeightMethod = Literal["minmax", "fixed", "lsq", "dorefa", "binary", "ternary"]

# How the weights train beside the activations of each method.
WEIGHT_METHODS: dict[ActivationMethod, WeightMethod] = {
    "minmax": "minmax",
    "fixed": "fixed",
    "lsq": "lsq",
    "lsq+": "lsq",
    "pact": "dorefa",
    "dorefa": "dorefa",
}
# Those of which the grid of a weight is kept, and does not follow it.
WITH_STORED_SCALES = ("fixed", "lsq")
