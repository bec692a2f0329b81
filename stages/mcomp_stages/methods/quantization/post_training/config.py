"""What a recipe may say about quantization after training. Free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mcomp.config import Config, shortens_to


class AdaRound(Config):
    """Weights go up or down as the outputs of their layer or block need it, not to the nearest integer."""

    per: Annotated[
        Literal["layer", "block"], Field(description="whose outputs are kept: a residual block is one")
    ] = "layer"
    steps: int = shortens_to(5, default=1000, ge=1, description="updates for each layer or block")
    batch_size: Annotated[int, Field(ge=1, description="samples of an update")] = 32
    lr: Annotated[float, Field(gt=0, description="of Adam, for numbers between down and up")] = 0.01
    regularization: Annotated[
        float, Field(gt=0, description="weight of the push to up or down, beside an error of 1 for nearest")
    ] = 1.0


class SmoothQuant(Config):
    """Outliers of linears' inputs move into the weights, where a norm or a linear comes before."""

    strength: Annotated[
        float | None,
        Field(ge=0, le=1, description="how much moves; null: what is best for each input, or nothing"),
    ] = None


class Tolerance(Config):
    """Layers that cost most are given back until what is lost on validation is within bounds."""

    drop: Annotated[
        float, Field(ge=0, description="of the task's metric on validation, against the float model")
    ] = 0.005
    fallback: Annotated[
        Literal["float", 8, 16],
        Field(description="what such a layer becomes: float, or this many bits (weights at most 8)"),
    ] = "float"
