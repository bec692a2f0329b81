"""The fields of structured pruning that belong to the method. Free of torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mcomp.config import Config, module_patterns, shortens_to

Importance = Literal["l1", "l2", "fpgm", "bn_scale", "taylor", "obd", "apoz", "random"]
Normalization = Literal["mean", "lamp", "isomorphic", "none"]
Scope = Literal["global", "uniform"]
Quantity = Literal["macs", "params", "channels"]
Unit = Literal["filters", "neurons", "heads", "width"]


HOW_TIMED = ("batch_size", "threads")


class Goal(Config):
    """Base of the targets: exactly one of their quantities, of which all have the latency."""

    latency_ms: Annotated[
        float | None, Field(gt=0, description="milliseconds of one call in ONNX Runtime, measured here")
    ] = None
    batch_size: Annotated[int, Field(ge=1, description="samples in a call that is timed")] = 1
    threads: Annotated[int, Field(ge=1, description="threads of a call that is timed")] = 1

    @model_validator(mode="after")
    def names_one(self) -> Self:
        """Refuse a target that says nothing or that contradicts itself."""
        own = [name for name in type(self).model_fields if name not in Goal.model_fields]
        choices = [*own, "latency_ms"]
        given = [name for name in choices if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(choices)}, not {' and '.join(given) or 'none'}")
        unused = self.model_fields_set & set(HOW_TIMED)
        if unused and self.latency_ms is None:
            raise ValueError(f"{', '.join(sorted(unused))}: only a latency is timed")
        return self


class Target(Goal):
    """How much to cut: exactly one of the four.

    `macs` and `params` are shares to keep; `ratio` is the share to remove of the output channels that can
    be cut; `latency_ms` is found by trying shares of the multiply-adds.
    """

    macs: Annotated[float | None, Field(gt=0, lt=1, description="share of multiply-adds to keep")] = None
    params: Annotated[float | None, Field(gt=0, lt=1, description="share of parameters to keep")] = None
    ratio: Annotated[float | None, Field(gt=0, lt=1, description="share of channels to remove")] = None

    @property
    def quantity(self) -> Quantity:
        """What the share is a share of."""
        if self.ratio is not None:
            return "channels"
        return "params" if self.params is not None else "macs"

    @property
    def keep(self) -> float:
        """The share to keep."""
        share = self.macs if self.macs is not None else self.params
        if share is not None:
            return share
        assert self.ratio is not None
        return 1 - self.ratio

    def with_share(self, keep: float) -> Target:
        """Return the same target with another share to keep."""
        return Target(ratio=1 - keep) if self.quantity == "channels" else Target(**{self.quantity: keep})


class Schedule(Config):
    """How gradually a target is approached: each step cuts the same share of what is left, then trains."""

    steps: Annotated[int, shortens_to(2, ge=1, le=100, description="cuts, with training after each")] = 1
    epochs: Annotated[
        int | None, shortens_to(1, ge=1, description="epochs between cuts; default: those of recover")
    ] = None


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
