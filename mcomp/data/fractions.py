"""Which sample is in which split: decided by its name alone, so that a new sample moves no other one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field, model_validator

from mcomp.config import Config
from mcomp.data.contract import SplitName

Share = Annotated[float, Field(gt=0, lt=1, description="the share of the samples")]


class Fractions(Config):
    """The shares of the splits that have no samples of their own; train gets the rest."""

    validation: Share = 0.15
    test: Share = 0.15
    seed: Annotated[int, Field(ge=0, description="another seed gives other splits")] = 0

    @model_validator(mode="after")
    def leaves_train(self) -> Fractions:
        """Refuse shares that leave nothing to train on."""
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must be below 1: train gets the rest")
        return self


def shared_out(
    names: Sequence[str], shares: Mapping[SplitName, float], seed: int
) -> dict[SplitName, list[int]]:
    """Return the positions of the samples of each part in `shares`, and of the rest under "train"."""
    parts: dict[SplitName, list[int]] = {name: [] for name in ("train", *shares)}
    for position, name in enumerate(names):
        parts[part_at(place(name, seed), shares)].append(position)
    return parts


def part_at(place: float, shares: Mapping[SplitName, float]) -> SplitName:
    """Return the part that a place on the line from 0 to 1 belongs to."""
    end = 0.0
    for name, share in shares.items():
        end += share
        if place < end:
            return name
    return "train"


def spread(names: Sequence[str], size: int, seed: int) -> list[int]:
    """Return the positions of at most `size` samples from all over, sorted."""
    order = sorted(range(len(names)), key=lambda position: place(f"calibration {names[position]}", seed))
    return sorted(order[:size])


def place(name: str, seed: int) -> float:
    """Return where on the line from 0 to 1 a name falls."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
