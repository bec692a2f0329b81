"""The fields of structured pruning that belong to the method. Free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mcomp.config import Config, module_patterns

Importance = Literal["l1", "l2", "fpgm", "bn_scale", "taylor", "obd", "apoz", "random"]
Normalization = Literal["mean", "lamp", "isomorphic", "none"]
Scope = Literal["global", "uniform"]
Quantity = Literal["macs", "params", "channels"]
Unit = Literal["filters", "neurons", "heads", "width"]


class Target(Config):
    """How much to cut: exactly one of the three.

    `macs` and `params` are shares to keep; `ratio` is the share to remove of the output channels that can
    be cut.
    """

    macs: Annotated[float | None, Field(gt=0, lt=1, description="share of multiply-adds to keep")] = None
    params: Annotated[float | None, Field(gt=0, lt=1, description="share of parameters to keep")] = None
    ratio: Annotated[float | None, Field(gt=0, lt=1, description="share of channels to remove")] = None

    @model_validator(mode="after")
    def names_one(self) -> Target:
        """Refuse a target that says nothing or that contradicts itself."""
        given = [name for name in ("macs", "params", "ratio") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of macs, params, ratio, not {' and '.join(given) or 'none'}")
        return self

    @property
    def quantity(self) -> Quantity:
        """What the share is a share of."""
        if self.ratio is not None:
            return "channels"
        return "macs" if self.macs is not None else "params"

    @property
    def keep(self) -> float:
        """The share to keep."""
        share = self.macs if self.macs is not None else self.params
        if share is not None:
            return share
        assert self.ratio is not None
        return 1 - self.ratio


class LayerLimits(Config):
    """What holds for the output channels of some layers in place of the stage's own settings."""

    match: Annotated[str, module_patterns(description="pattern of the paths of these layers")]
    ratio: Annotated[
        float | None, Field(ge=0, lt=1, description="share of channels to remove, not chosen but given")
    ] = None
    max_ratio: Annotated[
        float | None, Field(ge=0, lt=1, description="never remove more than this share of the channels")
    ] = None
    round_to: Annotated[int | None, Field(ge=1, description="keep a multiple of this many channels")] = None
    min_channels: Annotated[int | None, Field(ge=1, description="never keep fewer channels")] = None
