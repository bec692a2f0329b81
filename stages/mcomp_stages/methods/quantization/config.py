"""What a recipe says about integers: widths and grids, for all layers and for chosen ones. Free of torch.

A stage that quantizes inherits `Scheme` beside `StageConfig` and so has its fields.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mcomp.config import Config, module_patterns
from mcomp_stages.methods.quantization.presets import RUNTIMES, Preset

ActivationBits = Literal[2, 3, 4, 5, 6, 7, 8, 16]
WeightBits = Literal[2, 3, 4, 5, 6, 7, 8]
Per = Literal["tensor", "channel", "group"]
Sums = Literal["int32", "int16"]

GROUP_SIZE = Field(ge=2, description="weights that share a scale, with per: group")


class Activations(Config):
    """The grid of an activation, one for the whole tensor."""

    bits: Annotated[ActivationBits, Field(description="8: what the runtimes have fast operators for")] = 8
    signed: Annotated[bool, Field(description="integers on both sides of zero: what ARM runs fast")] = False
    symmetric: Annotated[
        bool, Field(description="zero in the middle of the grid, or at its end if nothing is negative")
    ] = False


class Weights(Config):
    """The grid of a weight."""

    bits: Annotated[
        WeightBits,
        Field(description="8: what the runtimes have fast operators for; 1 has a stage: quantize.binary"),
    ] = 8
    per: Annotated[Per, Field(description="what has a scale of its own: an output channel")] = "channel"
    group_size: Annotated[int | None, GROUP_SIZE] = None
    symmetric: Annotated[
        bool, Field(description="as many steps below zero as above; else a zero point for each scale")
    ] = True
    sums: Annotated[
        Sums,
        Field(
            description="int16: a grid so coarse that sums of two products fit in 16 bits, for the fast "
            "kernels of processors without VNNI; 7 bits or less fit anyway"
        ),
    ] = "int32"

    @model_validator(mode="after")
    def groups_have_a_size(self) -> Weights:
        """Refuse groups without a size, and a size without groups."""
        if (self.per == "group") != (self.group_size is not None):
            raise ValueError("per: group and group_size: go together")
        return self

    @model_validator(mode="after")
    def short_sums_need_care(self) -> Weights:
        """Refuse `sums: int16` where it would do nothing."""
        if self.sums == "int16" and not self.may_have_short_sums():
            raise ValueError(
                "sums: int16 is for symmetric weights of 8 bits with a scale per channel or tensor; sums of "
                "fewer bits fit anyway"
            )
        return self

    def may_have_short_sums(self) -> bool:
        """Whether sums of products could leave 16 bits, and a coarser grid would help."""
        return self.bits == 8 and self.symmetric and self.per != "group"


class ActivationChange(Config):
    """What is different for the inputs of chosen layers."""

    bits: ActivationBits | None = None
    signed: bool | None = None
    symmetric: bool | None = None

    def applied(self, old: Activations) -> Activations:
        """Return the settings with what this one says in place of theirs."""
        return Activations.model_validate({**old.model_dump(), **self.model_dump(exclude_none=True)})


class WeightChange(Config):
    """What is different for the weights of chosen layers."""

    bits: WeightBits | None = None
    per: Per | None = None
    group_size: Annotated[int | None, GROUP_SIZE] = None
    symmetric: bool | None = None
    sums: Sums | None = None

    @model_validator(mode="after")
    def size_goes_with_groups(self) -> WeightChange:
        """Refuse groups without a size, and a size without groups."""
        if (self.per == "group") != (self.group_size is not None):
            raise ValueError("per: group and group_size: go together")
        return self

    def applied(self, old: Weights) -> Weights:
        """Return the settings with what this one says in place of theirs."""
        change: dict[str, Any] = self.model_dump(exclude_none=True)
        if self.per is not None:
            change["group_size"] = self.group_size
        fields = {**old.model_dump(), **change}
        if self.sums is None and not Weights.model_construct(**fields).may_have_short_sums():
            fields["sums"] = "int32"
        return Weights.model_validate(fields)


class Override(Config):
    """Other settings for chosen layers; where several choose the same layer, the last one holds."""

    modules: Annotated[
        str | None, module_patterns(description="pattern of layers, or of what holds them: layer4.*")
    ] = None
    type: Annotated[str | None, Field(description="the layer's class: Conv2d, Linear")] = None
    layer: Annotated[
        Literal["first", "last"] | None, Field(description="in the order in which the model runs")
    ] = None
    keep_float: bool = False
    weights: WeightChange | None = None
    activations: Annotated[ActivationChange | None, Field(description="of the layer's input")] = None

    @model_validator(mode="after")
    def chooses_and_changes(self) -> Override:
        """Refuse an override that chooses in two ways or in none, and one that changes nothing."""
        chosen = [name for name in ("modules", "type", "layer") if getattr(self, name) is not None]
        if len(chosen) != 1:
            raise ValueError("choose layers by one of modules:, type: and layer:")
        if self.keep_float == (self.weights is not None or self.activations is not None):
            raise ValueError("say either keep_float: true or what is different in weights: and activations:")
        return self

    @property
    def choice(self) -> str:
        """The choice in the words of the recipe."""
        name = next(name for name in ("modules", "type", "layer") if getattr(self, name) is not None)
        return f"{name}: {getattr(self, name)}"


class Scheme(Config):
    """Which layers become integers, and of which kind."""

    preset: Annotated[
        Preset,
        Field(description="the runtime that quantizers are placed for; its grids are the defaults below"),
    ] = "onnxruntime_x86"
    weights: Weights = Weights()
    activations: Activations = Activations()
    keep_float: Annotated[
        tuple[str, ...],
        module_patterns(description="patterns of layers, or of what holds them, that stay in float"),
    ] = ()
    overrides: Annotated[tuple[Override, ...], Field(description="other settings for chosen layers")] = ()

    @model_validator(mode="before")
    @classmethod
    def grids_of_the_preset(cls, fields: Any) -> Any:
        """Take what is not said of the grids from the preset."""
        if not isinstance(fields, dict) or fields.get("preset") not in RUNTIMES:
            return fields
        runtime = RUNTIMES[fields["preset"]]
        given = {name: fields.get(name, {}) for name in runtime.grids}
        merged = {
            name: {**runtime.grids[name], **said} for name, said in given.items() if isinstance(said, dict)
        }
        return {**fields, **merged}

    @model_validator(mode="after")
    def the_runtime_has_these_integers(self) -> Scheme:
        """Refuse grids that the preset's runtime has no operators for."""
        runtime = RUNTIMES[self.preset]
        weights: list[Weights | WeightChange] = [self.weights]
        weights += [each.weights for each in self.overrides if each.weights]
        activations: list[Activations | ActivationChange] = [self.activations]
        activations += [each.activations for each in self.overrides if each.activations]
        lacking = [f"activations of {a.bits} bits" for a in activations if not runtime.has_width(a.bits)]
        if self.weights.sums == "int16" and self.activations.bits > 8:
            raise ValueError(
                "sums: int16 is for products of bytes; activations of 16 bits are multiplied in float"
            )
        lacking += [f"weights with a scale per {w.per}" for w in weights if not runtime.has_scales(w.per)]
        if not runtime.short_sums:
            lacking += [f"sums: {w.sums}" for w in weights if w.sums == "int16"]
        if not runtime.affine_weights and any(w.symmetric is False for w in weights):
            lacking += ["weights with a zero point (symmetric: false)"]
        if lacking:
            raise ValueError(
                f"preset {self.preset}: {runtime.words} has no operators for {lacking[0]}; "
                "choose another preset, or other integers"
            )
        return self
