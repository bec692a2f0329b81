"""What a recipe says about weights in few bits, for all layers and for chosen ones. Free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mcomp.config import Config, module_patterns

Bits = Literal[2, 3, 4, 5, 6, 7, 8]
GroupSize = Annotated[int, Field(ge=2)]

# What ONNX Runtime's MatMulNBits takes.
PRODUCT_BITS = (2, 4, 8)
SMALLEST_PRODUCT_GROUP = 16


class WeightSettings(Config):
    """The codes of one weight."""

    bits: Annotated[Bits, Field(description="of each number")] = 4
    group_size: Annotated[
        GroupSize | None, Field(description="neighbours that share a scale; null: a whole row")
    ] = 32
    symmetric: Annotated[
        bool, Field(description="zero in the middle of the codes, not where each group needs it")
    ] = False


class WeightOverride(Config):
    """Other settings for chosen layers; where several choose the same layer, the last one holds."""

    modules: Annotated[str, module_patterns(description="pattern of layers, or of what holds them")]
    bits: Bits | None = None
    group_size: GroupSize | None = None
    symmetric: bool | None = None
    keep_float: bool = False

    @model_validator(mode="after")
    def changes_something(self) -> WeightOverride:
        """Refuse an override without an effect, and one that contradicts itself."""
        changes = self.model_dump(include={"bits", "group_size", "symmetric"}, exclude_none=True)
        if self.keep_float == bool(changes):
            raise ValueError("say either keep_float: true or what is different: bits, group_size, symmetric")
        return self

    def applied(self, old: WeightSettings) -> WeightSettings:
        """Return the settings with what this one says in place of theirs."""
        changes = self.model_dump(include={"bits", "group_size", "symmetric"}, exclude_none=True)
        return old.model_copy(update=changes)


def has_product(settings: WeightSettings) -> bool:
    """Whether ONNX Runtime can unpack such codes inside a product."""
    size = settings.group_size or 0
    return settings.bits in PRODUCT_BITS and size >= SMALLEST_PRODUCT_GROUP and size & (size - 1) == 0
