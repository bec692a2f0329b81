"""What a recipe may say about a budget of bits. Free of torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from mcomp.config import Config


class Budget(Config):
    """What the weights may take, or may cost: one of these."""

    mean_bits: Annotated[float | None, Field(ge=2, le=8, description="bits of a weight on average")] = None
    size_bytes: Annotated[int | None, Field(ge=1, description="bytes of the weights, packed")] = None
    bit_operations: Annotated[
        float | None,
        Field(gt=0, le=1, description="multiply-adds times bits of both factors, as a share of all at 8 x 8"),
    ] = None
    accuracy_drop: Annotated[
        float | None,
        Field(gt=0, description="drops of the metric on validation, of single layers, in sum"),
    ] = None

    @model_validator(mode="after")
    def says_one(self) -> Budget:
        """Refuse a budget of none of these, or of several."""
        said = [name for name, value in self if value is not None]
        if len(said) != 1:
            given = f", not {' and '.join(said)}" if said else ""
            raise ValueError(f"must be one of mean_bits, size_bytes, bit_operations and accuracy_drop{given}")
        return self

    @property
    def kind(self) -> str:
        """Which of them it is."""
        return next(name for name, value in self if value is not None)

    @property
    def limit(self) -> float:
        """Its number."""
        return float(next(value for _, value in self if value is not None))
