"""The fields of `training:` and `recover:`. Free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mcomp.config import Config, no_effect, shortens_to


class SGD(Config):
    """Stochastic gradient descent with momentum (torch.optim.SGD)."""

    type: Literal["sgd"] = "sgd"
    lr: Annotated[float, Field(gt=0, description="learning rate at its highest")] = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    nesterov: bool = True


class AdamW(Config):
    """Adam with decoupled weight decay (torch.optim.AdamW)."""

    type: Literal["adamw"] = "adamw"
    lr: Annotated[float, Field(gt=0, description="learning rate at its highest")] = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: Annotated[float, Field(ge=0)] = 0.01


class Constant(Config):
    """The learning rate stays as it is."""

    type: Literal["constant"] = "constant"


class Cosine(Config):
    """Half a cosine from the learning rate down to `final` times it, after a linear warm-up."""

    type: Literal["cosine"] = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1, description="share of all steps")] = 0.0
    final: Annotated[float, Field(ge=0, le=1, description="share of the learning rate at the end")] = 0.0


class OneCycle(Config):
    """Up, then down to nearly zero (torch's OneCycleLR; Smith and Topin 2018, arXiv:1708.07120)."""

    type: Literal["one_cycle"] = "one_cycle"
    warmup: Annotated[float, Field(gt=0, lt=1, description="share of all steps")] = 0.3


class Step(Config):
    """Multiply the learning rate by `gamma` at each milestone."""

    type: Literal["step"] = "step"
    milestones: Annotated[tuple[float, ...], Field(description="shares of all steps")] = (0.5, 0.75)
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.1


class EarlyStop(Config):
    """Stop when validation has not improved for `patience` epochs."""

    patience: Annotated[int, Field(ge=1)] = 5


class Checkpointing(Config):
    """How often a training is saved while it runs, so that it can go on there: whichever comes first."""

    every_seconds: Annotated[float, Field(gt=0)] = 30.0
    every_steps: Annotated[int | None, Field(ge=1, description="updates of the weights")] = None


class Gradients(Config):
    """Gradients in few bits, as hardware for training on integers would have them.

    What each convolution and linear gets back is rounded, with a scale for each sample (DoReFa-Net, Zhou et
    al. 2016, arXiv:1606.06160, eq. 12).
    """

    bits: Annotated[int, Field(ge=2, le=8)] = 8
    rounding: Annotated[
        Literal["stochastic", "nearest"],
        Field(description="stochastic: with uniform noise of one step, right on average"),
    ] = "stochastic"


class Training(Config):
    """How a stage trains."""

    epochs: Annotated[int, shortens_to(1, ge=1)]
    optimizer: Annotated[SGD | AdamW, Field(discriminator="type")] = SGD()
    schedule: Annotated[Constant | Cosine | OneCycle | Step, Field(discriminator="type")] = Cosine()
    clip_norm: Annotated[float | None, Field(gt=0, description="largest norm of the whole gradient")] = None
    keep: Annotated[
        Literal["best", "last"], Field(description="which epoch's weights to keep; best by validation")
    ] = "best"
    early_stop: EarlyStop | None = None
    gradients: Annotated[Gradients | None, Field(description="round the gradients to few bits")] = None
    checkpoint: Checkpointing = no_effect(
        default=Checkpointing(), description="how often a state to go on from is saved"
    )
